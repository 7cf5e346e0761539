"""Kinds of operations: sizes as in torch, refused windows, and plug-in kinds."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import nas.representation.kinds
from nas.errors import InvalidArchitecture, PluginError
from nas.plugins import installed, trust
from nas.representation.builder import Builder
from nas.representation.elements import Operation, Task
from nas.representation.kinds import Kind, kind

from ..masked import masked_forward
from ..messages import untested
from ..networks import random_images, random_network, random_statistics

WINDOWED = ("conv", "max_pool", "avg_pool")
PLAIN = ("identity", "linear", "global_avg_pool")


def _operation(name: str, **rest: Any) -> Operation:
    return Operation(source=0, target=1, kind=name, **rest)


def _window(name: str, kernel: tuple, stride: tuple, padding: tuple, **rest: Any) -> Operation:
    return _operation(name, kernel=kernel, stride=stride, padding=padding, **rest)


@given(
    st.sampled_from(WINDOWED),
    st.lists(
        st.tuples(st.integers(1, 9), st.integers(1, 5), st.integers(1, 3), st.integers(0, 2)), min_size=1, max_size=3
    ),
)
@settings(max_examples=200, deadline=None)
def test_window_sizes_equal_torch_or_are_refused(name: str, dims: list[tuple[int, ...]]) -> None:
    size, kernel, stride, padding = map(tuple, zip(*dims))
    operation = _window(name, kernel, stride, padding)
    x = torch.ones(1, 2, *size)
    weight = torch.ones(3, 2, *kernel) if name == "conv" else None
    try:
        expected = kind(name).output_size(operation, size)
    except InvalidArchitecture:
        if not (name == "avg_pool" and len(size) == 3):  # small ones are padded by hand: any padding would do there
            with pytest.raises(RuntimeError):
                kind(name).apply(operation, x, weight, None, 1)
    else:
        out = kind(name).apply(operation, x, weight, None, 1)
        assert tuple(out.shape[2:]) == expected
        if name != "conv":
            assert torch.equal(out, torch.ones_like(out))  # padding does not count


def test_an_average_over_maps_smaller_than_its_window_in_three_dimensions() -> None:
    operation = _window("avg_pool", (3, 3, 3), (1, 2, 1), (1, 1, 1))
    x = torch.randn(2, 3, 2, 2, 2)
    padded, ones = (F.pad(t, (1,) * 6) for t in (x, torch.ones_like(x)))
    expected = F.avg_pool3d(padded, 3, (1, 2, 1)) / F.avg_pool3d(ones, 3, (1, 2, 1))
    torch.testing.assert_close(kind("avg_pool").apply(operation, x, None, None, 1), expected)


REFUSED: dict[str, tuple[Operation, tuple[int, ...]]] = {
    "A convolution must read a feature map with spatial dimensions. Got a vector: use linear": (
        _window("conv", (), (), ()),
        (),
    ),
    "A window needs one to three spatial dimensions. Got a feature map of size (2, 2, 2, 2)": (
        _window("max_pool", (1,) * 4, (1,) * 4, (0,) * 4),
        (2, 2, 2, 2),
    ),
    "A window needs one to three spatial dimensions. Got a feature map of size ()": (_operation("avg_pool"), ()),
    "Kernel, stride and padding must have one entry per spatial dimension. Got (3,), (1,)": (
        _window("conv", (3,), (1,), (1,)),
        (4, 4),
    ),
    "entry per spatial dimension. Got (), (), () for a feature map of size (4, 4)": (_operation("max_pool"), (4, 4)),
    "Kernel and stride must be at least 1, padding at least 0. Got (0, 3)": (
        _window("conv", (0, 3), (1, 1), (1, 1)),
        (4, 4),
    ),
    "padding at least 0. Got (3, 3), (1, 0)": (_window("conv", (3, 3), (1, 0), (1, 1)), (4, 4)),
    "padding at least 0. Got (3, 3), (1, 1), (1, -1)": (_window("conv", (3, 3), (1, 1), (1, -1)), (4, 4)),
    "The kernel (7, 7) must fit the padded feature map. Got size (4, 4)": (
        _window("conv", (7, 7), (1, 1), (1, 1)),
        (4, 4),
    ),
    "A pooling's padding must be at most half its kernel. Got operation.kernel=(3, 3), operation.padding=(2, 2)": (
        _window("avg_pool", (3, 3), (1, 1), (2, 2)),
        (4, 4),
    ),
    "The kind 'identity' has no window. Got operation.kernel=(1, 1)": (
        _window("identity", (1, 1), (2, 2), (0, 0)),
        (4, 4),
    ),
    "The kind 'linear' has no window": (_operation("linear", kernel=(3,)), ()),
    "The kind 'global_avg_pool' has no window": (_operation("global_avg_pool", stride=(2, 2)), (4, 4)),
    "A linear operation has no groups. Got operation.groups=2": (_operation("linear", groups=2), ()),
    "A linear operation must read a vector; pool the map first. Got spatial size (4, 4)": (
        _operation("linear"),
        (4, 4),
    ),
}


def _said(message: str) -> str:
    operation, size = REFUSED[message]
    with pytest.raises(InvalidArchitecture) as caught:
        kind(operation.kind).output_size(operation, size)
    return str(caught.value)


@pytest.mark.parametrize("message", REFUSED)
def test_windows_that_torch_cannot_run_are_refused(message: str) -> None:
    assert message in _said(message)


def test_every_message_is_tested() -> None:
    assert not untested(nas.representation.kinds, map(_said, REFUSED))


def test_all_shipped_kinds_are_tested() -> None:
    assert set(installed("nas.kinds")) == {*WINDOWED, *PLAIN}


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 4, 5), (2, 3, 4, 5, 6)], ids=str)
def test_kinds_without_a_window_on_vectors_sequences_images_and_videos(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    assert kind("identity").apply(_operation("identity"), x, None, None, 1) is x
    pooled = kind("global_avg_pool").apply(_operation("global_avg_pool"), x, None, None, 1)
    torch.testing.assert_close(pooled, x.flatten(2).mean(2) if x.dim() > 2 else x)
    assert kind("global_avg_pool").output_size(_operation("global_avg_pool"), shape[2:]) == ()


@pytest.mark.parametrize("channels", [1, 3, 4, 7, 12, 16])
def test_a_strided_convolution_of_one_pixel_has_the_right_gradients_for_few_channels(channels: int) -> None:
    """oneDNN's strided kernels write past their workspace there."""
    operation = Operation(kind="conv", source=0, target=1, kernel=(1, 1), stride=(2, 3), padding=(0, 0))
    generator = torch.Generator().manual_seed(channels)
    for _ in range(30):  # a wrong write seldom hits a value of the gradient
        image = torch.randn(32, channels, 8, 9, generator=generator, dtype=torch.double)
        weight = torch.randn(5, channels, 1, 1, generator=generator, dtype=torch.double)
        exact = [image.requires_grad_(), weight.requires_grad_()]
        plain = [image.detach().float().contiguous(memory_format=torch.channels_last), weight.detach().float()]
        plain = [each.requires_grad_() for each in plain]
        expected = F.conv2d(*exact, stride=(2, 3))
        got = kind("conv").apply(operation, *plain, None, 1)
        torch.testing.assert_close(got, expected.float(), rtol=1e-4, atol=1e-4)
        for one, two in zip(torch.autograd.grad(got.sum(), plain), torch.autograd.grad(expected.sum(), exact)):
            torch.testing.assert_close(one, two.float(), rtol=1e-4, atol=1e-3)


