"""Augmentation against the slow, obvious way: one image at a time, by slicing."""

from __future__ import annotations

import pytest
import torch

from evaluators.data.augmentation import NAMES, Augmentation, augmentation
from nas.errors import DataError
from nas.representation.elements import Task


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def slow(images, pad, flip, source):
    """Each image padded and cut out by itself, with the same draws."""
    count, (height, width) = len(images), images.shape[-2:]
    down, right = (
        (torch.randint(2 * most + 1, (count,), generator=source) for most in pad) if any(pad) else ([0] * count,) * 2
    )
    mirrored = torch.rand(count, generator=source) < 0.5 if flip else [False] * count
    result = []
    for image, y, x, mirror in zip(images, down, right, mirrored, strict=True):
        canvas = torch.zeros(*image.shape[:-2], height + 2 * pad[0], width + 2 * pad[1], dtype=image.dtype)
        canvas[..., pad[0] : pad[0] + height, pad[1] : pad[1] + width] = image
        cut = canvas[..., y : y + height, x : x + width]
        result.append(cut.flip(-1) if mirror else cut)
    return torch.stack(result)


@pytest.mark.parametrize("shape", [(16, 1, 8, 8), (16, 3, 9, 6), (16, 3, 4, 6, 9), (1, 3, 8, 8)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize(("pad", "flip"), [((1, 2), True), ((2, 0), False), ((0, 0), True), ((0, 0), False)])
def test_against_one_image_at_a_time(shape, dtype, pad, flip):
    images = torch.randint(0, 256, shape, generator=generator(7)).to(dtype)
    kept = images.clone()
    one, two = generator(), generator()
    out = Augmentation(pad=pad, flip=flip)(images, one)
    assert torch.equal(out, slow(images, pad, flip, two))
    assert (out.dtype, out.shape) == (dtype, torch.Size(shape))
    assert torch.equal(one.get_state(), two.get_state())
    assert torch.equal(images, kept)


def test_strides_do_not_matter():
    images = torch.randint(0, 256, (8, 10, 12, 3), generator=generator(), dtype=torch.uint8).permute(0, 3, 1, 2)
    change = Augmentation(pad=(1, 1), flip=True)
    assert torch.equal(change(images, generator()), change(images.contiguous(), generator()))


def test_all_frames_of_a_video_move_together():
    frame = torch.randint(0, 256, (8, 3, 1, 10, 12), generator=generator())
    out = Augmentation(pad=(2, 2), flip=True)(frame.expand(-1, -1, 5, -1, -1), generator())
    assert torch.equal(out, out[:, :, :1].expand_as(out))


def test_every_shift_and_side_comes_up_equally():
    images = torch.zeros(9000, 1, 3, 3, dtype=torch.uint8)
    images[:, :, 1, 0] = 1
    out = Augmentation(pad=(1, 1), flip=True)(images, generator()).flatten(1).float()
    spots = out.mean(0).view(3, 3)
    # The dot is at column -1, 0 or 1 by equal chance, seen or mirrored from column 3, 2 or 1; rows 0, 1, 2 alike.
    expected = torch.tensor([1 / 6, 1 / 3, 1 / 6]) / 3
    torch.testing.assert_close(spots, expected.expand(3, 3), atol=0.015, rtol=0)


def test_nothing_global_is_random():
    state = torch.get_rng_state()
    Augmentation(pad=(1, 1), flip=True)(torch.zeros(4, 3, 8, 8), generator())
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("auto", (3, 32, 32), Augmentation(pad=(4, 4), flip=True)),
        ("auto", (1, 28, 28), Augmentation(pad=(3, 3))),
        ("auto", (3, 8, 64, 32), Augmentation(pad=(8, 4), flip=True)),
        ("none", (3, 32, 32), Augmentation()),
        ("crop", (3, 5, 5), Augmentation(pad=(1, 1))),
        ("flip", (1, 32, 32), Augmentation(flip=True)),
        ("crop+flip", (1, 32, 16), Augmentation(pad=(4, 2), flip=True)),
    ],
)
def test_names(name, shape, expected):
    assert name in NAMES
    assert augmentation(name, Task(input_shape=shape, num_classes=10)) == expected


def test_wrong_names_list_the_valid_ones():
    with pytest.raises(
        DataError, match=r"Unknown augmentation 'crops'. Did you mean 'crop'\? Valid: auto, crop, crop\+"
    ):
        augmentation("crops", Task(input_shape=(3, 32, 32), num_classes=10))


@pytest.mark.parametrize("pad", [(-1, 0), (1,)])
def test_padding_that_is_refused(pad):
    with pytest.raises(DataError, match="two numbers of pixels ≥ 0"):
        Augmentation(pad=pad)
