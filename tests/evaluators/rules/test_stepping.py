"""SteppingNet's construction: every promise of the method, on real, small networks."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import nas
from evaluators.rules.permutation import Permuted, channel_groups
from evaluators.rules.stepping import Stepping, SteppingConstruction
from evaluators.training import Training as Trainer
from evaluators.training.schedule import default_learning_rate
from nas.errors import UserError
from nas.evaluation.jobs import Job
from nas.evaluation.training_rules import ConstructingRule, Construction
from nas.execution.layers import activate
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture, macs
from nas.representation.builder import Builder
from nas.representation.elements import Task, TrainingSpec
from nas.representation.ownership import move_filters, owned_groups, with_slices
from nas.representation.wiring import channel_mask
from nas.workers.outcome_checks import checked_outcome
from search_spaces.stepping import lenet_3c1l, vgg16

DATA = "synthetic:n=300,classes=3,size=8,channels=1"
TASK = Task(input_shape=(1, 8, 8), num_classes=3)


def proposal(*, norm: bool = True, **settings: Any) -> Architecture:
    """A residual block, a pooling and a linear layer, causal: three coupling groups."""
    b, after, bias = Builder(TASK), ("norm", "relu") if norm else ("relu",), not norm
    x = b.conv(b.input, (2, 4, 6), wiring="causal", after=after, bias=bias)
    h = b.conv(x, (2, 3, 5), wiring="causal", before=("norm", "relu") if norm else (), bias=bias)
    y = b.conv(h, (2, 4, 6), wiring="causal", after=after[:1] if norm else (), bias=bias)
    b.identity(x, y, wiring="causal")
    p = b.map((2, 4, 6))
    b.add("max_pool", y, p, kernel=2, stride=2, padding=0, wiring="causal")
    z = b.conv(p, (3, 5, 7), kernel=4, padding=0, wiring="causal", after=after, bias=bias)
    b.add("linear", z, b.map(3), bias=True)
    made = b.architecture(3, norm="shared")
    return replace(made, training=TrainingSpec(rule="stepping", settings=tuple(sorted(settings.items()))))


def construction(architecture: Architecture | None = None, *, steps: int = 30, **settings: Any) -> SteppingConstruction:
    generator = torch.Generator().manual_seed(0)
    return Stepping(**settings).construct(architecture or proposal(), steps=steps, generator=generator)


def train(made: SteppingConstruction, steps: range, *, rate: float = 0.05, decay: float = 1e-2) -> None:
    """As the trainer does it, on random images."""
    optimiser, generator = _optimiser(made, rate, decay), torch.Generator().manual_seed(1)
    for step in steps:
        x, y = torch.randn(8, 1, 8, 8, generator=generator), torch.randint(3, (8,), generator=generator)
        made.train()
        optimiser.zero_grad()
        for loss in made.losses(step, x.to(next(made.parameters()).dtype), y, generator):
            loss.backward()
        optimiser.step()
        old = {n: optimiser.state[p].get("momentum_buffer") for n, p in made.named_parameters()}
        carry = made.advance(step, generator)
        if carry is not None:
            optimiser = _optimiser(made, rate, decay)
            for name, parameter in made.named_parameters():
                if old[name] is not None:
                    optimiser.state[parameter]["momentum_buffer"] = carry(name, old[name])


def _optimiser(made: SteppingConstruction, rate: float, decay: float) -> torch.optim.SGD:
    return torch.optim.SGD(made.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=decay)


def owners_of(made: SteppingConstruction) -> list[list[int]]:
    return [owner.tolist() for owner in made._owners()]


def job(folder: Path, architecture: Architecture, **changes: Any) -> Job:
    standard: dict[str, Any] = {"candidate": 1, "seed": 5, "epochs": 4, "until": 4, "images": None}
    return Job(**(standard | {"architecture": architecture.to_json(), "folder": str(folder)} | changes))


@pytest.fixture(scope="module")
def settings() -> Trainer:
    return Trainer(DATA)


# Ownership -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("importance", ["gradient", "magnitude", "random"])
def test_no_live_weight_reads_a_filter_of_a_larger_subnet(norm, importance):
    made = construction(proposal(norm=norm), importance=importance, rounds=7)
    train(made, range(30), rate=0.01)
    topology, owners = made.network.architecture.topology, made._owners()
    group_of = {i: g for g, maps in enumerate(made.groups) for i in maps}
    for index, layer in enumerate(made.network.operation_layers):
        operation = topology.operations[index]
        if layer.weight is None or not {operation.source, operation.target} <= group_of.keys():
            continue
        reads, writes = owners[group_of[operation.source]], owners[group_of[operation.target]]
        backwards = torch.from_numpy(reads[None, :] > writes[:, None])
        assert backwards.any()
        assert not layer.weight[backwards].any()
        assert (channel_mask(topology, index) == ~backwards.numpy()).all()


def test_importance_is_weighed_by_level_and_has_mean_one():
    made = construction(importance="gradient")
    for group in range(len(made.groups)):
        known = made._importance(group)
        known.copy_(torch.arange(known.numel()).reshape(known.shape).float() + group)
        expected = sum(0.5**level * known[level] for level in range(made.levels)).double().numpy()
        scores = made._scores(torch.Generator())[group]
        np.testing.assert_allclose(scores, expected / expected.mean(), rtol=1e-6)


def test_the_least_important_filters_go_first():
    made = construction(importance="gradient")
    rng = np.random.default_rng(0)
    for group in range(len(made.groups)):
        known = made._importance(group)
        known.copy_(torch.from_numpy(rng.random(known.shape)))
    scores, before = made._scores(torch.Generator()), made._owners()
    owners = move_filters(before, scores, [0.6 * cost for cost in made.start.costs], made.macs)
    moved = [after > owner for after, owner in zip(owners, before)]
    assert any(m.any() for m in moved)
    for level in range(made.levels):  # of what a level had, across groups: what went is below what stayed, but for
        for score, owner, gone in zip(scores, before, moved):  # a level's last filter
            here = owner == level
            if gone[here].any() and not gone[here].all():
                assert score[here & gone].max() <= score[here & ~gone].min()


def test_half_of_what_is_known_is_remembered_after_a_round():
    made = construction(steps=30, rounds=3)
    generator = torch.Generator().manual_seed(1)
    for group in range(len(made.groups)):
        made._importance(group).fill_(8.0)
    step = next(s for s in range(30) if made._round(s + 1) != made._round(s))
    assert made.advance(step, generator) is not None
    for group in range(len(made.groups)):
        assert set(made._importance(group).unique().tolist()) == {4.0}


def test_what_is_constructed_is_refined_step_by_step_at_what_it_costs():
    """The executor with cached activations, with pruned weights: answers, and MACs as torch counts them."""
    made = construction(prune=0.05)
    train(made, range(30))
    network = made.network.eval()
    assert any(mask.any() for mask in made._pruned().values())
    x, steps = torch.randn(4, 1, 8, 8), network.refine(torch.randn(4, 1, 8, 8))
    assert sum(network.refine_macs) == network.macs[-1]
    for level, logits in enumerate(network.refine(x)):
        torch.testing.assert_close(logits, network.extract(level)(x), rtol=1e-4, atol=1e-5)
    for level in range(network.levels):
        with FlopCounterMode(display=False) as counter:
            next(steps)
        assert counter.get_total_flops() == 2 * 4 * network.refine_macs[level]


def test_every_subnet_alone_answers_as_in_the_causal_pass():
    made = construction()
    train(made, range(30))
    x = torch.randn(5, 1, 8, 8)
    for training in (True, False):
        made.network.train(training)
        with torch.no_grad():
            together = made.network.forward_all(x)
            for level, logits in enumerate(together):
                torch.testing.assert_close(made.network(x, level), logits)
    for level, logits in enumerate(together):
        torch.testing.assert_close(made.network.extract(level)(x), logits)


def test_the_macs_of_the_first_subnet_and_the_increments_are_those_of_the_last():
    """Increments counted from the wiring: what a level's own filters read, and what the classifier reads of them."""
    made = construction()
    train(made, range(30))
    architecture = made.network.architecture
    topology, points = architecture.topology, architecture.points
    increments = []
    for level, point in enumerate(points):
        total = 0
        before = topology.active(points[level - 1]) if level else [0] * len(topology.maps)
        now = topology.active(point)
        for index, operation in enumerate(topology.operations):
            mask, each = channel_mask(topology, index), topology.macs_per_pair[index]
            if operation.target == point.output:
                total += each * mask[:, before[operation.source] : now[operation.source]].sum()
            else:
                rows = mask[before[operation.target] : now[operation.target], : now[operation.source]]
                total += each * rows.sum()
        increments.append(total)
    assert increments[0] == macs(architecture)[0]
    assert np.cumsum(increments).tolist() == list(macs(architecture))


