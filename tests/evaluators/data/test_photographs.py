"""Changes of photographs, and mixed images: what they keep, by which numbers, and what they mix."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
import torch

import nas
from evaluators.data.augmentation import augmentation
from evaluators.data.batches import batches
from evaluators.data.photographs import CHANGES, MIXES, Mix
from nas.errors import DataError
from nas.execution.labels import join_labels
from nas.execution.preprocessing import Preprocessing
from nas.representation.elements import Task

from ..training.jobs import small
from .test_augmentation import generator, images

PLAIN = Preprocessing(mean=(0.0,), std=(1.0,), scale=1.0)


def photos(channels=3, dtype=torch.uint8, count=48):
    """Smooth images with values from 20 to 230."""
    across = torch.linspace(20, 230, 16)
    x = across + 0 * across[:, None] + 5 * torch.arange(count)[:, None, None, None]
    return x.clamp(20, 230).expand(count, channels, 16, 16).to(dtype).contiguous()


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_each_image_is_changed_by_its_own_numbers(name, channels, dtype):
    x = photos(channels, dtype)
    data = images((channels, 16, 16)) if dtype == torch.uint8 else images((channels, 16, 16), 20, 230)
    change = augmentation(name, data)
    kept, state = x.clone(), torch.get_rng_state()
    out = change(x, generator(3))
    assert torch.equal(x, kept)
    assert torch.equal(torch.get_rng_state(), state)
    assert (out.dtype, out.shape) == (dtype, x.shape)
    assert torch.equal(out, change(x, generator(3)))
    assert not torch.equal(out, change(x, generator(4)))
    alike = change(x[:1].expand_as(x), generator(3)).flatten(1).unique(dim=0)
    assert len(alike) > 3  # not all images of a batch alike
    low, high = (0, 255) if dtype == torch.uint8 else (20, 230)
    assert low - 1e-3 <= out.min() <= out.max() <= high + 1e-3


def test_black_stays_black_when_colours_change():
    """Brightness is a factor; contrast moves towards the mean, which is black too."""
    out = augmentation("jitter", images((3, 16, 16)))(torch.zeros(64, 3, 16, 16, dtype=torch.uint8), generator())
    assert int(out.max()) == 0


def test_bright_images_beyond_the_sampled_values_are_cropped_unchanged():
    change = augmentation("resized", images((1, 16, 16), 0, 1))
    x = torch.full((8, 1, 16, 16), 7.0)
    assert torch.allclose(change(x, generator()), x)


def test_changes_are_joined_with_the_others():
    change = augmentation("crop+flip+jitter+cutmix", images((3, 16, 16)))
    assert (change.pad, change.flip, change.changes, change.mixes) == ((2, 2), True, ("jitter",), ("cutmix",))
    assert str(change) == "shifts of at most 2×2 pixels, mirrored at random, random colours, cutmix"


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("crop+resized", (3, 16, 16), "one kind of crops"),
        ("flip+flip", (3, 16, 16), "different changes"),
        ("flip+auto", (3, 16, 16), "auto stands alone. Got flip+auto: name its parts, such as crop+flip"),
        ("jitter", (4, 16, 16), "one or three channels. Got the shape 4×16×16"),
        ("randaugment", (3, 4, 16, 16), "one or three channels. Got the shape 3×4×16×16"),
    ],
)
def test_what_is_refused(name, shape, message):
    with pytest.raises(DataError, match=re.escape(message)):
        augmentation(name, images(shape))


def test_without_kornia_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "kornia.augmentation", None)
    with pytest.raises(DataError, match=r"--augment resized needs kornia: pip install 'anytime-nas\[augment\]'"):
        augmentation("resized", images((3, 16, 16)))
    assert augmentation("mixup+flip", images((3, 16, 16))).mixes == ("mixup",)


@pytest.mark.parametrize("kind", MIXES)
@pytest.mark.parametrize("shape", [(1, 6, 9), (3, 2, 6, 9)])
def test_labels_are_mixed_as_the_images_are(kind, shape):
    """Images whose pixels are all their class: the mean of a mixed image is the mean of its label."""
    y = torch.arange(8) % 4
    x = y.float().reshape(-1, *[1] * len(shape)).expand(8, *shape).contiguous()
    kept = x.clone()
    shares = []
    for seed in range(40):
        mixed, p = Mix(kinds=(kind,), classes=4)(x, y, generator(seed))
        assert torch.equal(x, kept)
        assert p.sum(1).tolist() == pytest.approx([1.0] * 8)
        expected = (p * torch.arange(4)).sum(1)
        assert mixed.flatten(1).mean(1).tolist() == pytest.approx(expected.tolist(), abs=1e-5)
        shares.append(float(p.max(1).values.min()))
        if kind == "cutmix":
            assert set(mixed.unique().tolist()) <= {0.0, 1.0, 2.0, 3.0}
    assert min(shares) < 0.7 < max(shares)


def test_one_of_several_mixes_is_drawn_for_each_batch():
    x, y = torch.rand(16, 1, 8, 8, generator=generator()), torch.zeros(16, dtype=torch.int64)
    mix = Mix(kinds=("mixup", "cutmix"), classes=2)
    pasted = [bool(torch.isin(mix(x, y, generator(seed))[0], x).all()) for seed in range(40)]
    assert 5 < sum(pasted) < 35


def test_only_training_batches_are_mixed():
    x, y = np.arange(20, dtype=np.float32).reshape(20, 1, 1, 1).repeat(4, 3), np.arange(20) % 4
    made = batches(x, y, size=10, preprocessing=PLAIN, mix=Mix(kinds=("mixup",), classes=4))
    assert [labels.shape for _, labels in made.train(generator())] == [(10, 4), (10, 4)]
    assert torch.equal(torch.cat([labels for _, labels in made.evaluate()]), torch.from_numpy(y))


def test_probabilities_of_joined_labels_add_up():
    task = Task(input_shape=(1, 8, 8), num_classes=4, hierarchy=((0, 1, 1, 0),))
    p = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    assert join_labels(task, p, 1).tolist() == [pytest.approx([0.5, 0.5])]
    labels = torch.arange(4)
    whole = join_labels(task, torch.eye(4), 1)
    assert torch.equal(whole.argmax(1), join_labels(task, labels, 1))


def test_a_training_with_all_changes(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    x = (rng.integers(0, 60, (120, 1, 8, 8)) + 80 * labels[:, None, None, None]).astype(np.uint8)
    name = "resized+flip+jitter+randaugment+mixup+cutmix"
    data = (x, labels, x[:30], labels[:30])
    result = nas.train(small(), data, folder=tmp_path / "net", epochs=3, threads=1, augment=name)
    again = nas.train(small(), data, epochs=3, threads=1, augment=name)
    assert result.points.equals(again.points)
    assert result.points.accuracy.between(0, 1).all()
