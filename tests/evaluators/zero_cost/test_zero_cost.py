"""NASWOT, SynFlow and ZiCo against closed forms and cases worked by hand, their invariances, and their contract."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from evaluators.data.loading import load
from evaluators.zero_cost.naswot import NASWOT, SMALLEST_EIGENVALUE, code_kernel, log_determinant
from evaluators.zero_cost.scoring import draw_batches, fresh_network
from evaluators.zero_cost.synflow import SynFlow, log_flow, synaptic_flow
from evaluators.zero_cost.zico import ZiCo, gradients, log_steadiness
from nas import testing
from nas.errors import UserError
from nas.plugins import load_plugin
from nas.proxies.contract import load_proxy
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Task, TrainingSpec
from nas.spaces.choices import Domains, Recorder, at_random

from ...benchmarks.scripts import BENCHMARKS
from ...nas.hand_built import ALL

IMAGES = "synthetic:n=900,classes=10,size=8,channels=1"
NAMES = ("naswot", "synflow", "zico")
SMALL = {
    "naswot": NASWOT(batch_size=16),
    "synflow": SynFlow(),
    "zico": ZiCo(batch_size=8),
    "naswot mean": NASWOT(batch_size=16, levels="mean"),
    "synflow mean": SynFlow(levels="mean"),
    "zico mean": ZiCo(batch_size=8, levels="mean"),
}
EVERY_WORD = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T.copy()
"""All inputs of three units' signs, shape (8, 3)."""


def set_weight(network, operation: int, weight) -> None:
    layer = network.operation_layers[operation]
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(weight, dtype=torch.float32).reshape(layer.weight.shape))


def one_by_one(widths, classes=2, **conv) -> Architecture:
    """A chain of 1×1 convolutions on one pixel, then the classifier: a multilayer perceptron."""
    builder = Builder(Task(input_shape=(widths[0], 1, 1), num_classes=classes))
    x = builder.input
    for width in widths[1:]:
        x = builder.conv(x, width, kernel=1, **conv)
    builder.head(x)
    return builder.architecture(1)


def unlearned() -> Architecture:
    builder = Builder(Task(input_shape=(3, 2, 2), num_classes=3))
    builder.add("global_avg_pool", builder.input, builder.map(3))
    return builder.architecture(1)


def random_architectures(space: str, count: int, shape=(1, 8, 8)) -> list[Architecture]:
    rng, proposing = np.random.default_rng(5), load_plugin("nas.search_spaces", space)()
    task = Task(input_shape=shape, num_classes=10)
    return [proposing.architecture(Recorder(at_random(rng), Domains()), task, points=2) for _ in range(count)]


# NASWOT


@pytest.mark.parametrize("activation", ["relu", "relu6", "silu", "hardswish"])
def test_kernel_of_known_codes(activation):
    network = fresh_network(one_by_one((3, 3), after=(activation,)))
    set_weight(network, 0, np.eye(3))
    kernel = code_kernel(network, torch.tensor(EVERY_WORD, dtype=torch.float32)[:, :, None, None], 0)
    hamming = (EVERY_WORD[:, None] != EVERY_WORD[None, :]).sum(2)
    np.testing.assert_array_equal(kernel.numpy(), 3 - hamming)


def test_units_of_all_layers_add_up():
    network = fresh_network(one_by_one((3, 5, 7), after=("norm", "relu"), activation="silu"))
    kernel = code_kernel(network, torch.randn(6, 3, 1, 1, generator=torch.Generator().manual_seed(0)), 0)
    assert (kernel.diagonal() == 2 * (5 + 7)).all()
    assert (kernel == kernel.T).all()


def test_determinant_of_two_inputs():
    units, distance = 50.0, 13.0
    kernel = torch.tensor([[units, units - distance], [units - distance, units]], dtype=torch.float64)
    assert log_determinant(kernel) == pytest.approx(math.log(units**2 - (units - distance) ** 2), rel=1e-12)