@pytest.mark.parametrize("settings_", [{}, {"original": "4-4-9"}, {"expansion": 1.0}, {"expansion": 3.0}], ids=str)
def test_budgets_hold_at_the_end_of_construction(settings_):
    """Until then the smallest subnet shrinks; larger ones also read more for filters that have come to them."""
    made, costs = construction(rounds=6, **settings_), []
    for step in range(30):
        train(made, range(step, step + 1))
        costs.append(macs(made.network.architecture))
    budgets = macs(proposal())
    assert all(cost <= budget for cost, budget in zip(costs[-1], budgets))
    assert costs[9] == costs[-1]
    assert all(after[0] <= before[0] for before, after in pairwise(costs))
    assert len(set(costs[:10])) > 1


def test_all_filters_start_in_the_first_subnet_but_one_for_each_of_the_others():
    made = construction(expansion=2.0)
    assert owners_of(made) == [[0] * 10 + [1, 2], [0] * 8 + [1, 2], [0] * 12 + [1, 2]]
    assert [len(owner) for owner in owners_of(construction(original="5-9-20", expansion=1.4))] == [7, 13, 28]


def test_ownership_never_decreases():
    """Filters are told apart by a bias that training cannot change: it has no gradient."""
    made = construction(rounds=10)
    topology, names = made.network.architecture.topology, [f"layers.{o}.after.bias" for o in (0, 5)]
    assert len(topology.operations) == 7
    seen: dict[tuple[str, float], int] = {}
    parameters = dict(made.network.named_parameters())
    with torch.no_grad():
        for name in names:
            parameters[name].copy_(torch.arange(1, parameters[name].shape[1] + 1))
    groups_of = channel_groups(topology, made.groups)
    for step in range(12):
        train(made, range(step, step + 1), rate=0.0, decay=0.0)
        parameters, owners = dict(made.network.named_parameters()), made._owners()
        for name in names:
            for mark, owner in zip(parameters[name][0].tolist(), owners[groups_of[name][1]].tolist()):
                assert owner >= seen.get((name, mark), 0)
                seen[name, mark] = owner
    assert set(seen.values()) == {0, 1, 2}


