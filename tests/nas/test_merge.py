"""Studies of other stores in one's own: resumed, shown, and their networks loaded, as in their own store."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits

import nas
import results
from nas.funnel.full.plan import FinalsPlan, whole
from nas.funnel.preparing.plugin_changes import BUILT_FROM
from nas.funnel.state import StudyState
from results.merging import rows
from results.writer import StudyWriter

from .searching import TINY, search


@pytest.fixture
def elsewhere(tmp_path):
    """The path of another store."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder / "other.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """The store that studies are merged into; it does not exist yet."""
    if request.param == "sqlite":
        return str(tmp_path / "nas.db")
    return request.getfixturevalue("postgresql").new_database()


@pytest.mark.parametrize("call", [3, 9])
def test_a_stopped_search_is_resumed_in_another_store(url, elsewhere, tmp_path, cli, in_process, monkeypatch, call):
    """In its first generation, and in full training; ids of candidates are others there."""
    record, recorded = StudyWriter.record, []

    def stopping(writer, *positional, **named):
        recorded.append(positional)
        if len(recorded) == call:
            raise KeyboardInterrupt
        record(writer, *positional, **named)

    search(url, study="earlier", seed=5)
    with monkeypatch.context() as patch:
        patch.setattr(StudyWriter, "record", stopping)
        with pytest.raises(KeyboardInterrupt):
            search(elsewhere)
    status, out, err = cli("merge", elsewhere, "--store", url)
    assert (status, err) == (0, "")
    assert out.startswith(f"toy: copied from {elsewhere}, ")
    shutil.rmtree(elsewhere.parent)
    status, _, err = cli("resume", "toy", "--store", url, "--quiet")
    assert (status, err) == (0, "")
    search(tmp_path / "whole.db")
    merged, whole = results.open(url), results.open(tmp_path / "whole.db")
    for table in ("candidates", "evaluations", "points", "front"):
        frames = (getattr(each, table)("toy").drop(columns="evaluated_at", errors="ignore") for each in (merged, whole))
        pd.testing.assert_frame_equal(*frames)
    best = merged.front("toy").candidate.iloc[-1]
    for command in (("status", "toy"), ("front", "toy", "earlier"), ("show", best, "--study", "toy")):
        assert cli(*command, "--store", url)[0] == 0


def test_the_command(elsewhere, tmp_path, cli, mistake, in_process):
    search(elsewhere)
    search(tmp_path / "third.db", train=4)
    assert cli("merge", elsewhere)[0] == 0
    assert cli("merge", elsewhere) == (0, f"toy: already here, with all results of {elsewhere}.\n", "")
    err = mistake("merge", "third.db")
    assert f"'toy' is another study here than in {tmp_path}/third.db. Give it a name of its own here: nas merge" in err
    assert "--rename toy=NEW" in err
    assert "OLD=NEW" in mistake("merge", "third.db", "--rename", "toy")
    assert "once for each" in mistake("merge", "third.db", "--rename", "toy=a", "--rename", "toy=b")
    assert "no results store" in mistake("merge", "absent.db")
    assert "Studies there: toy" in mistake("merge", "third.db", "--study", "absent")
    status, out, _ = cli("merge", "third.db", "--study", "toy", "--rename", "toy=second")
    assert status == 0
    assert out.startswith(f"second: copied from toy of {tmp_path}/third.db, ")
    search(elsewhere, train=12)
    assert f"toy: replaced by its continuation from {elsewhere}, " in cli("merge", elsewhere)[1]
    assert cli("front", "toy", "second")[0] == 0


def test_the_front_of_studies_in_several_stores(elsewhere, tmp_path, cli, mistake, in_process, monkeypatch):
    search(elsewhere)
    search(tmp_path / "nas.db", seed=4)
    search(tmp_path / "nas.db", study="more", train=4)
    both = ("--store", "nas.db", "--store", elsewhere)
    status, out, _ = cli("front", "toy", "more", *both, "--csv", "front.csv", "--plot", "front.svg")
    assert status == 0
    front = results.open("nas.db", elsewhere).front(["toy", "more"])
    assert out.splitlines()[0].split()[-1] == "store"
    assert {line.split()[-1] for line in out.splitlines()[1:]} == {
        str(path).removeprefix(f"{tmp_path}/") for path in front.store
    }
    assert pd.read_csv("front.csv").store.tolist() == front.store.tolist()
    assert "toy in nas.db, more in nas.db, toy in other.db" in (tmp_path / "front.svg").read_text()
    assert "Got 'absent'. Studies there: more, toy" in mistake("front", "absent", *both)
    assert "must be different" in mistake("front", "toy", "--store", "nas.db", "--store", "nas.db")
    monkeypatch.setenv("NAS_STORE", str(elsewhere))
    assert cli("front", "toy")[1] == cli("front", "toy", "--store", elsewhere)[1]


def test_networks_and_data_in_memory(elsewhere, tmp_path, in_process, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y = load_digits(return_X_y=True)
    data = x.reshape(-1, 1, 8, 8).astype(np.uint8)[:400], y[:400]
    settings = TINY | {"space": "residual", "max_macs": 3e5, "points": 2, "batch_size": 50, "train": 2}
    nas.search(data, study="digits", store=str(elsewhere), **settings)
    key = nas.Study("digits", store=str(elsewhere)).best().key
    image = torch.zeros(1, 1, 8, 8)
    expected = nas.load(key, study="digits", store=str(elsewhere))(image)
    results.open("nas.db").merge(elsewhere)
    shutil.rmtree(elsewhere.parent)
    torch.testing.assert_close(nas.load(key, study="digits", store="nas.db")(image), expected, rtol=0, atol=0)
    study = nas.resume("digits", store="nas.db", train=3)
    assert study.candidates().anytime_accuracy.notna().sum() == 3
    assert (study.network()(image).shape) == expected.shape


def test_ids_of_candidates_in_the_state_of_a_search_are_the_ones_that_a_merge_renumbers():
    plan = FinalsPlan(generations=1, stages=whole(2), candidates=(5, 6))
    settings, memo = rows.with_new_ids({BUILT_FROM: 6}, StudyState(finals=plan).to_json(), {5: 15, 6: 18})
    assert StudyState.from_json(memo).finals.candidates == (15, 18)
    assert settings == {BUILT_FROM: 16}
    for first, there in ((0, 0), (5, 0), (7, 19), (100, 19)):
        assert rows.with_new_ids({BUILT_FROM: first}, None, {5: 15, 6: 18}) == ({BUILT_FROM: there}, None)
