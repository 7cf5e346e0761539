"""Parquet files, Hugging Face data sets and WebDataset shards: equal images give equal data, whatever they lie in."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from evaluators.data.encoded import cache_root
from evaluators.data.loading import ENCODED, load
from nas.config.naming import IMAGE_FILES
from nas.errors import DataError
from nas.evaluation.loading import absolute_data, data_files

NAMES = ("cat", "dog")
Examples = list[tuple[bytes, int]]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def _examples(seed: int, count: int = 12) -> Examples:
    """Encoded images and labels, in mixed order."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(file, "PNG")
        found.append((file.getvalue(), number * 7 % 12 // 6))
    return found


PARTS = {"train": _examples(0), "test": _examples(1, 6)}


def _table(examples: Examples, *, metadata: bool = True, text: bool = False) -> pa.Table:
    images = [{"bytes": content, "path": None} for content, _ in examples]
    labels = [NAMES[label] if text else label for _, label in examples]
    table = pa.table({"image": images, "label": labels})
    feature = {"names": list(NAMES), "_type": "ClassLabel"}
    described = {"huggingface": json.dumps({"info": {"features": {"label": feature}}})}
    return table.replace_schema_metadata(described if metadata else None)


def _parquet(root: Path, **options: bool) -> str:
    for part, examples in PARTS.items():
        (root / "data").mkdir(parents=True, exist_ok=True)
        half = len(examples) // 2
        for number, some in enumerate((examples[:half], examples[half:])):
            pq.write_table(_table(some, **options), root / "data" / f"{part}-0000{number}-of-00002.parquet")
    return f"parquet:{root}"


def _text(root: Path) -> str:
    return _parquet(root, metadata=False, text=True)


def _webdataset(root: Path, labels: tuple[str, str] = NAMES) -> str:
    root.mkdir()
    for part, examples in PARTS.items():
        with tarfile.open(root / f"{part}-000.tar", "w") as archive:
            for number, (content, label) in enumerate(examples):
                for ending, data in (("png", content), ("cls", labels[label].encode()), ("json", b"{}")):
                    member = tarfile.TarInfo(f"./{number:03}.{ending}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    return f"webdataset:{root}"


def _hugging_face(root: Path) -> str:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(NAMES))})
    parts = {
        part: datasets.Dataset.from_dict(
            {"image": [{"bytes": content, "path": None} for content, _ in examples], "label": [y for _, y in examples]},
            features=features,
        )
        for part, examples in PARTS.items()
    }
    datasets.DatasetDict(parts).save_to_disk(root)
    return f"hf:{root}"


def _hub(root: Path) -> str:
    """A folder as on the Hub: parquet files, which the library converts into its cache."""
    return _parquet(root).replace("parquet", "hf", 1)


@pytest.mark.parametrize("write", [_parquet, _text, _webdataset, _hugging_face, _hub])
def test_equal_images_give_equal_data(tmp_path: Path, write: Callable[[Path], str]) -> None:
    data = load(write(tmp_path / "pets"))
    assert data.class_names == NAMES
    assert isinstance(data.x_train, np.memmap)
    for part, examples in PARTS.items():
        x, y = data.parts[part]
        assert y.tolist() == [label for _, label in examples]
        for image, (content, _) in zip(x, examples, strict=True):
            np.testing.assert_array_equal(image, np.asarray(Image.open(io.BytesIO(content))).transpose(2, 0, 1))


def test_numbers_as_classes_of_shards(tmp_path: Path) -> None:
    data = load(_webdataset(tmp_path / "pets", labels=("0", "1")))
    assert data.class_names == ()
    assert data.y_train.tolist() == [label for _, label in PARTS["train"]]


def test_a_part_of_a_single_file_is_held_out(tmp_path: Path) -> None:
    content = pa.table({"picture": [image for image, _ in PARTS["train"]], "kind": [y for _, y in PARTS["train"]]})
    pq.write_table(content, tmp_path / "all.parquet")
    data = load(f"parquet:{tmp_path}/all.parquet:image=picture,label=kind,size=8,channels=1")
    assert (data.x_train.shape, data.x_test.shape) == ((10, 1, 8, 8), (2, 1, 8, 8))


def test_a_cache_is_used_again_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = _parquet(tmp_path / "pets")
    first = load(spec)
    monkeypatch.setattr("evaluators.data.encoded._pixels", None)
    assert load(spec).fingerprint == first.fingerprint
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pq.write_table(_table(PARTS["test"][3:]), tmp_path / "pets/data/test-00000-of-00002.parquet")
    assert load(spec).fingerprint != first.fingerprint


