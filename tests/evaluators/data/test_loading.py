"""Data specs: files good and broken, torchvision, plug-ins; every mistake is one line that names the way out."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from evaluators.data import arrays
from evaluators.data.datasets import from_arrays
from evaluators.data.loading import load_data
from nas.errors import DataError, PluginError

Y = np.arange(30) % 3
X = np.random.default_rng(0).integers(0, 256, size=(30, 12, 10, 3), dtype=np.uint8)
ARRAYS = {"x_train": X, "y_train": Y, "x_test": X[:9], "y_test": Y[:9]}


def refuses(spec, message, **settings):
    with pytest.raises(DataError) as caught:
        load_data(str(spec), **settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def save(folder, **arrays):
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


# npz -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_npz(tmp_path, write):
    write(tmp_path / "a.npz", **ARRAYS)
    data = load_data(f"npz:{tmp_path / 'a.npz'}")
    np.testing.assert_array_equal(data.x_train, X.transpose(0, 3, 1, 2))
    assert (len(data.x_test), isinstance(data.x_train, np.memmap), data.num_classes) == (9, False, 3)
    assert data.fingerprint == from_arrays(*ARRAYS.values()).fingerprint


def test_npz_without_a_test_set(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=X, y_train=Y)
    assert len(load_data(f"npz:{tmp_path / 'a.npz'}").x_test) == 6


def test_layout_reaches_files(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=X[:, :3], y_train=Y)
    refuses(f"npz:{tmp_path / 'a.npz'}", "--layout NCHW|NHWC|NHW settles it")
    assert load_data(f"npz:{tmp_path / 'a.npz'}", layout="NHWC").x_train.shape[1:] == (3, 3, 10)


class Explosive:
    """Ends the test if it is ever unpickled."""

    def __reduce__(self):
        return (exit, (1,))


def test_npz_that_is_broken(tmp_path):
    whole = tmp_path / "whole.npz"
    np.savez_compressed(whole, **ARRAYS)
    content = whole.read_bytes()
    flipped = bytearray(content)
    flipped[2000] ^= 0xFF
    for name, broken in {"empty": b"", "text": b"x_train,y_train\n", "half": content[: len(content) // 2]}.items():
        (tmp_path / name).write_bytes(broken)
        refuses(f"npz:{tmp_path / name}", "must hold whole arrays of numbers")
    (tmp_path / "flipped").write_bytes(bytes(flipped))
    refuses(f"npz:{tmp_path / 'flipped'}", "must hold whole arrays of numbers")
    np.save(tmp_path / "one.npy", X)
    refuses(f"npz:{tmp_path / 'one.npy'}", "a single array")
    refuses(f"npz:{tmp_path / 'absent.npz'}", "nothing there. Check the path")
    refuses(f"npz:{tmp_path}", "a folder. Check the path")
    refuses("npz:", "npz data must be a file, npz:FILE")


def test_npz_is_never_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=np.array([Explosive()], dtype=object), y_train=Y)
    refuses(f"npz:{tmp_path / 'a.npz'}", "never unpickled")
    np.savez(tmp_path / "b.npz", x_train=X, y_train=np.array([Explosive()], dtype=object))
    refuses(f"npz:{tmp_path / 'b.npz'}", "never unpickled")


def test_npz_with_other_names(tmp_path):
    np.savez(tmp_path / "a.npz", images=X, labels=Y)
    refuses(f"npz:{tmp_path / 'a.npz'}", "Got images, labels, without x_train, y_train")
    np.savez(tmp_path / "b.npz", x_train=X, y_train=Y, x_test=X)
    refuses(f"npz:{tmp_path / 'b.npz'}", "without y_test")


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"x_valid": X, "y_valid": Y}, ["Unknown array 'x_valid'", "Did you mean 'x_val'", "would be ignored"]),
        ({"mask": X > 3}, ["Unknown array 'mask'", "leave it out"]),
    ],
)
@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_arrays_that_would_be_ignored_are_refused(tmp_path, kind, extra, words):
    folder = save(tmp_path / "folder", **ARRAYS, **extra)
    np.savez(tmp_path / "a.npz", **ARRAYS, **extra)
    for word in words:
        refuses(f"npz:{tmp_path / 'a.npz'}" if kind == "npz" else f"npy:{folder}", word)


# npy -------------------------------------------------------------------------------------------------------------


def test_npy_stays_on_disk(tmp_path):
    data = load_data(f"npy:{save(tmp_path / 'a', **ARRAYS)}")
    assert isinstance(data.x_train, np.memmap)
    assert isinstance(data.x_train, np.memmap)
    assert data.x_train.shape == (30, 3, 12, 10)
    assert data.fingerprint == from_arrays(*ARRAYS.values()).fingerprint
    assert not isinstance(data.y_train, np.memmap)


def test_npy_of_grey_images_and_channels_first(tmp_path):
    grey = load_data(f"npy:{save(tmp_path / 'grey', **ARRAYS | {'x_train': X[..., 0], 'x_test': X[:9, ..., 0]})}")
    assert grey.x_train.shape == (30, 1, 12, 10)
    first = X.transpose(0, 3, 1, 2).astype(np.float32)
    data = load_data(f"npy:{save(tmp_path / 'first', **ARRAYS | {'x_train': first, 'x_test': first[:9]})}")
    assert isinstance(data.x_train, np.memmap)


def test_npy_that_is_refused(tmp_path, monkeypatch):
    refuses(f"npy:{tmp_path / 'absent'}", "npy data must be a folder, npy:FOLDER")
    refuses(f"npy:{save(tmp_path / 'empty')}", "Got nothing, without x_train, y_train")
    refuses(f"npy:{save(tmp_path / 'two', x_train=X, y_train=Y)}", "Images on disk need a test set")
    refuses(f"npy:{save(tmp_path / 'wide', **ARRAYS | {'x_train': X / 1.0})}", "on disk must be uint8 or float32")
    folder = save(tmp_path / "objects", **ARRAYS | {"x_test": np.array([Explosive()], dtype=object)})
    refuses(f"npy:{folder}", "must hold whole arrays of numbers")
    folder = save(tmp_path / "labels", **ARRAYS | {"y_test": np.array([Explosive()], dtype=object)})
    refuses(f"npy:{folder}", "never unpickled")
    (save(tmp_path / "text", **ARRAYS) / "x_train.npy").write_text("no array")
    refuses(f"npy:{tmp_path / 'text'}", "never unpickled")
    (save(tmp_path / "cut", **ARRAYS) / "x_train.npy").write_bytes((tmp_path / "cut/x_train.npy").read_bytes()[:500])
    refuses(f"npy:{tmp_path / 'cut'}", "must hold whole arrays of numbers")
    nan = X.astype(np.float32)
    nan[-1, -1, -1, -1] = np.nan
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 5000)  # several chunks
    folder = save(tmp_path / "nan", **ARRAYS | {"x_train": nan, "x_test": X[:9].astype(np.float32)})
    refuses(f"npy:{folder}", "x_train must be finite")


# Built-in --------------------------------------------------------------------------------------------------------


def test_built_in():
    assert load_data("digits").name == "digits"
    assert load_data("synthetic").x_train.shape == (1600, 3, 16, 16)
    data = load_data("synthetic:n=60,classes=4,size=8,channels=1,seed=5")
    assert (data.x_train.shape[1:], data.num_classes, len(data.x_train) + len(data.x_test)) == ((1, 8, 8), 4, 60)
    assert data.name == "synthetic:n=60,classes=4,size=8,channels=1,seed=5"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digit", "Unknown data 'digit'. Did you mean 'digits'?"),
        ("", "npz:FILE"),
        ("cifar.npz", "A file needs its kind: npz:cifar.npz."),
        ("imagenet:train", "torchvision:NAME[:ROOT]"),
        ("digits:8", "digits has no options"),
        ("synthetic:colour=3", "Unknown option of synthetic 'colour'"),
        ("synthetic:n", "Got 'n'. Write n=2000"),
        ("synthetic:n=-5", "Options of synthetic are whole numbers"),
        ("synthetic:n=5", "n ≥ 3·classes"),
        ("synthetic:n=50,n=60", "Got n twice"),
        ("synthetic:classes=1", "classes ≥ 2"),
        ("synthetic:size=2", "size ≥ 4"),
        ("synthetic:channels=0", "channels ≥ 1"),
        ("synthetic:n=99999999999", "n·channels·size² ≤ 2³⁰"),
        ("torchvision", "Unknown torchvision data set ''"),
        ("torchvision:ImageNet", "Unknown torchvision data set 'ImageNet'"),
    ],
)
def test_specs_that_are_refused(spec, message):
    refuses(spec, message)


@pytest.mark.parametrize("spec", ["digits", "synthetic", "torchvision:MNIST"])
def test_layout_is_refused_where_it_is_known(spec):
    refuses(spec, "Leave --layout out", layout="NHWC")


# torchvision -----------------------------------------------------------------------------------------------------


@pytest.fixture
def torchvision(monkeypatch):
    """A stand-in with torchvision's behaviour: absent files are a RuntimeError, then a download; returns its calls."""
    calls: list[tuple[str, dict]] = []
    present: set[str] = set()

    def maker(name, x, targets):
        def make(root, *, download, **which):
            calls.append((name, {"root": str(root), "download": download, **which}))
            if not download and name not in present:
                raise RuntimeError("Dataset not found.\nYou can use download=True to download it")
            if str(root).endswith("offline"):
                raise OSError("no route to host")
            present.add(name)
            return types.SimpleNamespace(data=x, **{targets: Y.tolist()})

        return make

    datasets = types.SimpleNamespace(
        MNIST=maker("MNIST", X[..., 0], "targets"),
        CIFAR10=maker("CIFAR10", X, "targets"),
        FashionMNIST=maker("FashionMNIST", X[..., 0], "targets"),
        SVHN=maker("SVHN", X.transpose(0, 3, 1, 2), "labels"),
    )
    module = types.ModuleType("torchvision")
    module.datasets = datasets  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", module)
    return calls