def test_every_subnet_keeps_a_filter_of_every_layer():
    made = construction(rounds=3)
    train(made, range(30))
    assert all(set(owner) == {0, 1, 2} for owner in owners_of(made))


# Permutation ---------------------------------------------------------------------------------------------------------


def masked(network: AnytimeNetwork, owners: dict[int, np.ndarray], x: torch.Tensor, level: int) -> torch.Tensor:
    """The network unpermuted: every weight between two filters masked by their new owners, at full width."""
    topology, values = network.architecture.topology, {0: x}
    for index, feature_map in enumerate(topology.maps[1:], start=1):
        total: Any = 0
        for o in topology.incoming[index]:
            operation, layer = topology.operations[o], network.operation_layers[o]
            value, weight = values[operation.source], layer.weight
            reads = torch.from_numpy(owners.get(operation.source, np.zeros(value.shape[1])))
            writes = torch.from_numpy(owners.get(operation.target, np.full(feature_map.channels, network.levels)))
            for step in operation.before:
                value = _normed(layer.before, value) if step == "norm" else activate(value, step)
            value = value * (reads <= level).reshape(1, -1, *(1 for _ in value.shape[2:]))
            if weight is not None:
                live = reads[None, :] <= writes[:, None]
                weight = weight * live.reshape(*live.shape, *(1 for _ in weight.shape[2:]))
            value = layer.kind.apply(operation, value, weight, layer.bias, 1)
            for step in operation.after:
                value = _normed(layer.after, value) if step == "norm" else activate(value, step)
            total = total + value
        values[index] = activate(total, feature_map.activation)
    return values[network.architecture.points[0].output].flatten(1)


def _normed(norm: Any, x: torch.Tensor) -> torch.Tensor:
    return F.batch_norm(x, norm.mean[0], norm.var[0], norm.weight[0], norm.bias[0], False, 0.0, 1e-5)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_the_permuted_network_is_the_unpermuted_one(norm, seed):
    made, rng = construction(proposal(norm=norm)), np.random.default_rng(seed)
    train(made, range(6))
    network = made.network.double().eval()
    moved = [np.minimum(owner + rng.integers(0, 3, len(owner)), 3) for owner in made._owners()]
    for owner in moved:
        owner[rng.choice(len(owner), 3, replace=False)] = range(3)
    permuted = Permuted(network, made.groups, _never_back(made._owners(), moved))
    owners = {i: o for maps, o in zip(made.groups, _never_back(made._owners(), moved)) for i in maps}
    x = torch.randn(4, 1, 8, 8, dtype=torch.float64)
    permuted.network.eval()
    with torch.no_grad():
        for level in range(3):
            expected = masked(network, owners, x, level)
            torch.testing.assert_close(permuted.network(x, level), expected, rtol=1e-12, atol=1e-12)