def _renamed(examples: Examples, names: tuple[str, ...]) -> pa.Table:
    feature = {"names": list(names), "_type": "ClassLabel"}
    described = json.dumps({"info": {"features": {"label": feature}}})
    return _table(examples).replace_schema_metadata({"huggingface": described})


@pytest.mark.parametrize("files", [("train", "test"), ("train-0", "train-1")])
def test_other_orders_of_classes_are_refused(tmp_path: Path, files: tuple[str, str]) -> None:
    for name in ("train", "test"):
        pq.write_table(_renamed(PARTS[name], NAMES), tmp_path / f"{name}.parquet")
    (tmp_path / "train.parquet").rename(tmp_path / "train-0.parquet")
    pq.write_table(_renamed(PARTS["test"], NAMES[::-1]), tmp_path / f"{files[1]}.parquet")
    with pytest.raises(DataError, match=r"same classes in one order. Got others in test|equal columns and classes"):
        load(f"parquet:{tmp_path}")


def test_names_without_images_are_left_out(tmp_path: Path) -> None:
    shifted = [(content, 2 * label) for content, label in PARTS["train"]]
    pq.write_table(_renamed(shifted, ("cat", "cow", "dog")), tmp_path / "all.parquet")
    data = load(f"parquet:{tmp_path}/all.parquet")
    assert data.class_names == NAMES
    assert data.num_classes == 2


@pytest.mark.parametrize("labels", [["cat", "dog"], [False, True]])
def test_categories_and_truth_values(tmp_path: Path, labels: list) -> None:
    column = pa.array([labels[y] for _, y in PARTS["train"]])
    column = column if labels[0] is False else column.dictionary_encode()
    table = _table(PARTS["train"], metadata=False).set_column(1, "label", column)
    pq.write_table(table, tmp_path / "lr=3.parquet")
    data = load(f"parquet:{tmp_path}/lr=3.parquet")
    assert data.class_names == (NAMES if labels[0] else ())
    assert sorted(np.concatenate([data.y_train, data.y_test])) == sorted(y for _, y in PARTS["train"])


def test_parts_in_folders_of_any_depth(tmp_path: Path) -> None:
    for part, examples in PARTS.items():
        folder = tmp_path / "test" / part / "2024"  # the nearest folder counts
        folder.mkdir(parents=True)
        pq.write_table(_table(examples), folder / "A.PARQUET")
    data = load(f"parquet:{tmp_path}")
    assert (len(data.y_train), len(data.y_test)) == (12, 6)


def test_two_names_of_one_part_are_one_part(tmp_path: Path) -> None:
    for name, examples in {"train-0": "train", "training-1": "train", "test": "test"}.items():
        pq.write_table(_table(PARTS[examples]), tmp_path / f"{name}.parquet")
    assert len(load(f"parquet:{tmp_path}").y_train) == 24
    pq.write_table(_table(PARTS["test"]), tmp_path / "extra.parquet")
    with pytest.raises(DataError, match="Got other, test, train: leave the others out"):
        load(f"parquet:{tmp_path}")


def test_two_splits_of_one_part(tmp_path: Path) -> None:
    split = datasets.Dataset.from_dict({"image": [b""], "label": [0]})
    datasets.DatasetDict({"train": split, "val": split, "validation": split}).save_to_disk(tmp_path / "two")
    with pytest.raises(DataError, match=r"one split for each part. Got several for val: train, val, validation"):
        load(f"hf:{tmp_path}/two")
    with pytest.raises(DataError, match=r"has no configurations. Got config=other"):
        load(f"hf:{tmp_path}/two:config=other")


def test_labels_of_two_kinds(tmp_path: Path) -> None:
    pq.write_table(_table(PARTS["train"], metadata=False), tmp_path / "train.parquet")
    pq.write_table(_table(PARTS["test"], metadata=False, text=True), tmp_path / "test.parquet")
    with pytest.raises(DataError, match=r"Labels must be numbers in all parts, or text in all. Got both"):
        load(f"parquet:{tmp_path}")


@pytest.mark.parametrize("kind", ["folder", "parquet", "webdataset", "hf"])
def test_a_name_is_needed(kind: str) -> None:
    with pytest.raises(DataError, match=f"{kind} data need a name, such as {kind}:.* Got none"):
        load(f"{kind}:")


def test_archives_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = _webdataset(tmp_path / "pets")
    first = load(spec)
    monkeypatch.setattr("evaluators.data.shards._examples", None)
    assert load(spec).fingerprint == first.fingerprint
    assert load(spec).class_names == NAMES


def test_what_a_killed_process_has_left_is_removed(tmp_path: Path) -> None:
    spec = _webdataset(tmp_path / "pets")
    load(spec)
    (cache,) = cache_root().glob("pets-*[0-9a-f]")
    left = cache.with_name(f".{cache.name}-left")
    left.mkdir()
    (cache / "about.json").unlink()
    load(spec)
    assert not left.exists()