@pytest.mark.parametrize(("name", "channels"), [("MNIST", 1), ("CIFAR10", 3), ("SVHN", 3)])
def test_torchvision(torchvision, tmp_path, name, channels):
    data = load_data(f"torchvision:{name}:{tmp_path}")
    assert data.x_train.shape == (30, channels, 12, 10)
    assert [call["download"] for _, call in torchvision] == [False, True, False]
    assert all(call["root"] == str(tmp_path) for _, call in torchvision)
    last = torchvision[-1][1]
    assert last.get("split") == "test" if name == "SVHN" else last["train"] is False


def test_only_photographs_are_known_to_keep_their_class_when_mirrored(torchvision, tmp_path):
    invariant = {
        n: load_data(f"torchvision:{n}:{tmp_path}").mirror_invariant for n in ("CIFAR10", "SVHN", "FashionMNIST")
    }
    assert invariant == {"CIFAR10": True, "SVHN": False, "FashionMNIST": False}


def test_torchvision_without_a_network(torchvision, tmp_path):
    refuses(f"torchvision:MNIST:{tmp_path / 'offline'}", "OSError: no route to host. Put it there")


def test_torchvision_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    refuses("torchvision:CIFAR10", "pip install torchvision")


# Plug-ins --------------------------------------------------------------------------------------------------------

