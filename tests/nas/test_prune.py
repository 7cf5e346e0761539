"""Deleting networks and checkpoints off the front: results stay, and the study can be resumed."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest

import nas
import results

from .searching import TINY, assert_same, content

DATA = "synthetic:n=400,classes=3,size=8,channels=1"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a store with a finished search."""
    folder = tmp_path_factory.mktemp("finished")
    nas.search(DATA, study="toy", space="slimmable", store=f"{folder}/nas.db", max_macs=1e6, **TINY)
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    """A copy."""
    return shutil.copytree(finished, tmp_path / "copy")


def test_results_stay_and_the_front_keeps_its_networks(folder, cli):
    url = f"{folder}/nas.db"
    store, before = results.open(url), content(url)
    files = Path(f"{url}.files/toy/candidates")
    sizes = {
        path.name: sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) for path in files.iterdir()
    }
    needed = {*store.front("toy").candidate, store.best("toy").key}
    found = store.prunable("toy")
    assert set(found.keys) == set(sizes) - needed
    assert found.keys
    assert (found.size, found.kept_size) == (
        sum(sizes[key] for key in found.keys),
        sum(sizes[key] for key in needed & set(sizes)),
    )
    status, out, err = cli("prune", "toy", "--store", url, "--yes")
    assert (status, err) == (0, "")
    assert "other candidates: " in out
    assert {path.name for path in files.iterdir()} == needed & set(sizes)
    after = content(url)
    for name in ("candidates", "points", "study"):
        assert after[name].equals(before[name])
    for key in found.keys:
        with pytest.raises(
            results.StoreError, match=f"No weights of {key} were kept. Train it again: nas train {key} FOLDER"
        ):
            nas.load(key, store=url)
    assert nas.load(store.best("toy").key, store=url).macs
    assert cli("prune", "toy", "--store", url)[1].startswith("Nothing to delete: the front and the best candidate keep")


def test_a_pruned_study_is_resumed(folder, tmp_path):
    whole = shutil.copytree(folder, tmp_path / "whole")
    results.open(f"{folder}/nas.db").prune("toy")
    for place in (folder, whole):
        nas.resume("toy", store=f"{place}/nas.db", train=6)
    rows = [content(f"{place}/nas.db") for place in (folder, whole)]
    for each in rows:
        each["evaluations"] = each["evaluations"].drop(columns="weights")
    assert_same(*rows)


def test_questions_and_refusals(folder, cli, monkeypatch, mistake):
    url = f"{folder}/nas.db"
    before = content(url)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    status, _, err = cli("prune", "toy", "--store", url)
    assert (status, err) == (2, "nas: Not confirmed. Nothing was deleted.\n")
    with results.open(url).writer("toy", results.open(url).settings("toy")) as writer:
        with pytest.raises(results.StoreError, match="A study has one writer at a time"):
            results.open(url).prune("toy")
        writer.finish("finished")
    assert_same(content(url), before)
    with pytest.raises(results.StoreError, match="A study must be in the store"):
        results.open(url).prunable("nothing")


def test_the_version(cli):
    status, out, _ = cli("--version")
    assert status == 0
    assert out.startswith("anytime-nas ")
    assert "torch " in out