def test_determinant_equals_slogdet_where_codes_differ():
    network = fresh_network(ALL["residual"]())
    kernel = code_kernel(network, draw_batches(network.architecture, 1, 32)[0][0], 2).numpy()
    sign, expected = np.linalg.slogdet(kernel)
    assert sign == 1
    assert log_determinant(torch.from_numpy(kernel)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("inputs", "units"), [(2, 7), (16, 1000), (128, 300_000)])
def test_inputs_that_share_a_code_are_finite(inputs, units):
    """The kernel has one eigenvalue inputs · units, and 0 for the rest."""
    kernel = torch.full((inputs, inputs), float(units), dtype=torch.float64)
    expected = math.log(inputs * units) + (inputs - 1) * math.log(SMALLEST_EIGENVALUE)
    assert log_determinant(kernel) == pytest.approx(expected, rel=1e-9)


def test_fewer_distinct_codes_score_less():
    x = torch.tensor(EVERY_WORD, dtype=torch.float32)[:, :, None, None]
    network = fresh_network(one_by_one((3, 16), after=("relu",)))
    scores = [log_determinant(code_kernel(network, x[torch.arange(8) % distinct], 0)) for distinct in (1, 2, 4, 8)]
    assert scores == sorted(set(scores))


def test_no_units_is_the_least():
    assert NASWOT(batch_size=16)(unlearned()) == pytest.approx(16 * math.log(SMALLEST_EIGENVALUE))
    assert NASWOT(batch_size=16)(one_by_one((3, 4))) == pytest.approx(16 * math.log(SMALLEST_EIGENVALUE))


@pytest.mark.parametrize("name", ["residual", "causal", "gated_concat", "video"])
def test_order_of_the_batch_does_not_matter(name):
    network = fresh_network(ALL[name]())
    ((x, _),) = draw_batches(network.architecture, 1, 24)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    plain, shuffled = (code_kernel(network, inputs, 0) for inputs in (x, x[order]))
    # statistics of the batch are summed in another order: a unit that is almost 0 may switch
    assert (plain[order][:, order] - shuffled).abs().max() <= 4
    assert log_determinant(plain) == pytest.approx(log_determinant(shuffled), rel=1e-2)
    assert log_determinant(plain) == pytest.approx(log_determinant(plain[order][:, order]), rel=1e-10)


# SynFlow


def test_flow_of_a_linear_chain_is_the_product_of_its_absolute_matrices():
    architecture = one_by_one((3, 5, 4, 6), classes=7)
    network = fresh_network(architecture)
    matrices = [
        layer.weight.detach().double().flatten(1).abs()
        for layer in network.operation_layers
        if layer.weight is not None
    ]
    product = torch.ones(3, dtype=torch.float64)
    for matrix in matrices:
        product = matrix @ product
    flows = synaptic_flow(network, 0)
    assert list(flows.values()) == pytest.approx([float(product.sum())] * 4, rel=1e-12)
    assert SynFlow()(architecture) == pytest.approx(math.log(4 * float(product.sum())), rel=1e-12)


@pytest.mark.parametrize("steps", [(), ("norm", "relu6"), ("norm", "silu"), ("hardswish",)])
def test_flow_is_conserved_along_a_chain(steps):
    """Every operation that lies on all paths carries the whole output, through strides, poolings and activations."""
    builder = Builder(Task(input_shape=(2, 9, 9), num_classes=3))
    x = builder.conv(builder.input, 6, after=steps)
    x = builder.depthwise(x, kernel=5, stride=2, before=steps)
    x = builder.add("max_pool", x, builder.map(6, activation="relu6"), kernel=3, stride=2)
    builder.head(builder.conv(x, 8, kernel=1, before=steps))
    flows = list(synaptic_flow(fresh_network(builder.architecture(1)), 0).values())
    assert len(flows) == 4
    assert flows == pytest.approx([flows[0]] * 4, rel=1e-12)