PLUGIN = """
import numpy as np
from evaluators.data.datasets import from_arrays
Y = np.arange(30) % 3
X = np.zeros((30, 12, 10), np.uint8)

def dataset(): return from_arrays(X, Y)
def two(): return X, Y
def four(): return X, Y, X, Y
def three(): return X, Y, X
def named(): return {"x_train": X, "y_train": Y, "x_val": X, "y_val": Y}
def unknown(): return {"x_train": X, "y_train": Y, "x_valid": X}
def nonsense(): return "cifar"
def raises(): raise KeyError("no such thing\\nat all")
def needs(argument): return X, Y
def bad(): return X, Y - 1
ready = from_arrays(X, Y, name="ready")
"""


@pytest.fixture
def plugin(tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    return lambda name: f"{tmp_path / 'mine.py'}:{name}"


@pytest.mark.parametrize("name", ["dataset", "two", "four", "named", "ready"])
def test_plugin(plugin, name):
    assert load_data(plugin(name)).x_train.shape[1:] == (1, 12, 10)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("three", "must return a Dataset or arrays (x_train, y_train[, x_test, y_test]). Got a tuple of 3"),
        ("unknown", "Unknown array 'x_valid'"),
        ("nonsense", "Got str"),
        ("raises", "failed. Got KeyError: 'no such thing"),
        ("needs", "failed. Got TypeError"),
        ("bad", "Labels must not be negative"),
    ],
)
def test_plugin_that_is_refused(plugin, name, message):
    refuses(plugin(name), message)
    refuses(plugin(name), f"{plugin(name)!r}")


def test_layout_and_plugins(plugin):
    assert load_data(plugin("two"), layout="NHW").x_train.shape[1:] == (1, 12, 10)
    refuses(plugin("ready"), "Leave --layout out", layout="NHW")


def test_plugin_that_is_not_there(plugin):
    with pytest.raises(PluginError):
        load_data(plugin("absent"))
