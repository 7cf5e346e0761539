"""A trained network is found by study and candidate: other studies, stores and folders never answer for it."""

from __future__ import annotations

import re
import shlex
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import nas
import results
from nas import launch
from nas.reporting.html_report import write_report
from nas.screening import budgets

from .searching import TINY, InProcess

SETTINGS = TINY | {"space": "residual", "max_macs": 3e5, "points": 2, "batch_size": 50, "finalists": 2, "train": 2}


def digits(shift):
    """Images and labels of digits; the labels of the second study are those of the first plus one."""
    x, y = load_digits(return_X_y=True)
    x, y = x.reshape(-1, 1, 8, 8).astype(np.uint8), (y + shift) % 10
    return x[:500], y[:500], x[500:700], y[500:700]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Studies of equal seed and limits in one store: two labellings of the same images, and another learning rate."""
    store = tmp_path_factory.mktemp("addressing") / "nas.db"
    settings = {"labels": {}, "shifted": {}, "slow": {"learning_rate": 0.003}}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(launch, "LocalRunner", InProcess)
        patched.setattr(budgets, "SAMPLE", 16)
        return {
            name: nas.search(digits(int(name == "shifted")), study=name, store=str(store), **SETTINGS, **more)
            for name, more in settings.items()
        }


@pytest.fixture(scope="module")
def key(found):
    """A candidate that all studies trained in full."""
    keys = [set(study.points().query("fidelity == 5").candidate) for study in found.values()]
    return min(set.intersection(*keys))


def accuracy(network, images, labels):
    with torch.no_grad():
        return float((network(network.preprocess(torch.from_numpy(images))).argmax(1).numpy() == labels).mean())


def stored_accuracy(study, key):
    return study.points().query("candidate == @key and fidelity == 5").test_accuracy.iloc[-1]


def first_weights(network):
    return next(iter(network.parameters()))


@pytest.mark.parametrize("name", ["labels", "shifted", "slow"])
def test_each_study_returns_its_own_weights(found, key, name, tmp_path):
    study = found[name]
    _, _, x, y = digits(int(name == "shifted"))
    network = study.network(key)
    assert accuracy(network, x, y) == pytest.approx(stored_accuracy(study, key))
    loaded = nas.load(key[:8], study=name, store=study.url)
    selected = nas.select(key, study=name, store=study.url, evaluations=4).network
    throttled = nas.throttle(key, study=name, store=study.url, penalties=(0.1,), epochs=1, folder=tmp_path).network
    for other in (loaded, selected, throttled):
        assert torch.equal(first_weights(network), first_weights(other))
    assert study.store.policies(name).candidate.tolist() == [key]


def test_the_networks_differ(found, key):
    _, _, x, y = digits(0)
    weights = [first_weights(study.network(key)) for study in found.values()]
    assert not any(torch.equal(weights[i], weights[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert accuracy(found["labels"].network(key), x, y) > accuracy(found["shifted"].network(key), x, y) + 0.1


def test_a_key_in_several_studies_is_an_error_that_lists_them(found, key, mistake):
    url = found["labels"].url
    for call in (nas.load, nas.select, nas.throttle):
        with pytest.raises(results.StoreError, match=f"{key} is in several studies: labels, shifted, slow"):
            call(key[:8], store=url)
    for command in (["select", key, "out"], ["throttle", key, "out"], ["show", key]):
        assert "labels, shifted, slow" in mistake(*command, "--store", url)
        assert "Got 'none'" in mistake(*command, "--store", url, "--study", "none")


def test_commands_take_the_study(found, key, cli, tmp_path):
    study = found["shifted"]
    place = ("--store", study.url, "--study", "shifted")
    status, out, err = cli("show", key, *place)
    assert (status, err) == (0, "")
    assert "Study shifted, " in out
    assert cli("select", key, "selected", *place, "--evaluations", "4", "--quiet")[0] == 0
    assert cli("throttle", key, "throttled", *place, "--penalty", "0.5", "--epochs", "1", "--quiet")[0] == 0
    for folder in ("selected", "throttled"):
        assert torch.equal(first_weights(nas.load(folder)), first_weights(study.network(key)))


@pytest.mark.parametrize("name", ["labels", "shifted"])
def test_printed_commands_load_the_network_of_their_study(found, name, cli, tmp_path, monkeypatch):
    """Also from a folder with a store of its own, and with a folder that is named like the key."""
    from nas.reporting.console import summary

    study = found[name]
    _, _, x, y = digits(int(name == "shifted"))
    front = study.front()
    printed = summary(study)
    assert cli("report", name, "--store", study.url, "--out", str(tmp_path / "r.html"), "--proxy", "macs")[0] == 0
    report = (tmp_path / "r.html").read_text().replace("&#34;", '"')
    shutil.copy(study.url, tmp_path / "nas.db")
    best = front.candidate.iloc[-1]
    (tmp_path / best[:8]).mkdir()
    (tmp_path / best).mkdir()
    for text in (printed, report):
        code = re.search(r"nas\.load\(.*?\)", text)[0]
        candidate = re.search(r'"(\w+)"', code)[1]
        assert f'study="{name}", store="{study.url}"' in code
        (full,) = {key for key in front.candidate if key.startswith(candidate)}
        network = eval(code, {"nas": nas})
        assert accuracy(network, x, y) == pytest.approx(stored_accuracy(study, full))
    commands = [shlex.split(line) for line in printed.splitlines() if line.startswith("  nas ")]
    assert [command[:2] for command in commands] == [["nas", "front"], ["nas", "show"]]
    for command in commands:
        assert command[-2:] == ["--store", study.url]
        assert cli(*command[1:])[0] == 0


def test_a_folder_named_like_a_key_is_never_taken_for_the_key(found, key, mistake, monkeypatch, tmp_path):
    study = found["labels"]
    study.network(key).save(tmp_path / key[:8])
    assert f"could be both: write ./{key[:8]} for the folder" in mistake("select", key[:8], "out", "--data", "digits")
    with pytest.raises(nas.UserError, match="could be both"):
        nas.load(key[:8], store=study.url)
    assert nas.load(f"./{key[:8]}").macs == nas.load(tmp_path / key[:8]).macs == study.network(key).macs
    with pytest.raises(nas.UserError, match=r"Only a network in the store has a study"):
        nas.load(tmp_path / key[:8], study="labels")
    with pytest.raises(nas.UserError, match=r"digits of its key, or by its folder\. Got 'missing'"):
        nas.load("missing")


def test_a_front_of_both_labellings_is_refused_unless_it_is_mixed(found, mistake, cli):
    store = found["labels"].store
    with pytest.raises(results.NotComparable, match="Different are those of labels; shifted"):
        store.front(["labels", "shifted"])
    assert set(store.front(["labels", "slow"]).study) <= {"labels", "slow"}
    assert store.front(["labels", "shifted"], mixed=True).data.notna().all()
    refused = mistake("front", "labels", "shifted", "--store", store.url)
    assert "same data, validation split and metric" in refused
    assert "nas front --mixed, store.front(…, mixed=True)" in refused
    status, out, _ = cli("front", "labels", "shifted", "--mixed", "--store", store.url)
    header = out.splitlines()[0].split()
    assert (status, header[-1]) == (0, "data")
    assert ("study" in header) == (store.front(["labels", "shifted"], mixed=True).study.nunique() > 1)
    assert cli("report", "labels", "shifted", "--store", store.url, "--proxy", "macs")[0] == 0
    assert "There is none. " in Path("labels+shifted.html").read_text()


def test_a_report_is_on_studies_of_one_store(found, tmp_path):
    shutil.copy(found["labels"].url, tmp_path / "nas.db")
    other = nas.Study("labels", store=str(tmp_path / "nas.db"))
    with pytest.raises(nas.UserError, match=r"studies of one store\. Got .*addressing.*/nas\.db"):
        write_report([found["labels"], other], tmp_path / "r.html")


def test_a_study_stays_the_same_after_a_change_of_the_working_directory(found, cli, tmp_path, monkeypatch):
    """The other folder has a store of the same name, with a study of the same name."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder in (home, elsewhere):
        folder.mkdir()
        shutil.copy(found["labels"].url, folder / "nas.db")
        shutil.copytree(f"{found['labels'].url}.files", folder / "nas.db.files")
    with closing(sqlite3.connect(elsewhere / "nas.db")) as opened:
        opened.execute("UPDATE points SET accuracy = 0, test_accuracy = 0")
        opened.execute("UPDATE evaluations SET weights = 'missing'")
        opened.commit()
    monkeypatch.chdir(home)
    study = nas.Study("labels")
    monkeypatch.chdir(elsewhere)
    assert study.front().accuracy.tolist() == found["labels"].front().accuracy.tolist()
    key = study.best().key
    assert torch.equal(first_weights(study.network()), first_weights(found["labels"].network(key)))
    assert str(home / "nas.db") in repr(study)
    study.report("report.html", "macs")
    assert (home / "nas.db.files" / "labels" / "scores.json").is_file()
    assert f"--store {home / 'nas.db'}" in (elsewhere / "report.html").read_text()