def test_flow_divides_between_branches():
    builder = Builder(Task(input_shape=(2, 4, 4), num_classes=3))
    x = builder.conv(builder.input, 6)
    y = builder.conv(builder.conv(x, 5), 6)
    builder.add("conv", x, y, kernel=1)
    builder.head(y)
    network = fresh_network(builder.architecture(1))
    stem, first, second, beside, _, head = [synaptic_flow(network, 0).get(o, 0.0) for o in range(6)]
    assert first == pytest.approx(second, rel=1e-12)
    assert first + beside == pytest.approx(stem, rel=1e-12) == pytest.approx(head, rel=1e-12)


def test_flow_with_unit_weights_counts_learned_operations_on_paths():
    """On one channel, with all weights 1, the flow counts the learned operations on all paths, once a class."""
    builder = Builder(Task(input_shape=(1, 1, 1), num_classes=2))
    x = builder.conv(builder.input, 1, kernel=1)
    for _ in range(3):
        y = builder.conv(builder.conv(x, 1, kernel=1, after=("norm", "relu6")), 1, kernel=1)
        builder.identity(x, y)
        builder.add("conv", x, y, kernel=1)
        x = y
    builder.head(x)
    architecture = builder.architecture(1)
    network = fresh_network(architecture)
    for o, layer in enumerate(network.operation_layers):
        if layer.weight is not None:
            set_weight(network, o, torch.ones_like(layer.weight))
    learned_paths = load_proxy(f"{BENCHMARKS / 'controls.py'}:learned_paths")
    assert math.log(sum(synaptic_flow(network, 0).values())) == pytest.approx(learned_paths(architecture) + math.log(2))


def test_flow_ignores_data_signs_and_statistics():
    network = fresh_network(ALL["gated_residual"]())
    before = synaptic_flow(network, 2)
    network(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 100, 2)  # moves running statistics
    with torch.no_grad():
        for layer in network.operation_layers:
            if layer.weight is not None:
                layer.weight.neg_()
    assert synaptic_flow(network, 2) == before
    assert all(p.grad is None for p in network.parameters())


def test_flow_scales_with_any_operation_on_every_path():
    architecture = ALL["mobile"]()
    network = fresh_network(architecture)
    before = sum(synaptic_flow(network, 1).values())
    with torch.no_grad():
        network.operation_layers[0].weight.mul_(3)
    assert sum(synaptic_flow(network, 1).values()) == pytest.approx(3 * before, rel=1e-6)


def test_flow_is_clipped_to_the_range_of_floats():
    assert SynFlow()(unlearned()) == math.log(sys.float_info.min)
    for size, bound in ((1e38, sys.float_info.max), (1e-38, sys.float_info.min)):
        network = fresh_network(one_by_one((3, *[4] * 12)))
        for o, layer in enumerate(network.operation_layers):
            if layer.weight is not None:
                set_weight(network, o, torch.full_like(layer.weight, size))
        assert log_flow(synaptic_flow(network, 0).values()) == math.log(bound)


# ZiCo


def test_one_linear_layer_by_hand():
    """The gradient of the cross-entropy of Wx is (softmax(Wx) − onehot(y)) xᵀ, mean over the batch."""
    builder = Builder(Task(input_shape=(4, 1, 1), num_classes=3))
    builder.add("linear", builder.input, builder.map(3))
    architecture = builder.architecture(1)
    network = fresh_network(architecture)
    weight = network.operation_layers[0].weight.detach().double().numpy()
    drawn = draw_batches(architecture, 3, 8)
    by_hand = []
    for x, labels in drawn:
        x_NC, y_N = x.double().flatten(1).numpy(), labels.numpy()
        exp_NK = np.exp(x_NC @ weight.T)
        error_NK = exp_NK / exp_NK.sum(1, keepdims=True) - np.eye(3)[y_N]
        by_hand.append((error_NK.T @ x_NC / 8).ravel())
    (gradient_BP,) = gradients(network, drawn, 0)
    np.testing.assert_allclose(gradient_BP.numpy(), by_hand, rtol=1e-4, atol=1e-6)
    by_hand = np.array(by_hand)
    expected = np.log((np.abs(by_hand).mean(0) / by_hand.std(0)).sum())
    assert ZiCo(batches=3, batch_size=8)(architecture) == pytest.approx(expected, rel=1e-3)


