"""Augmentation against the slow, obvious way: one image at a time, by slicing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from evaluators.data.augmentation import ALL_PASSES, IMAGES, NONE, Augmentation, augmentation
from evaluators.data.datasets import Dataset
from nas.errors import DataError


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


def images(shape, low=0, high=255, **settings):
    """A data set of images of this shape, in ``low`` to ``high``."""
    x = np.linspace(low, high, 6 * math.prod(shape)).reshape(6, *shape).astype(np.uint8 if low == 0 else np.float32)
    data = {"x_train": x, "y_train": np.arange(6) % 2, "x_test": x, "y_test": np.arange(6) % 2}
    return Dataset(name="images", num_classes=2, **data, **settings)


PASSES = ALL_PASSES * math.sqrt(6 / IMAGES)
"""From which on all of six images are changed."""


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("auto", (3, 32, 32), Augmentation(pad=(4, 4), all_passes=PASSES)),
        ("auto", (1, 28, 28), Augmentation(pad=(3, 3), all_passes=PASSES)),
        ("auto", (3, 8, 64, 32), Augmentation(pad=(8, 4), all_passes=PASSES)),
        ("auto", (1, 1, 64), Augmentation(pad=(0, 8), all_passes=PASSES)),
        ("auto", (1, 64, 7), Augmentation(pad=(8, 0), all_passes=PASSES)),
        ("auto", (2, 5, 5), Augmentation(all_passes=PASSES)),
        ("none", (3, 32, 32), Augmentation()),
        ("crop", (3, 9, 5), Augmentation(pad=(1, 0))),
        ("flip", (1, 32, 32), Augmentation(flip=True)),
        ("crop+flip", (1, 32, 16), Augmentation(pad=(4, 2), flip=True)),
    ],
)
def test_names(name, shape, expected):
    assert augmentation(name, images(shape)) == expected


def test_only_data_that_keep_their_class_are_mirrored_without_request():
    assert augmentation("auto", images((3, 32, 32), mirror_invariant=True)).flip
    assert not augmentation("crop", images((3, 32, 32), mirror_invariant=True)).flip


def test_a_share_of_the_images_is_changed():
    images = torch.arange(4000 * 8, dtype=torch.float32).reshape(4000, 1, 1, 8)
    kept = images.clone()
    changed = (Augmentation(flip=True)(images, generator(), share=0.5) != kept).flatten(1).any(1)
    assert torch.equal(images, kept)  # the caller's images
    assert changed.float().mean() == pytest.approx(0.25, abs=0.03)  # every other one of half of them is mirrored
    assert torch.equal(Augmentation(flip=True)(images, generator(), share=0.0), kept)


def test_the_share_grows_with_the_passes_if_it_is_gradual():
    gradual, constant = Augmentation(flip=True, all_passes=20.0), Augmentation(flip=True)
    passes = [0.0, 0.1, NONE * 20, math.sqrt(NONE) * 20, 20, 200]
    assert [gradual.share(each) for each in passes] == pytest.approx([0, 0, 0, 0.5, 1, 1])
    assert {constant.share(each) for each in passes} == {1.0}


@pytest.mark.parametrize(("low", "high", "fill"), [(-1, 1, 0), (1000, 4000, 1000), (-9, -3, -3)])
def test_float_images_are_padded_with_a_value_of_their_range(low, high, fill):
    change = augmentation("auto", images((1, 16, 16), low, high))
    assert change.fill == fill
    out = change(torch.full((64, 1, 16, 16), 2.0 * fill + 1), generator())
    assert out.unique().tolist() == sorted({float(fill), 2.0 * fill + 1})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (Augmentation(), "none"),
        (Augmentation(pad=(0, 8)), "shifts of at most 0×8 pixels, not mirrored"),
        (Augmentation(flip=True), "no shifts, mirrored at random"),
        (
            Augmentation(flip=True, all_passes=20.0),
            "no shifts, mirrored at random; of no image in up to 5 passes over the data, of all in 20 or more",
        ),
    ],
)
def test_changes_in_words(change, words):
    assert str(change) == words


def test_wrong_names_list_the_valid_ones():
    with pytest.raises(
        DataError, match=r"Unknown augmentation 'crops'. Did you mean 'crop'\? Valid: auto, crop, cutmix, flip"
    ):
        augmentation("crops", images((3, 32, 32)))


@pytest.mark.parametrize("pad", [(-1, 0), (1,)])
def test_padding_that_is_refused(pad):
    with pytest.raises(DataError, match="two numbers of pixels ≥ 0"):
        Augmentation(pad=pad)
