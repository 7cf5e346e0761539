"""Labels and probabilities of a hierarchy, from fine to coarse; which labels a level of a network answers in."""

from __future__ import annotations

import pytest
import torch

from nas.errors import InvalidArchitecture
from nas.execution.labels import join_labels, join_probabilities
from nas.execution.network import AnytimeNetwork
from nas.representation.builder import Builder
from nas.representation.elements import Task

TASK = Task(input_shape=(1, 8, 8), num_classes=6, hierarchy=((0, 1, 2, 3, 3, 0), (0, 1, 1, 1, 1, 0)))


def test_labels_are_joined_one_by_one() -> None:
    labels = torch.tensor([5, 0, 4, 2, 1])
    assert join_labels(TASK, labels, 0) is labels
    assert join_labels(TASK, labels, 1).tolist() == [0, 0, 3, 2, 1]
    assert join_labels(TASK, labels, 2).tolist() == [0, 0, 1, 1, 1]
    assert join_labels(TASK, torch.arange(4), 2, finer=1).tolist() == [0, 1, 1, 1]


def test_probabilities_of_joined_labels_add_up_and_do_not_underflow() -> None:
    logits = torch.randn(7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits[0] = torch.tensor([0.0, -2000, -3000, -3001, -3002, 0])
    fine = logits.log_softmax(1)
    for labelling in (1, 2):
        found, p = join_probabilities(TASK, fine, labelling), fine.exp()
        labels = TASK.hierarchy[labelling - 1]
        added = torch.stack([sum(p[:, i] for i in range(6) if labels[i] == k) for k in range(max(labels) + 1)], dim=1)
        torch.testing.assert_close(found.exp(), added)
        assert found.isfinite().all()
    torch.testing.assert_close(join_probabilities(TASK, join_probabilities(TASK, fine, 1), 2), found)


def _network(points: int = 4) -> AnytimeNetwork:
    builder = Builder(TASK)
    builder.head(builder.conv(builder.input, tuple(range(2, 2 * points + 1, 2)), after=("norm", "relu")))
    return AnytimeNetwork(builder.architecture(points))


def test_small_points_answer_coarsely_and_large_ones_finely() -> None:
    network, labels = _network(), torch.arange(6)
    x = torch.randn(6, 1, 8, 8)
    assert [network.architecture.labelling(point) for point in network.architecture.points] == [2, 1, 0, 0]
    expected = ((2, TASK.hierarchy[1]), (4, TASK.hierarchy[0]), (6, range(6)), (6, range(6)))
    for level, (logits, (count, wanted)) in enumerate(zip(network.forward_all(x), expected)):
        assert logits.shape == network(x, level).shape == (6, count)
        assert network.labels(labels, level).tolist() == list(wanted)
        assert network.labels(labels, network.architecture.points[level]).tolist() == list(wanted)
    assert network.labels(labels) is labels


def test_nothing_finer_can_be_learned_from_coarse_labels() -> None:
    network = _network()
    coarse = network(torch.randn(3, 1, 8, 8), 0).log_softmax(1)
    assert torch.equal(network.soft_labels(coarse, 0), coarse)
    with pytest.raises(InvalidArchitecture, match="Only labels of a finer labelling can be joined"):
        network.soft_labels(coarse, 3)


@pytest.mark.parametrize(("points", "wanted"), [(1, [0]), (2, [1, 0]), (3, [2, 1, 0]), (6, [2, 2, 1, 1, 0, 0])])
def test_a_network_comes_back_from_json_with_its_labels(points: int, wanted: list[int]) -> None:
    made = _network(points).architecture
    back = type(made).from_json(made.to_json())
    assert back == made
    assert back.key == made.key
    assert [back.labelling(point) for point in back.points] == wanted
    assert made.canonical is made  # classifiers that no point reads are gone


def test_a_head_has_a_classifier_for_every_labelling_and_no_more() -> None:
    builder = Builder(TASK)
    output = builder.head(builder.conv(builder.input, (2, 4)))
    found = {builder.topology().maps[builder.point(1, output=output, labelling=k).output].channels for k in range(3)}
    assert found == {6, 4, 2}
    with pytest.raises(InvalidArchitecture, match=r"The task has 3 labellings\. Got labelling=3"):
        builder.point(1, output=output, labelling=3)
    flat = Builder(Task(input_shape=(1, 8, 8), num_classes=6))
    flat.head(flat.conv(flat.input, (2, 4)))
    assert len(flat.topology().operations) == 3