def test_steadiness_by_hand():
    first = torch.tensor([[1.0, 2.0, 5.0], [3.0, -2.0, 5.0]])  # 2/1 + 2/2; the third does not vary
    second = torch.tensor([[1.0], [-1.0]])  # 1/1
    assert log_steadiness([first]) == pytest.approx(math.log(3))
    assert log_steadiness([first, second]) == pytest.approx(math.log(3) + math.log(1))
    assert log_steadiness([first, 1000 * first]) == pytest.approx(2 * math.log(3))


def test_constant_and_overflowing_gradients_are_left_out():
    assert log_steadiness([]) == 0.0
    assert log_steadiness([torch.tensor([[0.1]] * 3)]) == 0.0
    assert log_steadiness([torch.tensor([[1.0, math.inf, math.nan], [3.0, 1.0, 1.0]])]) == pytest.approx(math.log(2))
    network = fresh_network(ALL["residual"]())
    (batch,) = draw_batches(network.architecture, 1, 8)
    assert log_steadiness(gradients(network, [batch, batch], 2)) == 0.0
    assert ZiCo(batch_size=4)(unlearned()) == 0.0


def test_gradients_are_of_live_operations_and_leave_no_state_behind():
    architecture = ALL["gated_residual"]()
    network = fresh_network(architecture)
    drawn = draw_batches(architecture, 2, 4)
    for level, point in enumerate(architecture.points):
        learned = [o for o in point.operations if network.operation_layers[o].weight is not None]
        assert len(gradients(network, drawn, level)) == len(learned)
    assert all(p.grad is None for p in network.parameters())


# All of them


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("style", ALL)
def test_finite_on_every_style(name, style):
    score = SMALL[name](ALL[style]())
    assert type(score) is float
    assert math.isfinite(score)


@pytest.mark.parametrize("name", ["naswot", "synflow", "zico"])
@pytest.mark.parametrize("space", ["residual", "mobile", "slimmable"])
def test_finite_and_different_on_random_networks(name, space):
    scores = [SMALL[name](architecture) for architecture in random_architectures(space, 4)]
    assert np.isfinite(scores).all()
    assert len(set(scores)) >= 3


@pytest.mark.parametrize("norm", ["shared", "per_point", "recalibrated"])
@pytest.mark.parametrize("name", SMALL)
def test_every_norm_policy(name, norm):
    assert math.isfinite(SMALL[name](replace(ALL["causal"](), norm=norm)))


@pytest.mark.parametrize("name", NAMES)
def test_installed_and_passing_the_shipped_checks(name):
    proxy = load_proxy(name)
    assert proxy.needs == ("weights" if name == "synflow" else "batch")
    testing.check_proxy(name)


@pytest.mark.parametrize("name", SMALL)
def test_training_rule_and_unused_parts_do_not_matter(name):
    score, architecture = SMALL[name], ALL["residual"]()
    assert score(replace(architecture, training=TrainingSpec(rule="joint"))) == score(architecture)
    smaller = architecture.with_points(architecture.points[:2])
    assert smaller.canonical != smaller
    assert score(smaller) == score(smaller.canonical)


@pytest.mark.parametrize("name", NAMES)
def test_levels(name):
    """The score of the largest point by default; else the mean of the scores of all points."""
    architecture = ALL["multi_exit"]()
    by_level = {
        "naswot": lambda network, level: log_determinant(
            code_kernel(network, draw_batches(architecture, 1, 16)[0][0], level)
        ),
        "synflow": lambda network, level: math.log(sum(synaptic_flow(network, level).values())),
        "zico": lambda network, level: log_steadiness(gradients(network, draw_batches(architecture, 2, 8), level)),
    }[name]
    scores = [by_level(fresh_network(architecture), level) for level in range(3)]
    assert SMALL[name](architecture) == pytest.approx(scores[-1], rel=1e-6)
    assert SMALL[f"{name} mean"](architecture) == pytest.approx(np.mean(scores), rel=1e-6)
    assert len(set(scores)) == 3