def test_validation_tests_without_a_test_part(tmp_path: Path) -> None:
    for part in ("train", "validation"):
        pq.write_table(_table(PARTS["train"]), tmp_path / f"{part}.parquet")
    data = load(f"parquet:{tmp_path}")
    assert data.x_val is None
    assert len(data.x_test) == 12


def test_specifications_have_absolute_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert {*IMAGE_FILES, "hf"} == set(ENCODED)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "saved").mkdir()
    assert absolute_data("parquet:a.parquet:label=y") == f"parquet:{tmp_path}/a.parquet:label=y"
    assert absolute_data("hf:ylecun/mnist:size=32") == "hf:ylecun/mnist:size=32"
    assert absolute_data("hf:saved") == f"hf:{tmp_path}/saved"
    assert data_files("webdataset:/pets:size=32", {}) == ("/pets",)


def test_what_is_refused(tmp_path: Path) -> None:
    good = _table(PARTS["train"], metadata=False)
    for name, table in {
        "names": good.rename_columns(["photo", "label"]),
        "list": good.set_column(1, "label", pa.array([[0, 1]] * 12)),
        "float": good.set_column(1, "label", pa.array([0.5] * 12)),
        "null": good.set_column(1, "label", pa.array([None, *[0, 1] * 5, 0], pa.int64())),
        "negative": good.set_column(1, "label", pa.array([-1, 1] * 6)),
        "text": good.set_column(0, "image", pa.array(["x.jpg"] * 12)),
        "empty": good.set_column(0, "image", pa.array([None] * 12, pa.binary())),
        "rows": good.slice(0, 0),
        "broken": good.set_column(0, "image", pa.array([b"no image"] * 12)),
    }.items():
        pq.write_table(table, tmp_path / f"{name}.parquet")
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1 and more")
    (tmp_path / "nothing").mkdir()
    for argument, message in (
        ("missing", "nothing there. Check the path"),
        ("nothing", "must hold .parquet files. Got none"),
        ("names.parquet", r"must have a column of images named image, .* Got photo, label. Name it: image=COLUMN"),
        ("names.parquet:image=foto", "no column 'foto'. Its columns are photo, label"),
        ("list.parquet", "several labels of an image are not supported"),
        ("float.parquet", "Labels must be whole numbers or text. Got double"),
        ("null.parquet", "Every image must have a class. Got rows without one"),
        ("negative.parquet", "Labels must be 0..K-1. Got -1, 1 in the column label"),
        ("rows.parquet", "Every part must have examples. Got none in all"),
        ("text.parquet", "must hold encoded images: bytes, or bytes and path. Got string"),
        ("empty.parquet", "must have the bytes of an image. Got none in row 0 of all: embed the images"),
        ("broken.parquet", "Row 0 of all in parquet:.* must be a whole image"),
        ("damaged.parquet", "must be a whole parquet file, or a folder of them"),
        ("names.parquet:color=3", "Unknown option of parquet 'color'"),
    ):
        with pytest.raises(DataError, match=message):
            load(f"parquet:{tmp_path / argument}")


def test_data_that_are_not_on_this_machine() -> None:
    with pytest.raises(DataError, match=r"hf:someone/nowhere must be in the cache of Hugging Face"):
        load("hf:someone/nowhere")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.png": PARTS["train"][0][0]}, r"must have an image .* and its class \(.cls\). Got .png in .*000.tar: a"),
        ({"a.cls": b"0"}, r"Got .cls in .*: a"),
        ({"a.png": b"", "a.cls": b"\xff"}, "must be a number or text in UTF-8"),
    ],
)
def test_incomplete_examples_of_shards(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    with tarfile.open(tmp_path / "000.tar", "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    with pytest.raises(DataError, match=message):
        load(f"webdataset:{tmp_path}")


@pytest.mark.parametrize("label", ["²", "1" * 25])
def test_odd_classes_of_shards_are_text(tmp_path: Path, label: str) -> None:
    assert load(_webdataset(tmp_path / "pets", labels=(label, "dog"))).class_names == tuple(sorted((label, "dog")))


def test_an_archive_without_examples(tmp_path: Path) -> None:
    tarfile.open(tmp_path / "000.tar", "w").close()
    with pytest.raises(DataError, match=r"Every part must have examples. Got none in all"):
        load(f"webdataset:{tmp_path}")


def test_a_damaged_shard(tmp_path: Path) -> None:
    (tmp_path / "000.tar").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"000.tar must be a whole tar archive"):
        load(f"webdataset:{tmp_path}")
