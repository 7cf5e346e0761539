"""Standardisation and batches: exact statistics, the same bits from memory and disk, none that batch norm refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evaluators.data.augmentation import Augmentation
from evaluators.data.batches import batches
from nas.errors import DataError
from nas.execution import preprocessing
from nas.execution.preprocessing import Preprocessing

RNG = np.random.default_rng(0)
Y = np.arange(50) % 5
X = RNG.integers(0, 256, size=(50, 3, 6, 8), dtype=np.uint8)
PLAIN = Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3, scale=1 / 255)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def on_disk(folder, x):
    np.save(folder / "x.npy", x)
    return np.load(folder / "x.npy", mmap_mode="r")


# Standardisation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_bytes", [1, 500, 2**22])
@pytest.mark.parametrize(
    "x",
    [X, X.astype(np.float32), RNG.normal(1e4, 1, size=(50, 2, 3, 4, 5)).astype(np.float32)],
    ids=["u", "f", "video"],
)
def test_statistics_are_exact_however_they_are_chunked(monkeypatch, x, chunk_bytes):
    monkeypatch.setattr(preprocessing, "CHUNK_BYTES", chunk_bytes)
    axes = (0, *range(2, x.ndim))
    scaled = x.astype(np.float64) / (255 if x.dtype == np.uint8 else 1)
    fitted = Preprocessing.fit(x)
    np.testing.assert_allclose(fitted.mean, scaled.mean(axes), rtol=1e-12)
    np.testing.assert_allclose(fitted.std, scaled.std(axes), rtol=1e-9)
    some = Preprocessing.fit(x, rows=np.array([3, 1, 4]))
    np.testing.assert_allclose(some.mean, scaled[[3, 1, 4]].mean(axes), rtol=1e-12)


def test_statistics_of_a_memmap(tmp_path):
    assert Preprocessing.fit(on_disk(tmp_path, X)) == Preprocessing.fit(X)


def test_constant_channels_do_not_explode():
    black, one_grey = np.zeros((4, 1, 5, 5), np.uint8), np.full((4, 1, 5, 5), 7.3, np.float32)
    assert Preprocessing.fit(black).std == (1 / 255,)
    assert Preprocessing.fit(one_grey).std == (1.0,)
    assert torch.equal(Preprocessing.fit(black)(torch.from_numpy(black)), torch.zeros(4, 1, 5, 5))
    tiny = RNG.normal(0, 1e-9, size=(4, 1, 5, 5)).astype(np.float32)
    assert Preprocessing.fit(tiny).std[0] == pytest.approx(1e-9, rel=0.5)


@pytest.mark.parametrize("shape", [(9, 1, 6, 8), (9, 3, 6, 8), (9, 3, 1, 1), (1, 4, 5, 1), (9, 3, 4, 6, 8)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_standardised_against_the_definition(shape, dtype):
    raw = torch.randint(0, 256, shape, generator=generator()).to(dtype)
    kept = raw.clone()
    numpy = raw.to(torch.uint8 if dtype == torch.uint8 else torch.float32).numpy()
    fitted = Preprocessing.fit(numpy)
    mean, std = (np.reshape(value, (-1,) + (1,) * (len(shape) - 2)) for value in (fitted.mean, fitted.std))
    out = fitted(raw)
    np.testing.assert_allclose(out.numpy(), (numpy * fitted.scale - mean) / std, rtol=1e-5, atol=1e-5)
    assert out.dtype == torch.float32
    assert len(shape) == 5 or out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(raw, kept)


def test_standardised_alike_from_any_strides_and_in_any_company():
    fitted = Preprocessing.fit(X)
    raw = torch.from_numpy(X)
    last = torch.from_numpy(np.ascontiguousarray(X.transpose(0, 2, 3, 1))).permute(0, 3, 1, 2)
    assert torch.equal(fitted(raw), fitted(last))
    assert torch.equal(fitted(raw)[7:9], fitted(raw[7:9]))


def test_gradients_pass_through():
    x = torch.ones(2, 1, 3, 3, requires_grad=True)
    Preprocessing(mean=(1.0,), std=(2.0,), scale=1.0)(x).sum().backward()
    assert torch.equal(x.grad, torch.full((2, 1, 3, 3), 0.5))


def test_json_is_exact():
    fitted = Preprocessing.fit(X)
    assert Preprocessing.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted


@pytest.mark.parametrize(
    "data",
    [
        {},
        None,
        {"mean": [0], "std": [1]},
        {"mean": [0], "std": [1], "scale": 1, "bias": 2},
        {"mean": [0], "std": [0], "scale": 1},
        {"mean": [0, 1], "std": [1], "scale": 1},
        {"mean": [], "std": [], "scale": 1},
        {"mean": ["grey"], "std": [1], "scale": 1},
        {"mean": [float("nan")], "std": [1], "scale": 1},
        {"mean": [0], "std": [1], "scale": -1},
    ],
)
def test_json_that_is_refused(data):
    with pytest.raises(DataError, match=r"^Preprocessing needs a? ?mean"):
        Preprocessing.from_json(data)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 1, 6, 8, dtype=torch.uint8), "Images must be (B, 3, H, W)"),
        (torch.zeros(3, 6, 8, dtype=torch.uint8), "Got shape (3, 6, 8)"),
        (torch.zeros(2, 3, 6, 8), "Images must be integers, 0 to 255, as in training. Got torch.float32"),
        (torch.full((2, 3, 6, 8), 256), "must lie in 0..255"),
    ],
)
def test_images_that_are_refused(images, message):
    with pytest.raises(DataError) as caught:
        PLAIN(images)
    assert message in str(caught.value)
    with pytest.raises(DataError, match="Images must be floats"):
        Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3, scale=1.0)(torch.zeros(2, 3, 6, 8, dtype=torch.uint8))


def test_no_images_have_no_statistics():
    with pytest.raises(DataError, match="at least one image"):
        Preprocessing.fit(X, rows=np.array([], dtype=int))


# Batches ---------------------------------------------------------------------------------------------------------


def indices(loader, epochs=1, seed=0):
    """What `train` yields of examples that carry their number, batch by batch."""
    source = generator(seed)
    return [x[:, 0, 0, 0].mul(255).round().int().tolist() for _ in range(epochs) for x, _ in loader.train(source)]


def numbered(n, size):
    x = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 3, 2, 2))
    return batches(x, np.arange(n), size=size, preprocessing=PLAIN)


@given(st.integers(2, 200), st.integers(2, 250))
def test_training_batches(n, size):
    loader = numbered(n, size)
    epoch = indices(loader)
    lengths = [len(batch) for batch in epoch]
    seen = [number for batch in epoch for number in batch]
    effective = min(size, n)
    assert len(set(seen)) == len(seen) > n - effective
    assert lengths[:-1] == [effective] * (len(lengths) - 1)
    assert 2 <= lengths[-1] <= effective
    assert 2 * lengths[-1] >= effective
    assert len(seen) == n or n - len(seen) < max(2, effective / 2)
    assert loader.steps == len(lengths)


def test_evaluation_sees_every_example_once_in_order():
    loader = numbered(21, 10)
    parts = list(loader.evaluate())
    assert [len(y) for _, y in parts] == [10, 10, 1]
    assert torch.cat([y for _, y in parts]).tolist() == list(range(21))
    assert len(loader) == 21


def test_epochs_are_permutations_of_the_generator():
    loader = numbered(20, 5)
    first, second = indices(loader), indices(loader)
    assert first == second != indices(loader, seed=1)
    two = indices(loader, epochs=2)
    assert two[:4] == first
    assert two[4:] != first


@pytest.mark.parametrize(("n", "size"), [(1, 8), (20, 1)])
def test_batch_norm_never_sees_a_single_example(n, size):
    loader = numbered(n, size)
    with pytest.raises(DataError, match="2 examples or more"):
        loader.train(generator()).__next__()
    assert len(list(loader.evaluate())) == n


@pytest.mark.parametrize(("size", "labels"), [(0, Y), (5, Y[:49])])
def test_batches_that_are_refused(size, labels):
    with pytest.raises(DataError, match="Batches need size ≥ 1 and a label"):
        batches(X, labels, size=size, preprocessing=PLAIN)


@pytest.mark.parametrize("form", ["first", "last", "float", "video"])
def test_memory_and_disk_give_the_same_bits(tmp_path, form):
    x = {"float": X.astype(np.float32), "video": X.reshape(50, 3, 2, 3, 8)}.get(form, X)
    stored = on_disk(tmp_path, x.transpose(0, 2, 3, 1) if form == "last" else x)
    stored = np.moveaxis(stored, -1, 1) if form == "last" else stored
    assert isinstance(stored, np.memmap)
    settings = {
        "size": 8,
        "preprocessing": Preprocessing.fit(x),
        "augment": Augmentation(pad=(1, 1), flip=True),
        "rows": np.arange(1, 50, 2),
    }
    memory, disk = batches(x, Y, **settings), batches(stored, Y, **settings)
    one, two = generator(), generator()
    state = torch.get_rng_state()
    for _ in range(2):
        epochs = list(memory.train(one)), list(disk.train(two))
        assert len(epochs[0]) == len(epochs[1]) == memory.steps == disk.steps == 3
        for (x_a, y_a), (x_b, y_b) in zip(*epochs, strict=True):
            assert torch.equal(x_a, x_b)
            assert torch.equal(y_a, y_b)
    for (x_a, y_a), (x_b, y_b) in zip(memory.evaluate(), disk.evaluate(), strict=True):
        assert torch.equal(x_a, x_b)
        assert torch.equal(y_a, y_b)
    assert torch.equal(one.get_state(), two.get_state())
    assert torch.equal(state, torch.get_rng_state())


def test_rows_choose_examples_and_labels_stay_with_them():
    rows = np.array([7, 3, 11, 30])
    ((x, y),) = batches(X, Y, size=10, preprocessing=PLAIN, rows=rows).evaluate()
    assert torch.equal(x, PLAIN(torch.from_numpy(X[rows])))
    assert y.tolist() == Y[rows].tolist()


def test_memory_is_shared_where_possible():
    assert batches(X, Y, size=5, preprocessing=PLAIN).source.x_NCS.data_ptr() == X.ctypes.data
    reverse = batches(X[::-1], Y[::-1], size=50, preprocessing=PLAIN)
    assert torch.equal(next(reverse.evaluate())[0], PLAIN(torch.from_numpy(X)).flip(0))