@pytest.mark.parametrize("name", NAMES)
def test_other_seeds_give_other_scores(name):
    architecture = ALL["mobile"]()
    scores = {replace(SMALL[name], seed=seed)(architecture) for seed in range(3)}
    assert len(scores) == 3


def test_global_state_is_left_alone():
    architecture, threads = ALL["residual"](), torch.get_num_threads()
    torch.manual_seed(3)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    with torch.no_grad():  # as a caller may have it
        first = [score(architecture) for score in SMALL.values()]
        assert not torch.is_grad_enabled()
    torch.manual_seed(4)
    assert [score(architecture) for score in SMALL.values()] == first
    torch.set_rng_state(before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]  # noqa: NPY002
    assert torch.get_num_threads() == threads


ELSEWHERE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import json, torch
torch.set_num_threads(3)
torch.manual_seed(99)
from evaluators.zero_cost.naswot import NASWOT
from evaluators.zero_cost.synflow import SynFlow
from evaluators.zero_cost.zico import ZiCo
from nas.proxies.nn_mass import NNMass
from nas.representation.architecture import Architecture
architecture = Architecture.from_json(json.loads(sys.stdin.read()))
print([p(architecture) for p in (ZiCo(batch_size=8), SynFlow(), NASWOT(batch_size=16), NNMass())])
"""


def test_the_same_in_another_process_with_few_packages():
    """Other order, hash seed, threads and global seed; neither scikit-learn nor the search's packages installed."""
    absent = {"sklearn", "scipy", "optuna", "sqlalchemy", "safetensors", "matplotlib", "rich", "typer", "ray"}
    architecture = random_architectures("residual", 1)[0]
    expected = [SMALL[name](architecture) for name in ("zico", "synflow", "naswot")] + [
        load_plugin("nas.proxies", "nn_mass")()(architecture)
    ]
    ended = subprocess.run(
        [sys.executable, "-c", ELSEWHERE.format(absent=absent)],
        input=json.dumps(architecture.to_json()),
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(ended.stdout) == expected


# Real images


@pytest.mark.parametrize("kind", [NASWOT, ZiCo])
def test_real_images(kind):
    architecture = random_architectures("slimmable", 1)[0]
    real, noise = kind(data=IMAGES, batch_size=16), kind(batch_size=16)
    assert real(architecture) == kind(data=load(IMAGES), batch_size=16)(architecture)
    assert real(architecture) != noise(architecture)


def test_images_are_distinct_and_standardised():
    architecture = random_architectures("slimmable", 1)[0]
    drawn = draw_batches(architecture, 2, 200, IMAGES)
    x = torch.cat([x for x, _ in drawn])
    assert x.shape == (400, 1, 8, 8)
    assert len(x.flatten(1).unique(dim=0)) == 400
    assert float(x.mean()) == pytest.approx(0, abs=0.05)
    assert float(x.std()) == pytest.approx(1, abs=0.05)
    assert set(torch.cat([labels for _, labels in drawn]).tolist()) == set(range(10))


def test_batches_of_few_images_are_smaller():
    architecture = random_architectures("slimmable", 1)[0]
    drawn = draw_batches(architecture, 4, 10_000, IMAGES)
    assert {len(x) for x, _ in drawn} == {len(load(IMAGES).y_train) // 4}


def test_bad_data_and_settings_are_rejected():
    with pytest.raises(UserError, match=r"the task's shape.*'synthetic"):
        NASWOT(data=IMAGES)(ALL["residual"]())
    with pytest.raises(UserError, match="fill 1000 batches of two"):
        ZiCo(data=IMAGES, batches=1000)(random_architectures("slimmable", 1)[0])
    for kind in (NASWOT, SynFlow, ZiCo):
        with pytest.raises(UserError, match="'largest' or 'mean'"):
            kind(levels="smallest")
    with pytest.raises(UserError, match="batch_size must be a whole number of at least 2"):
        NASWOT(batch_size=1)
    with pytest.raises(UserError, match="batches must be a whole number of at least 2"):
        ZiCo(batches=1)
