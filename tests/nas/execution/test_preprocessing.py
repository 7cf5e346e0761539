"""Raw images as users hold them."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

from nas.errors import DataError
from nas.execution.network import AnytimeNetwork
from nas.execution.preprocessing import Preprocessing

from ..hand_built import ALL

INTEGERS = Preprocessing(mean=(0.1, 0.2), std=(0.4, 0.5), scale=1 / 255)
FLOATS = Preprocessing(mean=(0.1, 0.2), std=(0.4, 0.5), scale=1.0)
RAW = np.random.default_rng(0).integers(0, 256, (3, 2, 4, 5))


@pytest.mark.parametrize("dtype", ["uint8", "int64", "int32", "uint16"])
@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_integers_of_any_type_are_read_as_uint8(dtype: str, make) -> None:
    expected = INTEGERS(torch.from_numpy(RAW.astype(np.uint8)))
    assert torch.equal(INTEGERS(make(RAW.astype(dtype))), expected)


def test_booleans_are_read_as_0_and_1() -> None:
    black_white = RAW > 127
    assert torch.equal(INTEGERS(black_white), INTEGERS(torch.from_numpy(black_white.astype(np.uint8))))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_floats(dtype: str) -> None:
    raw = (RAW / 255).astype(dtype)
    torch.testing.assert_close(FLOATS(raw), FLOATS(torch.from_numpy(raw)), rtol=0, atol=0)
    assert FLOATS(raw).dtype == torch.float32


@pytest.mark.parametrize(
    ("preprocess", "raw", "message"),
    [
        (INTEGERS, RAW / 255, r"must be integers, 0 to 255, as in training\. Got torch\.float64: convert"),
        (FLOATS, RAW, r"must be floats, as in training\. Got torch\.int64"),
        (FLOATS, RAW > 7, r"must be floats, as in training\. Got torch\.bool"),
        (INTEGERS, RAW * 300, r"must lie in 0\.\.255, as in training\. Got \d+ to \d+"),
        (INTEGERS, RAW - 9, r"must lie in 0\.\.255, as in training\. Got -\d to"),
        (INTEGERS, RAW[:, 0], r"must be \(B, 2, H, W\).*Got shape \(3, 4, 5\)"),
    ],
)
def test_other_images_are_refused(preprocess: Preprocessing, raw: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        preprocess(raw)


@pytest.mark.parametrize("name", ALL)
def test_the_members_of_a_network_can_be_listed(name: str) -> None:
    members = dict(inspect.getmembers(AnytimeNetwork(ALL[name]())))
    assert {"macs", "refine_macs", "nonzero_macs", "preprocess"} <= members.keys()