def _never_back(before: list[np.ndarray], after: list[np.ndarray]) -> list[np.ndarray]:
    """Owners that do not decrease, each subnet with a filter: the last three filters are those of the three."""
    return [np.concatenate([np.maximum(a, b)[:-3], [0, 1, 2]]) for a, b in zip(before, after)]


def test_opened_and_closed_weights_are_zero_and_others_stay():
    made = construction()
    train(made, range(5))
    network, owners = made.network, made._owners()
    moved = [owner.copy() for owner in owners]
    moved[0][0] = 1  # closes what the first layer's filter feeds in the smallest subnet
    moved[1][0] = 2  # opens what the second layer's filter may read now
    permuted = Permuted(network, made.groups, moved)
    index = 1  # from the first group to the second
    old, new = network.operation_layers[index].weight, permuted.network.operation_layers[index].weight
    rows, columns = (np.argsort(moved[g], kind="stable") for g in (1, 0))
    pairs = [(moved[0][i] <= moved[1][o], owners[0][i] <= owners[1][o]) for o in rows for i in columns]
    assert (True, False) in pairs
    assert (False, True) in pairs
    live = torch.tensor([now and before for now, before in pairs]).reshape(len(rows), len(columns), 1, 1)
    assert torch.equal(new, old.detach()[rows][:, columns] * live)
    assert torch.equal(permuted.carry("layers.1.weight", torch.ones_like(old)), live.float().expand_as(old))


# Gradients -----------------------------------------------------------------------------------------------------------


def gradients(made: SteppingConstruction, level: int) -> dict[str, torch.Tensor]:
    """The gradients of a level's loss as they are."""
    x, y = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(2)), torch.arange(6) % 3
    made.network.zero_grad()
    F.cross_entropy(made.network(x, level), y).backward()
    found = {n: p.grad.clone() for n, p in made.network.named_parameters() if p.grad is not None}
    made.network.zero_grad()
    return found


def test_the_loss_of_a_subnet_has_no_gradient_on_larger_ones():
    made = construction()
    train(made, range(30))
    for level in range(3):
        for name, gradient in gradients(made, level).items():
            axis, group = made._owned[name]
            if group is not None:
                later = made._owners()[group] > level
                assert not gradient.movedim(axis, 0)[torch.from_numpy(later)].any()


@pytest.mark.parametrize("step", [0, 25])
def test_a_suppressed_gradient_is_the_raw_one_times_a_power_of_beta(step):
    made = construction(gamma=1.0, beta=0.7, prune=0.0)
    train(made, range(step))
    raw = [gradients(made, level) for level in range(3)]
    x, y = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(2)), torch.arange(6) % 3
    for loss in made.losses(step, x, y, torch.Generator()):
        loss.backward()
    for name, parameter in made.network.named_parameters():
        axis, group = made._owned[name]
        owner = torch.zeros(1) if group is None else torch.from_numpy(made._owners()[group])
        expected = 0
        for level in range(3):
            factor = 0.7 ** (level - owner).clamp(min=0)
            gradient = raw[level].get(name, torch.zeros_like(parameter))
            expected = expected + (gradient.movedim(axis, -1) * factor).movedim(-1, axis)
        torch.testing.assert_close(parameter.grad, expected)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize(("group", "writers"), [(0, (0, 2)), (1, (1,)), (2, (5,))])
def test_importance_is_the_gradient_of_a_gate(norm, group, writers):
    """Against autograd through one gate on the outputs of all the layers that write a group."""
    made = construction(proposal(norm=norm), gamma=1.0)
    x, y = torch.randn(6, 1, 8, 8), torch.arange(6) % 3
    for loss in made.losses(0, x, y, torch.Generator()):
        loss.backward()
    known = made.get_buffer(f"importance_{group}")
    gate = torch.ones(known.shape[1], requires_grad=True)
    for index in writers:
        layer = made.network.operation_layers[index]
        layer.forward = _gated(layer.forward, gate)
    for level in range(3):
        (gradient,) = torch.autograd.grad(F.cross_entropy(made.network(x, level), y), gate)
        torch.testing.assert_close(known[level], gradient.abs(), rtol=1e-3, atol=1e-6)