def test_linear_reads_vectors_and_maps_of_size_one() -> None:
    weight, bias = torch.randn(4, 3), torch.randn(4)
    x = torch.randn(2, 3)
    flat = kind("linear").apply(_operation("linear"), x, weight, bias, 1)
    assert torch.equal(kind("linear").apply(_operation("linear"), x[..., None, None], weight, bias, 1), flat)
    assert kind("linear").output_size(_operation("linear"), (1, 1)) == ()


# Plug-in kinds ----------------------------------------------------------------------------------------------

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "own_kind.py"
INVALID = """
from nas.representation.kinds import Kind

class LearnedButAligned(Kind):
    learned, mixing = True, False
    def output_size(self, operation, size): ...
    def apply(self, operation, x, weight, bias, groups): ...

class Undeclared(Kind):
    def output_size(self, operation, size): ...
    def apply(self, operation, x, weight, bias, groups): ...

class Unfinished(Kind):
    learned, mixing = True, True
    def output_size(self, operation, size): ...

def function(): ...
"""


def test_a_plug_in_kind_runs_at_all_widths_with_groups_and_causal_wiring() -> None:
    name = f"{EXAMPLE}:Dilated"
    builder = Builder(Task(input_shape=(3, 6, 6), num_classes=2))
    x = builder.add(name, builder.input, builder.map((2, 4)), kernel=3, padding=2, after=("norm", "relu"))
    y = builder.add(name, x, builder.map((2, 4)), kernel=3, padding=2, wiring="causal", groups=2)
    builder.head(builder.add(name, y, builder.map((2, 4)), kernel=3, padding=2, wiring="causal"))
    network = random_statistics(random_network(builder.architecture(2), dtype=torch.float64)).eval()
    x_images = random_images(network)
    for level in range(2):
        alone = network.extract(level)
        expected = masked_forward(network, x_images, level, training=False)[0]
        torch.testing.assert_close(network(x_images, level), expected)
        torch.testing.assert_close(alone(x_images), expected)
        with FlopCounterMode(display=False) as counter:
            copy.deepcopy(alone).to("meta")(torch.empty(1, 3, 6, 6, device="meta"))
        assert counter.get_total_flops() == 2 * network.macs[level]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("LearnedButAligned", "A learned kind must mix channels"),
        ("Undeclared", r"must declare learned and mixing as True or False. Got \(None, None\)"),
        ("Unfinished", "A kind must define apply"),
        ("function", "must be a subclass of nas.representation.kinds.Kind. Got <function"),
    ],
)
def test_invalid_kinds_are_refused(tmp_path: Path, name: str, message: str) -> None:
    path = tmp_path / "invalid.py"
    path.write_text(INVALID)
    trust(path)
    with pytest.raises(PluginError, match=message):
        kind(f"{path}:{name}")


def test_an_unknown_kind_lists_the_known_ones() -> None:
    with pytest.raises(PluginError, match=r"Unknown kind 'cnov'. Did you mean 'conv'\? Valid: avg_pool, conv"):
        kind("cnov")


def test_kinds_are_made_once() -> None:
    assert kind("conv") is kind("conv")
    assert isinstance(kind("conv"), Kind)
