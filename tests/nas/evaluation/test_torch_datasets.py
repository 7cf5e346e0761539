"""Datasets of torch as the data of a search."""

from __future__ import annotations

from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

import nas
import results
from nas.errors import DataError, UserError
from nas.evaluation.stored_data import DataInMemory

from ..searching import TINY

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
CLASSES = np.arange(40) % 2


class Pictures(Dataset):
    """As torchvision's: images of Pillow, changed by a transform."""

    classes = ("cat", "dog")

    def __init__(self, transform=lambda image: image):
        self._transform = transform

    def __len__(self):
        return len(PIXELS)

    def __getitem__(self, row):
        return self._transform(Image.fromarray(PIXELS[row])), int(CLASSES[row])


def to_tensor(image):
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1) / np.float32(255))


def test_images_of_pillow_and_tensors():
    pictures = DataInMemory.of(Pictures()).arrays
    np.testing.assert_array_equal(pictures["x_train"], PIXELS)
    assert pictures["class_names"].tolist() == ["cat", "dog"]
    tensors = DataInMemory.of((Pictures(to_tensor), Subset(Pictures(to_tensor), range(10)))).arrays
    np.testing.assert_array_equal(tensors["x_train"], PIXELS.transpose(0, 3, 1, 2) / np.float32(255))
    assert tensors["y_test"].tolist() == CLASSES[:10].tolist()
    labelled = TensorDataset(torch.from_numpy(PIXELS), torch.from_numpy(CLASSES))
    np.testing.assert_array_equal(DataInMemory.of(labelled).arrays["y_train"], CLASSES)
    assert DataInMemory.of(Subset(Pictures(), range(4))).arrays["class_names"].tolist() == ["cat", "dog"]


def test_a_search(tmp_path):
    study = nas.search(
        (Pictures(), Subset(Pictures(), range(12))), study="mine", store=f"{tmp_path}/nas.db", space="slimmable", **TINY
    )
    assert results.open(f"{tmp_path}/nas.db").settings("mine")["data"].startswith("npz:")
    assert len(study.front())


def items(*values):
    """A Dataset with these items."""
    return type("Items", (Dataset,), {"__len__": lambda _: len(values), "__getitem__": lambda _, row: values[row]})()


IMAGE = torch.zeros(3, 8, 8)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            type("Stream", (IterableDataset,), {"__iter__": iter, "__len__": lambda _: 3})(),
            "must have a length and items by number. Got Stream",
        ),
        (Pictures(lambda image: image.quantize(4)), r"must have a mode of 1, L, .*RGB. Got P in item 0 .*convert"),
        (Pictures(lambda image: image.convert("CMYK")), "Got CMYK in item 0"),
        (items(), "training Dataset must have examples. Got none"),
        (items(IMAGE), "must be an image and its class. Got Tensor in item 0"),
        (items((IMAGE, 0, 1)), "Got 3 values in item 0"),
        (
            items((IMAGE, 0), (torch.zeros(3, 9, 8), 1)),
            r"one shape and type. .* \(3, 9, 8\) float32 in item 1: .*Resize",
        ),
        (items((IMAGE, torch.tensor([0, 1]))), "several labels of an image, .* not supported. Got Tensor in item 0"),
        (items((IMAGE, 0.5)), "numbers to predict are not supported. Got float"),
        (items((SimpleNamespace(), 0)), "x_train must hold numbers"),
        (Pictures(lambda image: torch.rand(3, 8, 8)), "equal whenever it is read.* leave out random transforms"),
        ((items((IMAGE, 0)), items((IMAGE, "cat"))), "Got str in item 0 of the test Dataset"),
    ],
)
def test_what_is_refused(data, message):
    with pytest.raises(DataError, match=message):
        DataInMemory.of(data)


def test_half_precision():
    arrays = DataInMemory.of(items((IMAGE.bfloat16(), 0), (IMAGE.bfloat16(), 1))).arrays
    assert arrays["x_train"].dtype == np.float32


def test_data_of_hugging_face():
    with pytest.raises(UserError, match="Name data of Hugging Face as hf:NAME, or save them by save_to_disk"):
        DataInMemory.of(datasets.Dataset.from_dict({"image": [1], "label": [0]}))


def test_three_datasets():
    with pytest.raises(UserError, match=r"at most two Datasets, for training and testing. Got 3"):
        DataInMemory.of([Pictures()] * 3)