def _gated(forward, gate):
    return lambda value, route, mode: forward(value, route, mode) * gate[: route.target.count, None, None]


def test_pruned_weights_stay_zero_through_momentum_and_decay():
    made = construction(prune=0.02)
    train(made, range(10))
    pruned = made._pruned()
    assert sum(int(mask.sum()) for mask in pruned.values()) > 10
    before = {name: mask.clone() for name, mask in pruned.items()}
    train(made, range(10, 30), rate=0.1, decay=0.1)
    parameters = dict(made.network.named_parameters())
    for name, mask in before.items():
        assert torch.equal(made._pruned()[name], mask)
        assert not parameters[name][mask].any()
        assert parameters[name][~mask].any()


def test_momentum_of_pruned_weights_is_forgotten():
    made = construction(prune=0.05)
    train(made, range(9))
    old = {name: torch.ones_like(parameter) for name, parameter in made.named_parameters()}
    carry = made.advance(9, torch.Generator())
    assert carry is not None
    for name, parameter in made.named_parameters():
        carried = carry(name, old[name])
        assert carried.shape == parameter.shape
        mask = made._pruned().get(name.removeprefix("network."))
        if mask is not None and name.startswith("network."):
            assert mask.any()
            assert not carried[mask].any()


# Retraining ----------------------------------------------------------------------------------------------------------


def test_subnets_learn_from_the_labels_and_the_original_network():
    made = construction(gamma=0.3, original="5-4-6")
    assert macs(made.teacher.architecture) == macs(with_slices(proposal(), [(5,), (4,), (6,)]))
    x, y = torch.randn(6, 1, 8, 8), torch.arange(6) % 3
    for step, share in ((0, 1.0), (29, 0.3)):
        losses = []
        for loss in made.losses(step, x, y, torch.Generator()):
            losses.append(loss.detach())
            loss.backward()
        answers = made.teacher(x).softmax(1)
        torch.testing.assert_close(losses[0], F.cross_entropy(made.teacher(x), y))
        for loss, level in zip(losses[1:], (2, 1, 0)):
            logits = made.network(x, level)
            divergence = (answers * (answers.log() - logits.log_softmax(1))).sum(1).mean()
            torch.testing.assert_close(loss, share * F.cross_entropy(logits, y) + (1 - share) * divergence)


def test_labels_alone_need_no_original_network():
    made = construction(gamma=1)
    assert made.teacher is None
    x, y = torch.randn(6, 1, 8, 8), torch.arange(6) % 3
    assert len(list(made.losses(29, x, y, torch.Generator()))) == 3


# In the trainer ------------------------------------------------------------------------------------------------------


def test_it_is_a_constructing_rule():
    assert isinstance(Stepping(), ConstructingRule)
    made: Construction = construction()
    assert made.network.levels == 3


def test_what_is_saved_is_the_realised_network_with_the_accuracies_that_are_told(settings, tmp_path):
    wanted = job(tmp_path, proposal(), test=True)
    outcome = checked_outcome(wanted, settings.evaluate(wanted, lambda epoch: None), settings.measures)
    network = nas.load(tmp_path)
    assert network.architecture.to_json() == outcome.realised != wanted.architecture
    assert [p["macs"] for p in outcome.points] == list(network.macs)
    assert all(cost <= budget for cost, budget in zip(network.macs, macs(proposal())))
    x = network.preprocess(torch.from_numpy(settings.dataset.x_test))
    for point in outcome.points:
        answers = network(x, point["level"]).argmax(1).numpy()
        assert np.mean(answers == settings.dataset.y_test) == pytest.approx(point["test_accuracy"])
    assert [p["nonzero_macs"] for p in outcome.points] == list(network.nonzero_macs)
    assert Architecture.from_json(json.loads(json.dumps(outcome.realised))) == network.architecture


@pytest.mark.parametrize(("prune", "pruned"), [(0.05, True), (0.0, False)])
def test_what_is_pruned_is_told_in_macs(settings, tmp_path, prune, pruned):
    outcome = settings.evaluate(job(tmp_path, proposal(prune=prune)), lambda epoch: None)
    for point in outcome.points:
        assert (point["nonzero_macs"] < point["macs"]) == pruned
    assert pruned or [p["nonzero_macs"] for p in outcome.points] == [p["macs"] for p in outcome.points]


