"""Label hierarchies: coarse labels in arrays, mapping files, and one clear line for every mistake in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluators.data.datasets import Dataset, from_arrays
from evaluators.data.hierarchy import read_mapping
from evaluators.data.loading import load
from nas.errors import DataError

Y = np.arange(60) % 6
X = np.random.default_rng(0).integers(0, 256, size=(60, 4, 4), dtype=np.uint8)
PAIRS, THIRDS = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 0, 0, 1, 1])
NAMES = ("cat", "dog", "oak", "elm", "car", "bus")


def made(**extras: Any) -> Dataset:
    return from_arrays(X, Y, X[:12], Y[:12], layout="NHW", **extras)


def mapping(tmp_path, content: Any) -> str:
    path = tmp_path / "hierarchy.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_coarse_labels_tell_the_hierarchy() -> None:
    assert made().task.hierarchy == ()
    assert made(y_train_coarse=PAIRS[Y]).task.hierarchy == (tuple(PAIRS),)
    both = np.stack([PAIRS[Y], THIRDS[Y]], axis=1)
    assert made(y_train_coarse=both, y_test_coarse=both[:12]).task.hierarchy == (tuple(PAIRS), tuple(THIRDS))


@pytest.mark.parametrize(
    ("extras", "said"),
    [
        ({"y_train_coarse": PAIRS[Y][:-1]}, "y_train_coarse must have a label for each of the 60 examples. Got 59"),
        ({"y_train_coarse": np.where(np.arange(60) == 9, 2, PAIRS[Y])}, "Got 1, 2 for class 3. Check that the labels"),
        ({"y_train_coarse": np.zeros((60, 1, 2))}, "y_train_coarse must have shape (N,), or (N, H)"),
        ({"y_train_coarse": np.where(PAIRS[Y] == 2, 3, PAIRS[Y])}, "a coarse label 0..n-1, and use all n"),
        ({"y_train_coarse": np.zeros(60, int)}, "at least two. Got 6, 1 labels"),
        ({"y_train_coarse": PAIRS[Y] + 0.5}, "y_train_coarse must hold whole numbers"),
        ({"y_train_coarse": PAIRS[Y], "y_test_coarse": THIRDS[Y][:12]}, "y_test_coarse must give every class the"),
        ({"y_train_coarse": PAIRS[Y], "y_test_coarse": PAIRS[Y]}, "y_test_coarse must give every class the"),
        ({"y_test_coarse": PAIRS[Y][:12]}, "y_test_coarse needs coarse labels of the training examples too"),
        ({"y_train_coarse": np.ma.masked_equal(PAIRS[Y], 2)}, "y_train_coarse must have no masked entries"),
        ({"class_names": ("a", "b")}, "class_names must be 6 different names"),
        ({"class_names": list("aabcde")}, "class_names must be 6 different names"),
    ],
)
def test_mistakes_in_arrays(extras: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError) as caught:
        made(**extras)
    assert said in str(caught.value)


@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_files_may_hold_coarse_labels_and_names(tmp_path, kind: str) -> None:
    arrays = {"x_train": X, "y_train": Y, "x_test": X[:12], "y_test": Y[:12]}
    extras = {"y_train_coarse": PAIRS[Y], "y_test_coarse": PAIRS[Y[:12]], "class_names": np.array(NAMES)}
    if kind == "npz":
        np.savez(tmp_path / "data.npz", **arrays, **extras)
    for name, array in (arrays | extras).items():
        np.save(tmp_path / f"{name}.npy", array)
    spec = f"npz:{tmp_path / 'data.npz'}" if kind == "npz" else f"npy:{tmp_path}"
    found = load(spec, layout="NHW")
    assert (found.task.hierarchy, found.class_names) == ((tuple(PAIRS),), NAMES)
    file = mapping(tmp_path, dict(zip(NAMES, ["living"] * 4 + ["thing"] * 2)))
    assert load(spec, layout="NHW", hierarchy=file).task.hierarchy == (tuple(THIRDS),)  # in place of the data's own


def test_the_hierarchy_is_part_of_the_data() -> None:
    """A study whose labels were grouped otherwise is another study."""
    found = [made(), made(y_train_coarse=PAIRS[Y]), made(y_train_coarse=THIRDS[Y])]
    assert len({data.fingerprint for data in found}) == 3
    assert made(class_names=NAMES).fingerprint == made().fingerprint


@pytest.mark.parametrize(
    "given",
    [
        {str(label): int(coarse) for label, coarse in enumerate(PAIRS)},
        {str(label): f"group {coarse}" for label, coarse in enumerate(PAIRS)},
        {name: ["animal", "plant", "vehicle"][coarse] for name, coarse in zip(NAMES, PAIRS)},
        {"bus": 2, "1": 0, "cat": 0, "elm": 1, "2": 1, "4": 2},
    ],
)
def test_mapping_files_name_classes_by_number_or_name(tmp_path, given: dict[str, Any]) -> None:
    assert read_mapping(mapping(tmp_path, given), 6, NAMES) == tuple(PAIRS)


def test_a_mark_at_the_beginning_of_a_file_is_no_mistake(tmp_path) -> None:
    path = tmp_path / "windows.json"
    path.write_text(json.dumps(dict(zip("012345", map(int, PAIRS)))), encoding="utf-8-sig")
    assert read_mapping(path, 6) == tuple(PAIRS)


def test_coarse_numbers_keep_their_order_beyond_nine(tmp_path) -> None:
    assert read_mapping(mapping(tmp_path, {"0": 10, "1": 9, "2": 10}), 3) == (1, 0, 1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"0": 0, "1": "0", "2": "1"}, (0, 0, 1)),
        ({"0": 10, "1": "9", "2": "10"}, (1, 0, 1)),
        ({"0": -1, "1": 0, "2": "-1"}, (0, 1, 0)),
        ({"0": "a ", "1": "b", "2": "a"}, (0, 1, 0)),
        ({"0": "caf\u00e9", "1": "cafe\u0301", "2": "bar"}, (1, 1, 0)),
        ({"0": 10**30, "1": 5, "2": 10**30}, (1, 0, 1)),
    ],
)
def test_a_label_that_is_written_in_two_ways_is_one_group(tmp_path, given, expected) -> None:
    assert read_mapping(mapping(tmp_path, given), 3) == expected


def test_the_groups_of_cifar100() -> None:
    """As published: 20 groups of 5; classes and groups are numbered in alphabetical order there, too."""
    path = Path(__file__).resolve().parents[3] / "examples" / "cifar100.json"
    names = sorted(json.loads(path.read_text()))
    found = read_mapping(path, 100, names)
    assert np.bincount(found).tolist() == [5] * 20
    assert found[:10] == (4, 1, 14, 8, 0, 6, 7, 7, 18, 3)
    assert found[90:] == (18, 1, 2, 15, 6, 0, 17, 8, 14, 13)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "must hold a JSON object with the coarse label of every class, such as {"),
        ("[" * 100_000, "It cannot be read"),
        ("[0, 0, 1]", "Got a list."),
        ("7", "Got a int."),
        ({"0": "a", "1": "b"}, "Missing: 2, 3, 4, 5."),
        ({"0": "a"}, "Missing: 1, 2, 3, 4, 5."),
        ({"0": "a", "1": ["b"]}, "a name or a whole number. Got [\"b\"] for '1'"),
        ({"0": "a", "1": {"b": 1}}, "a name or a whole number"),
        ({"0": 0.5}, "a name or a whole number. Got 0.5"),
        ({"0": True}, "a name or a whole number. Got true"),
        ({"0": "a", "6": "b"}, "Unknown class '6'."),
        ({"-1": "a"}, "Unknown class '-1'."),
        ({"9" * 5000: "a"}, "Unknown class '99"),
        ({"zebra": "a"}, "Valid: 0, 1, 2, 3, 4, 5."),
        ('{"0": "a", "0": "b"}', "Got class 0 twice, the second time as '0'"),
        ('{"0": "a", "00": "b"}', "Got class 0 twice, the second time as '00'"),
        (dict.fromkeys("012345", "all"), "at least 2 coarse labels, and fewer than the 6 classes. Got 1"),
        ({n: n for n in "012345"}, "fewer than the 6 classes. Got 6. Join some classes"),
    ],
)
def test_mistakes_in_a_mapping_file_are_one_line(tmp_path, content: Any, said: str) -> None:
    path = mapping(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read_mapping(path, 6)
    assert said in str(caught.value)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_names_list_the_known_and_missing_ones_are_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"Unknown class 'dogg'. Did you mean 'dog'\? Valid: bus, car, cat"):
        read_mapping(mapping(tmp_path, {"dogg": 1}), 6, NAMES)
    with pytest.raises(DataError, match=r"Missing: cat, oak, elm, car, bus\."):
        read_mapping(mapping(tmp_path, {"dog": 1}), 6, NAMES)
    with pytest.raises(DataError, match=r"Missing: 1, 2, 3, 4, 5, and 4 more\."):
        read_mapping(mapping(tmp_path, {"0": 1}), 10)


def test_a_file_that_is_not_there_or_no_text(tmp_path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none.json", tmp_path, tmp_path / "binary"):
        with pytest.raises(DataError, match="It cannot be read"):
            read_mapping(path, 6)
