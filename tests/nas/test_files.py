"""Networks are written whole, and files of other origin are safe."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import nas
from nas.errors import EnvironmentFault, UserError
from nas.execution.network import AnytimeNetwork
from nas.files import check_folder, write_folder

from .hand_built import ALL


def _text(content: str):
    return lambda path: path.write_text(content)


def _files(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_later_write_replaces_all_files_of_the_earlier_and_no_others(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": _text("1"), "b/c": _text("2"), "b/d/e": _text("3")})
    (tmp_path / "notes").write_text("mine")
    (tmp_path / "b" / "mine").write_text("mine")
    check_folder(tmp_path)
    write_folder(tmp_path, {"a": _text("4"), "f": _text("5")})
    files = _files(tmp_path)
    assert json.loads(files.pop("manifest.json")) == {"files of anytime-nas": ["a", "f", "manifest.json"]}
    assert files == {"a": "4", "b/mine": "mine", "f": "5", "notes": "mine"}
    assert not (tmp_path / "b" / "d").exists()


@pytest.mark.parametrize("theirs", ["network.json", "weights.safetensors", "manifest.json"])
def test_a_network_replaces_no_file_of_other_origin(tmp_path: Path, theirs: str) -> None:
    (tmp_path / theirs).write_text("mine")
    with pytest.raises(UserError, match=f"new or empty folder.*with '{theirs}': name another folder"):
        AnytimeNetwork(ALL["residual"]()).save(tmp_path)
    with pytest.raises(UserError, match=f"with '{theirs}'"):
        check_folder(tmp_path)
    assert _files(tmp_path) == {theirs: "mine"}


@pytest.mark.parametrize("names", [["/etc/passwd"], ["../mine"], "network.json", {"network.json": 1}, [7], None])
def test_a_manifest_of_other_origin_gives_no_rights(tmp_path: Path, names: object) -> None:
    (tmp_path / "mine").write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"files of anytime-nas": names}))
    (folder / "network.json").write_text("mine")
    with pytest.raises(UserError, match="new or empty folder"):
        write_folder(folder, {"network.json": _text("ours")})
    assert (tmp_path / "mine").read_text() == (folder / "network.json").read_text() == "mine"


def test_a_failed_write_leaves_the_earlier_network(tmp_path: Path) -> None:
    network = AnytimeNetwork(ALL["residual"]())
    network.save(tmp_path / "net")
    before = {p.name: p.read_bytes() for p in (tmp_path / "net").iterdir()}

    def full(path: Path) -> None:
        path.write_bytes(b"a part")
        raise OSError(28, "No space left on device")

    with pytest.raises(EnvironmentFault, match=r"must be writable.*No space left"):
        write_folder(tmp_path / "net", {**network.files(), "more": full})
    assert {p.name: p.read_bytes() for p in (tmp_path / "net").iterdir()} == before


def test_an_interrupted_write_does_not_occupy_a_folder(tmp_path: Path) -> None:
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "net", {"a": interrupted})
    (tmp_path / "net" / ".unfinished-x").mkdir()  # as after kill -9
    check_folder(tmp_path / "net")


@pytest.mark.parametrize("renames", range(1, 6))
def test_a_write_that_ends_between_two_renames_can_be_repeated(tmp_path: Path, monkeypatch, renames: int) -> None:
    folder, count, replace = tmp_path / "net", 0, os.replace
    write_folder(folder, {"a": _text("1"), "b": _text("1")})

    def killed(source: Path, target: Path) -> None:
        nonlocal count
        count += 1
        if count == renames:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_folder(folder, {"a": _text("2"), "c": _text("2"), "d": _text("2")})
    monkeypatch.undo()
    check_folder(folder)
    write_folder(folder, {"a": _text("3"), "c": _text("3")})
    assert _files(folder).keys() == {"a", "c", "manifest.json"}


def test_a_first_write_that_ends_between_two_renames_can_be_repeated(tmp_path: Path, monkeypatch) -> None:
    def killed(source: Path, target: Path) -> None:
        replace(source, target)
        if Path(target).name == "a":
            raise KeyboardInterrupt

    replace = os.replace
    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path, {"a": _text("1"), "b": _text("1")})
    monkeypatch.undo()
    write_folder(tmp_path, {"a": _text("2"), "b": _text("2")})
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "2"


def test_a_folder_that_is_not_writable_is_refused_before_the_work() -> None:
    with pytest.raises(EnvironmentFault, match=r"must be writable\. Got /proc/anytime/net"):
        check_folder("/proc/anytime/net")


def test_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r"needs a folder\. Got .*file, which is a file"):
            check_folder(folder)
        with pytest.raises(UserError, match="must be writable"):
            AnytimeNetwork(ALL["residual"]()).save(folder)
    assert (tmp_path / "file").read_text() == "mine"


def test_users_files_beside_controllers_remain(tmp_path: Path) -> None:
    network = AnytimeNetwork(ALL["residual"]())
    network.save(tmp_path / "net")
    (tmp_path / "net" / "controllers").mkdir()
    (tmp_path / "net" / "controllers" / "mine").write_text("mine")
    write_folder(tmp_path / "net", {**network.files(), "controllers/0.1/network.json": _text("ours")})
    network.save(tmp_path / "net")
    assert [p.name for p in (tmp_path / "net" / "controllers").iterdir()] == ["mine"]
    assert nas.load(tmp_path / "net").architecture == network.architecture