def test_a_classifier_that_reads_positions_one_by_one_learns_at_a_lower_rate():
    """At the full rate, LeNet-3C1L on CIFAR-10 pushes its last features below zero in an epoch, and guesses."""
    assert default_learning_rate(64, vgg16()) == pytest.approx(0.2)
    assert default_learning_rate(64, lenet_3c1l()) == pytest.approx(0.2 / 5)  # 5x5 positions
    assert default_learning_rate(64, lenet_3c1l(norm=False)) == pytest.approx(0.2 / 5 / 4)


def test_a_network_without_norms_learns_by_default_settings(tmp_path):
    """At the rate of networks with norms most activations would be zero for good: the smallest point guesses."""
    digits = Task(input_shape=(1, 8, 8), num_classes=10)
    made = lenet_3c1l(12, task=digits, padded=True, norm=False)
    outcome = Trainer("digits").evaluate(job(tmp_path, made, epochs=4, until=4, test=True), lambda epoch: None)
    assert min(point["test_accuracy"] for point in outcome.points) > 0.6


@pytest.mark.parametrize("until", [1, 2, 3])
def test_a_rung_in_the_midst_of_construction_is_within_the_budgets(settings, tmp_path, until):
    architecture = proposal(construction=0.9)
    outcome = settings.evaluate(job(tmp_path, architecture, until=until), lambda epoch: None)
    realised = Architecture.from_json(outcome.realised)
    assert realised != architecture
    assert all(cost <= budget for cost, budget in zip(macs(realised), macs(architecture)))
    assert [p["macs"] for p in outcome.points] == list(macs(realised))


def test_measuring_a_rung_changes_nothing(settings, tmp_path):
    one = settings.start(job(tmp_path / "1", proposal(construction=0.9)))
    one.train_epoch(0)
    state = {name: tensor.clone() for name, tensor in one.state.state_dict().items()}
    architecture = one.network.architecture
    one.current_network()
    assert one.network.architecture is architecture
    assert all(torch.equal(state[name], tensor) for name, tensor in one.state.state_dict().items())


def test_a_checkpoint_without_a_tensor_is_not_used(settings, tmp_path):
    wanted = job(tmp_path / "damaged", proposal(), until=2)
    settings.evaluate(replace(wanted, until=1), lambda epoch: None)
    path = tmp_path / "damaged" / settings.checkpoint
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    del tensors["network.importance_1"]
    save_file(tensors, path, metadata=metadata)
    told: list[int] = []
    outcome = settings.evaluate(wanted, told.append)
    assert told == [1, 2]
    assert outcome.points == settings.evaluate(job(tmp_path / "fresh", proposal(), until=2), told.append).points


# Settings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"original": "3,4"}, "original must be numbers of filters"),
        ({"original": "3-0"}, "such as 32-32-32. Got '3-0'"),
        ({"expansion": 0.5}, "expansion must be a number, at least 1"),
        ({"construction": 1.0}, "construction must be a share"),
        ({"rounds": 0}, "rounds must be a whole number"),
        ({"rounds": True}, "rounds must be a whole number"),
        ({"importance": "size"}, "Unknown importance 'size'"),
        ({"prune": -1}, "prune must be a number, at least 0"),
        ({"beta": 1.5}, "beta must be a number between 0 and 1"),
        ({"gamma": "none"}, "gamma must be a number between 0 and 1"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense(changes, said):
    with pytest.raises(UserError, match=said):
        Stepping(**changes)


def test_networks_that_cannot_be_constructed():
    with pytest.raises(UserError, match=r"filters of 3 layers, such as 6-5-7\. Got 3-4"):
        construction(original="3-4")
    with pytest.raises(UserError, match=r"share their norms\. Got norm='recalibrated'"):
        construction(replace(proposal(), norm="recalibrated"))


def test_one_level_is_a_network_of_less_width():
    made = construction(with_slices(proposal(), [(6,), (5,), (7,)]), gamma=1.0)
    train(made, range(30))
    assert macs(made.network.architecture)[0] <= macs(with_slices(proposal(), [(6,), (5,), (7,)]))[0]
    assert owned_groups(made.network.architecture) == made.groups


def test_fewer_steps_than_rounds_still_meet_the_budgets():
    made = construction(steps=3, rounds=20)
    train(made, range(3))
    assert all(cost <= budget for cost, budget in zip(macs(made.network.architecture), macs(proposal())))
