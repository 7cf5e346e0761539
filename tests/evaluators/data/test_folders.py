"""Folders of image files: what is found, decoded and cached, and what is refused."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluators.data.encoded import cache_root
from evaluators.data.folders import load_folder
from evaluators.data.loading import load
from nas.errors import DataError, EnvironmentFault
from nas.evaluation.loading import absolute_data, data_files


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _save(path: Path, pixels: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def _fill(root: Path, *, parts=("train", "test"), size=(20, 30), grey=False, each=4) -> None:
    """Images of one value per class and number."""
    for part in parts:
        for label, name in enumerate(("cat", "dog")):
            for number in range(each):
                pixels = np.full(size if grey else (*size, 3), 100 * label + 10 * number % 100, np.uint8)
                _save(root / part / name / f"{number}.png", pixels)


@pytest.mark.parametrize(("grey", "channels"), [(True, 1), (False, 3)])
def test_images_in_train_and_test(tmp_path: Path, grey: bool, channels: int) -> None:
    _fill(tmp_path / "pets", grey=grey)
    data = load(f"folder:{tmp_path / 'pets'}:size=16")
    assert data.x_train.shape == (8, channels, 16, 16)
    assert isinstance(data.x_train, np.memmap)
    assert data.class_names == ("cat", "dog")
    assert data.y_train.tolist() == data.y_test.tolist() == [0] * 4 + [1] * 4
    assert data.x_train[:, 0, 5, 5].tolist() == [0, 10, 20, 30, 100, 110, 120, 130]
    assert len(list(cache_root().glob("pets-*"))) == 2  # with its lock


def test_a_part_is_held_out_without_parts(tmp_path: Path) -> None:
    _fill(tmp_path, parts=(".",), each=10)
    data = load_folder(str(tmp_path))
    assert (len(data.y_train), len(data.y_test)) == (16, 4)
    assert np.bincount(data.y_test).tolist() == [2, 2]
    seen = sorted(
        (int(x[0, 0, 0]), int(y)) for x, y in [*zip(data.x_train, data.y_train), *zip(data.x_test, data.y_test)]
    )
    assert seen == sorted((100 * label + 10 * number, label) for label in (0, 1) for number in range(10))


def test_small_images_of_one_size_stay_and_others_become_squares(tmp_path: Path) -> None:
    _fill(tmp_path / "one", size=(20, 30))
    assert load_folder(str(tmp_path / "one")).x_train.shape[2:] == (20, 30)
    _fill(tmp_path / "large", size=(70, 50))
    assert load_folder(str(tmp_path / "large")).x_train.shape[2:] == (64, 64)
    _fill(tmp_path / "mixed")
    _save(tmp_path / "mixed/train/cat/other.PNG", np.zeros((9, 9, 3), np.uint8))
    assert load_folder(str(tmp_path / "mixed")).x_train.shape == (9, 3, 64, 64)


def test_the_middle_is_cut_out_and_images_stand_upright(tmp_path: Path) -> None:
    _fill(tmp_path, size=(40, 40))
    wide = np.zeros((40, 80, 3), np.uint8)
    wide[:, 20:60] = 200  # the middle square
    _save(tmp_path / "train/cat/wide.png", wide)
    turned = np.zeros((40, 40, 3), np.uint8)
    turned[:20] = 250  # the upper half; the tag says that it belongs to the right
    exif = Image.Exif()
    exif[0x0112] = 6
    _save(tmp_path / "train/cat/turned.jpg", turned, exif=exif, quality=95)
    data = load_folder(f"{tmp_path}:size=40")
    by_name = dict(zip(["0", "1", "2", "3", "turned", "wide"], data.x_train))
    assert (by_name["wide"] == 200).all()
    assert by_name["turned"][0, 20, 35] > 240
    assert by_name["turned"][0, 20, 5] < 10


def test_palettes_transparency_and_sixteen_bits(tmp_path: Path) -> None:
    _fill(tmp_path, grey=True)
    root = tmp_path / "train" / "dog"
    _save(root / "a16.png", np.full((20, 30), 200 * 256, np.uint16))
    Image.new("LA", (30, 20), (90, 0)).save(root / "b.png")
    data = load_folder(str(tmp_path))
    assert data.x_train.shape[1] == 1
    assert [int(x[0, 0, 0]) for x, y in zip(data.x_train, data.y_train) if y] == [100, 110, 120, 130, 200, 90]
    Image.new("P", (30, 20)).save(root / "c.png", transparency=b"\x00")
    assert load_folder(str(tmp_path)).x_train.shape[1] == 3
    assert load_folder(f"{tmp_path}:channels=1").x_train.shape[1] == 1


def test_a_cache_is_used_again_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "pets"
    _fill(root)
    first = load_folder(str(root))
    monkeypatch.setattr("evaluators.data.encoded._pixels", None)  # nothing is decoded again
    assert load_folder(str(root)).fingerprint == first.fingerprint
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _save(root / "train/cat/0.png", np.full((20, 30, 3), 77, np.uint8))
    os.utime(root / "train/cat/0.png", (1, 1))
    assert load_folder(str(root)).fingerprint != first.fingerprint


@pytest.mark.parametrize("name", ["x_train", "y_test"])
def test_a_cleaned_cache_is_made_anew(tmp_path: Path, name: str) -> None:
    _fill(tmp_path / "pets")
    first = load_folder(str(tmp_path / "pets")).fingerprint
    (damaged,) = cache_root().glob(f"pets-*/{name}.npy")
    for damage in (lambda: damaged.write_bytes(b""), damaged.unlink):
        damage()
        assert load_folder(str(tmp_path / "pets")).fingerprint == first


def test_processes_that_load_at_once_share_a_cache(tmp_path: Path) -> None:
    _fill(tmp_path / "pets", each=20)
    prints: list[str] = []

    def load_it() -> None:
        prints.append(load_folder(str(tmp_path / "pets")).fingerprint)

    threads = [threading.Thread(target=load_it) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(prints) == 4
    assert len(set(prints)) == 1
    assert not [each for each in cache_root().iterdir() if each.name.startswith(".")]


def test_a_validation_part(tmp_path: Path) -> None:
    _fill(tmp_path, parts=("train", "test", "val"))
    data = load_folder(str(tmp_path))
    assert data.y_val is not None
    assert len(data.y_val) == 8


def test_specifications_have_absolute_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_data("folder:pets:size=32") == f"folder:{tmp_path}/pets:size=32"
    assert absolute_data("folder:pets") == f"folder:{tmp_path}/pets"
    assert data_files(f"folder:{tmp_path}/pets:size=32", {}) == (f"{tmp_path}/pets",)


def test_what_is_refused(tmp_path: Path) -> None:
    _fill(tmp_path / "good")
    (tmp_path / "file").write_text("")
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    _fill(tmp_path / "half", parts=("train",))
    _fill(tmp_path / "hole")
    (tmp_path / "hole" / "train" / "ant").mkdir()
    _fill(tmp_path / "broken")
    (tmp_path / "broken" / "train" / "cat" / "x.jpg").symlink_to(tmp_path / "nowhere")
    _fill(tmp_path / "unknown")
    _save(tmp_path / "unknown/test/cow/0.png", np.zeros((3, 3), np.uint8))
    for argument, message in (
        ("nothing", "nothing there. Check the path"),
        ("file", "a file. Check the path"),
        ("empty", r"must have a folder with .jpg, .jpeg, .png files for each class.*Got none"),
        ("half", "must have the folders train and test.*Got train"),
        ("unknown", "Every class must have training images. Got the class 'cow' only in test"),
        ("hole", r"Got none in .*hole/train/ant: remove the folder, or convert its images"),
        ("broken", r"x.jpg must be a whole image. Got FileNotFoundError"),
        ("good:sise=3", "Unknown option of folder 'sise'. Did you mean 'size'"),
        ("good:size=0", "size must be a whole number of pixels. Got size=0"),
        ("good:channels=2", "channels must be 1 or 3"),
    ):
        with pytest.raises(DataError, match=message):
            load_folder(f"{tmp_path / argument}")
    with pytest.raises(DataError, match=r"The layout of folder:.* is fixed"):
        load(f"folder:{tmp_path / 'good'}", layout="NCHW")


@pytest.mark.parametrize("content", [b"", b"no image", b"truncated"])
def test_a_broken_image_is_named_and_no_cache_is_left(tmp_path: Path, content: bytes) -> None:
    _fill(tmp_path / "pets", size=(60, 60))
    broken = tmp_path / "pets" / "train" / "dog" / "2.png"
    broken.write_bytes(broken.read_bytes()[:-60] if content == b"truncated" else content)
    with pytest.raises(DataError, match=r"2.png must be a whole image. Got .* Remove or replace it"):
        load_folder(str(tmp_path / "pets"))
    assert not [each for each in cache_root().iterdir() if each.suffix != ".lock"]


def test_a_cache_without_room_or_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fill(tmp_path / "pets")
    monkeypatch.setattr("evaluators.data.encoded.shutil.disk_usage", lambda path: _Full)
    with pytest.raises(EnvironmentFault, match=r"0.0 GiB of free space.*XDG_CACHE_HOME"):
        load_folder(str(tmp_path / "pets"))
    monkeypatch.undo()
    (tmp_path / "blocked").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "blocked"))
    with pytest.raises(EnvironmentFault, match="must be written to"):
        load_folder(str(tmp_path / "pets"))


class _Full:
    free = 10
