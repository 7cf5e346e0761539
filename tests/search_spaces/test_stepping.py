"""SteppingNet's networks: the layers of its experiments, within their budgets, at any number of points and size."""

from __future__ import annotations

import numpy as np
import pytest

from nas.errors import InvalidArchitecture, UserError
from nas.representation.architecture import Architecture, macs
from nas.representation.elements import Task
from nas.representation.ownership import OwnershipMacs, move_filters, owned_groups, with_slices
from nas.representation.reuse import stable_maps
from search_spaces.stepping import BUDGETS, any_width, lenet5, lenet_3c1l, spread_budgets, vgg16

DIGITS = Task(input_shape=(1, 8, 8), num_classes=10)
FASHION = Task(input_shape=(1, 28, 28), num_classes=10)
ORIGINAL_MACS = {
    # convolutions by output positions, window, filters read and written; then the classifier
    "lenet_3c1l": 30**2 * 9 * 3 * 32 + 28**2 * 9 * 32**2 + 10**2 * 25 * 32**2 + 25 * 32 * 10,
    "lenet5": 28**2 * 25 * 3 * 6 + 10**2 * 25 * 6 * 16 + 25 * 16 * 120 + 120 * 84 + 84 * 10,
    "vgg16": 313_201_664 + 2 * 512**2,
}
"""VGG-16 on 32×32 images with only a linear classifier, as often used on CIFAR; two hidden layers of 512."""
MAKE = {"lenet_3c1l": lenet_3c1l, "lenet5": lenet5, "vgg16": vgg16}


def original(architecture: Architecture) -> Architecture:
    """The original network, from the settings of the proposal."""
    widths = str(dict(architecture.training.settings)["original"]).split("-")
    return with_slices(architecture, [(int(n),) for n in widths])


@pytest.mark.parametrize("name", MAKE)
def test_the_original_network_is_the_one_known(name):
    assert macs(original(MAKE[name]())) == (ORIGINAL_MACS[name],)


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("norm", [True, False])
def test_points_are_within_their_budgets_and_near(name, norm):
    architecture = MAKE[name](norm=norm)
    for cost, budget in zip(macs(architecture), BUDGETS):
        assert 0.8 * budget * ORIGINAL_MACS[name] < cost <= budget * ORIGINAL_MACS[name]
    assert architecture.canonical == architecture
    assert architecture.norm == "shared"
    assert architecture.training.rule == "stepping"
    assert dict(architecture.training.settings)["expansion"] == 1.8


def test_filters_are_split_evenly():
    architecture = lenet_3c1l()
    slices = [architecture.topology.maps[group[0]].slices for group in owned_groups(architecture)]
    for level in zip(*slices):  # a layer has a filter more or less where this uses more of a budget
        assert max(level) - min(level) <= 2


@pytest.mark.parametrize("architecture", [lenet_3c1l(32), vgg16(8)], ids=["3c1l", "vgg"])
def test_budgets_are_used(architecture):
    """By the proposal, and after random moves of filters in twenty rounds, as in a construction."""
    full = macs(original(architecture))[0]
    budgets, cost, levels = np.array(BUDGETS) * full, OwnershipMacs(architecture), len(BUDGETS)
    proposed = np.array(architecture.costs)
    assert ((proposed > 0.97 * budgets) & (proposed <= budgets)).all()
    groups, rng = owned_groups(architecture), np.random.default_rng(0)
    widths = [round(1.8 * original(architecture).topology.maps[maps[0]].channels) for maps in groups]
    owners = [np.r_[np.zeros(width - levels + 1, int), np.arange(1, levels)] for width in widths]
    start = cost(np.array([np.bincount(owner, minlength=levels) for owner in owners]))
    for share in np.arange(1, 21) / 20:
        allowed = np.maximum(proposed, start * (proposed / start) ** share)
        owners = move_filters(owners, [rng.random(len(owner)) for owner in owners], allowed, cost)
        owners = [owner[owner < levels] for owner in owners]
    built = cost(np.array([np.bincount(owner, minlength=levels) for owner in owners]))
    assert ((built > 0.97 * budgets) & (built <= budgets)).all()


@pytest.mark.parametrize(
    "architecture", [lenet_3c1l(), lenet5(12), vgg16(8), any_width()], ids=["3c1l", "5", "vgg", "awn"]
)
def test_every_point_reuses_the_smaller_ones(architecture):
    output = architecture.points[0].output
    for shared in stable_maps(architecture):
        assert shared >= set(range(len(architecture.topology.maps))) - {output}


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("points", [1, 2, 3, 6])
def test_any_number_of_points(name, points):
    budgets = spread_budgets(points, 0.1, 0.85)
    architecture = MAKE[name](24, task=FASHION, budgets=budgets)
    assert len(architecture.points) == points
    assert all(cost <= budget * macs(original(architecture))[0] for cost, budget in zip(macs(architecture), budgets))


@pytest.mark.parametrize("make", [lenet_3c1l, lenet5])
def test_images_too_small_are_refused_unless_padded(make):
    with pytest.raises(InvalidArchitecture, match="kernel"):
        make(12, task=DIGITS)
    assert len(make(12, task=DIGITS, padded=True).points) == 4


def test_more_points_than_filters_are_refused():
    with pytest.raises(InvalidArchitecture, match="ask for fewer points"):
        lenet5(6, budgets=spread_budgets(8, 0.1, 0.85))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expansion": 0.9}, "expansion must be finite and at least 1"),
        ({"budgets": ()}, "budgets must be positive shares"),
        ({"budgets": (0.3, 0.3)}, "ascending"),
        ({"budgets": (0.0, 0.3)}, "positive"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense(changes, message):
    with pytest.raises(UserError, match=message):
        lenet_3c1l(**changes)


@pytest.mark.parametrize("base", MAKE)
def test_an_any_width_network_has_uniform_slices_within_the_largest_budget(base):
    architecture = any_width(base, 32)
    for group in owned_groups(architecture):
        slices = architecture.topology.maps[group[0]].slices
        assert all(abs(n - slices[-1] * (k + 1) / 4) <= 0.75 for k, n in enumerate(slices))
    limit = 0.85 * macs(original(MAKE[base](32)))[0]
    assert 0.9 * limit < macs(architecture)[-1] <= limit
    assert architecture.training.rule == "sandwich"


def test_any_width_networks_that_cannot_be():
    with pytest.raises(UserError, match="Unknown base network 'lenet'"):
        any_width("lenet")
    with pytest.raises(InvalidArchitecture, match="widen the network"):
        any_width(width=2)
    for budgets in ((), (0.8, 0.1)):
        with pytest.raises(UserError, match="budgets must be positive shares"):
            any_width(budgets=budgets)
    with pytest.raises(UserError, match="expansion must be finite"):
        lenet_3c1l(expansion=float("inf"))
