"""The chain score and the sizes on small networks with known values, and the contract of proxies."""

import math

import pytest

from nas.chain.scores import log_walk_weights
from nas.errors import PluginError
from nas.plugins import trust
from nas.proxies.contract import evaluate, load_proxy, proxy
from nas.proxies.dtmc import walk_weights
from nas.proxies.sizes import count, depth, macs, params
from nas.representation.architecture import macs as macs_of
from nas.representation.architecture import params as params_of
from nas.representation.builder import Builder
from nas.representation.elements import Task

TASK = Task(input_shape=(3, 8, 8), num_classes=10)
NAMES = ("dtmc", "walk_weights", "macs", "params", "depth", "count")


def stack(blocks, *, parallel=0, levels=2, skips=True):
    """Residual blocks of two convolutions, with ``parallel`` convolutions 1×1 beside each."""
    builder, widths = Builder(TASK), (4, 8, 12, 16)[:levels]
    x = builder.conv(builder.input, widths)
    for _ in range(blocks):
        out = builder.conv(builder.conv(x, widths), widths)
        if skips:
            builder.identity(x, out)
        for _ in range(parallel):
            builder.add("conv", x, out, kernel=1)
        x = out
    builder.head(x)
    return builder.architecture(levels)


def test_values_on_a_residual_stack():
    architecture = stack(3, parallel=1)
    walked = [9 * 3 * w + 3 * (2 * 9 * w**2 + w**2) / 3 + 10 * w for w in (4, 8)]  # a third of the walks each way
    assert walk_weights(architecture) == pytest.approx((math.log(walked[0]) + math.log(walked[1])) / 2)
    assert depth(architecture) == 8
    assert count(architecture) == 11
    for size, costs in ((macs, macs_of(architecture)), (params, params_of(architecture))):
        assert size(architecture) == pytest.approx((math.log(costs[0]) + math.log(costs[1])) / 2)


def test_levels_are_averaged():
    builder = Builder(TASK)
    x = builder.conv(builder.input, (4, 8))
    y = builder.conv(x, (4, 8))
    builder.add("conv", x, y, kernel=1, optional=True)
    builder.head(y)
    architecture = builder.architecture([builder.point(0, without=(2,)), builder.point(1)])
    alone, beside = 27 * 4 + 9 * 4 * 4 + 10 * 4, 27 * 8 + (9 * 8 * 8 + 8 * 8) / 2 + 10 * 8
    assert log_walk_weights(architecture) == pytest.approx((math.log(alone), math.log(beside)))
    assert walk_weights(architecture) == pytest.approx((math.log(alone) + math.log(beside)) / 2)
    assert count(architecture) == 3.5
    assert depth(architecture) == 3


@pytest.mark.parametrize("name", ["macs", "params", "count"])
def test_grows_with_added_learned_branches(name):
    score_of = load_proxy(name)
    scores = [score_of(stack(3, parallel=n)) for n in range(4)]
    assert scores == sorted(set(scores))


@pytest.mark.parametrize("name", NAMES)
def test_grows_with_added_blocks(name):
    score_of = load_proxy(name)
    scores = [score_of(stack(n)) for n in range(1, 5)]
    assert scores == sorted(set(scores))


def test_skips_change_the_score_of_the_chain_only():
    """Walks take them past learned operations."""
    plain, residual = stack(4, skips=False), stack(4)
    assert walk_weights(residual) < walk_weights(plain)
    for size in (macs, params, depth, count):
        assert size(residual) == size(plain)


def test_no_learned_operation_scores_zero():
    builder = Builder(Task(input_shape=(10, 4, 4), num_classes=10))
    builder.add("global_avg_pool", builder.input, builder.map(10))
    architecture = builder.architecture(1)
    assert evaluate(architecture, {name: load_proxy(name) for name in NAMES}) == dict.fromkeys(NAMES, 0.0)


def test_canonical_form_does_not_matter():
    architecture = stack(3, parallel=2, levels=4)
    smaller = architecture.with_points(architecture.points[:2])
    for name in NAMES:
        assert load_proxy(name)(smaller) == load_proxy(name)(smaller.canonical)


@pytest.mark.parametrize("name", NAMES)
def test_entry_points_are_proxies(name):
    assert load_proxy(name).needs == "topology"
    assert load_proxy(name).__doc__


def test_file_plugins(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "class Width:\n"
        "    needs = 'topology'\n"
        "    def __call__(self, architecture):\n"
        "        return architecture.topology.maps[1].channels\n"
        "class Fussy(Width):\n"
        "    def __init__(self, data): ...\n"
        "def undeclared(architecture):\n"
        "    return 1.0\n"
        "number = 3\n"
    )
    trust(path)
    assert evaluate(stack(1), {"width": load_proxy(f"{path}:Width")}) == {"width": 8.0}
    for name, message in [("Fussy", "without arguments"), ("undeclared", "topology, weights"), ("number", "function")]:
        with pytest.raises(PluginError, match=message):
            load_proxy(f"{path}:{name}")


@pytest.mark.parametrize("result", [math.nan, math.inf, -math.inf, "high", None])
def test_scores_that_are_not_finite_are_refused_by_name(result):
    bad = proxy("topology")(lambda architecture: result)
    with pytest.raises(PluginError, match="'odd'"):
        evaluate(stack(1), {"depth": depth, "odd": bad})


def test_exceptions_carry_the_name_and_the_cause():
    @proxy("weights")
    def broken(architecture):
        raise KeyError("conv9")

    with pytest.raises(PluginError, match=r"'odd' .*KeyError: 'conv9'") as caught:
        evaluate(stack(1), {"odd": broken})
    assert isinstance(caught.value.__cause__, KeyError)
