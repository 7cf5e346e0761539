"""A file that a store or a network names runs only if the user has consented to its content."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
import torch

import nas
from nas import testing
from nas.errors import PluginError, UserError
from nas.evaluation.training_rules import load_rule
from nas.plugins import consent, load_plugin, trust, trust_named
from nas.representation.elements import Task, TrainingSpec

from .searching import PLUGINS, TINY, arguments, space, toy

EVIL = """
from pathlib import Path
Path(__file__).with_suffix(".ran").touch()

from {module} import {name} as Plugin
"""


@pytest.fixture
def account(tmp_path, monkeypatch):
    """An account that has consented to nothing but the toys of these tests."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv(consent.VARIABLE, "")
    trust(PLUGINS / "spaces.py", PLUGINS / "toy.py")


@pytest.fixture
def evil(tmp_path):
    """Writes a file that leaves a trace if it runs, with the content of an installed plug-in."""

    def write(module="search_spaces.residual", name="Residual"):
        path = tmp_path / "evil.py"
        path.write_text(EVIL.format(module=module, name=name))
        return path

    return write


def has_run(path):
    return path.with_suffix(".ran").exists()


@pytest.mark.usefixtures("account")
def test_consent_is_to_the_content(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("Name = 1")
    with pytest.raises(PluginError, match=r"runs only with your consent\. Got .*mine\.py.*Read it, then: nas trust "):
        load_plugin("nas.proxies", f"{path}:Name")
    trust(f"{path}:Name")
    assert load_plugin("nas.proxies", f"{path}:Name") == 1
    moved = path.rename(tmp_path / "moved.py")
    assert load_plugin("nas.proxies", f"{moved}:Name") == 1
    moved.write_text("Name = 2")
    with pytest.raises(PluginError, match="has not used in the file's present version"):
        load_plugin("nas.proxies", f"{moved}:Name")


@pytest.mark.usefixtures("account")
def test_naming_one_plugin_is_no_consent_to_call_what_the_file_imports(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("from subprocess import check_call\nName = 1")
    trust_named(f"{path}:Name")
    assert load_plugin("nas.proxies", f"{path}:Name") == 1
    command = TrainingSpec(rule=f"{path}:check_call", settings=(("args", f"touch {tmp_path}/ran"), ("shell", True)))
    with pytest.raises(PluginError, match=r"nas trust .*mine\.py:check_call"):
        load_rule(command)
    trust(f"{path}:check_call")
    load_rule(command)
    assert (tmp_path / "ran").exists()


@pytest.mark.usefixtures("account")
def test_consent_is_remembered_for_the_account(tmp_path, monkeypatch):
    path = tmp_path / "new\nline.py"
    path.write_text("Name = 1")
    trust_named(f"{path}:Name")
    monkeypatch.setenv(consent.VARIABLE, "")  # another process
    assert load_plugin("nas.proxies", f"{path}:Name") == 1
    assert len(consent.record().read_text().splitlines()) == 3


@pytest.mark.usefixtures("account")
def test_an_account_without_a_place_for_its_record(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    path = tmp_path / "mine.py"
    path.write_text("Name = 1")
    trust_named(f"{path}:Name")
    assert load_plugin("nas.proxies", f"{path}:Name") == 1
    path.write_text("Name = 2")
    with pytest.raises(PluginError, match=r"must be writable to remember your consent.*XDG_STATE_HOME"):
        trust(path)


@pytest.mark.parametrize("missing", ["gone.py", "gone.py:Name", "~$gone.py"])
def test_trusting_what_is_not_there(mistake, missing):
    assert "must exist" in mistake("trust", missing)


@pytest.mark.parametrize(
    ("setting", "module", "name"),
    [
        ("spaces", "search_spaces.residual", "Residual"),
        ("strategy", "nas.strategies.random", "Random"),
        ("proxy", "nas.proxies.sizes", "count"),
        ("evaluator", "tests.plugins.toy", "Toy"),
        ("rule", "evaluators.rules.joint", "Joint"),
    ],
)
@pytest.mark.usefixtures("account", "in_process")
def test_a_strangers_store_runs_no_file(cli, evil, tmp_path, setting, module, name):
    assert cli(*arguments("nas.db", train=3, generation=3), "-q")[0] == 0
    path = evil(module, name)
    _change_settings(tmp_path / "nas.db", **{setting: f"{path}:Plugin"})
    status, out, err = cli("resume", "toy", "--store", "nas.db", "-q")
    assert (status, out) == (2, "")
    assert f"nas trust {path}" in err
    assert cli("report", "toy", "--store", "nas.db", "-q")[0] == 0
    shown = (tmp_path / "toy.html").read_text()
    assert (f"nas trust {path}" in shown) == (setting in ("spaces", "proxy", "rule"))
    assert not has_run(path)
    assert cli("trust", path)[0] == 0
    cli("resume", "toy", "--store", "nas.db", "-q")
    assert has_run(path)


@pytest.mark.usefixtures("account")
def test_a_strangers_trained_network_runs_no_file(cli, evil, tmp_path):
    own = TINY | {"study": "toy", "data": "synthetic:n=120,classes=3,size=8,channels=1", "evaluator": "training"}
    assert cli(*arguments("nas.db", images=100, final_search=0, **own), "-q")[0] == 0
    key = nas.open_store("nas.db").front("toy").candidate.iloc[0]
    for setting, module, name in (
        ("evaluator", "evaluators.training", "Training"),
        ("data", "evaluators.data", "digits"),
    ):
        path = evil(module, name)
        _change_settings(tmp_path / "nas.db", **{"evaluator": "training", setting: f"{path}:Plugin"})
        for command in ("select", "throttle", "resume"):
            words = ["toy"] if command == "resume" else [key, "out"]
            status, _, err = cli(command, *words, "--store", "nas.db", "-q")
            assert (status, f"nas trust {path}" in err) == (2, True)
    assert not has_run(path)


def _change_settings(database, **changes):
    with closing(sqlite3.connect(database)) as connection, connection:
        settings = json.loads(connection.execute("SELECT settings FROM studies").fetchone()[0])
        changes = {name: [value] if name == "spaces" else value for name, value in changes.items()}
        settings |= changes | {"_train": 6, "_plugins": {}}
        connection.execute("UPDATE studies SET settings = ?", (json.dumps(settings),))


@pytest.mark.usefixtures("account")
def test_the_file_of_a_network_runs_no_file(evil, tmp_path):
    builder = nas.Builder(Task(input_shape=(1, 8, 8), num_classes=3))
    builder.head(builder.conv(builder.input, (4, 8)))
    network = nas.AnytimeNetwork(builder.architecture(2)).eval()
    network.calibrated.fill_(True)
    network.save(tmp_path / "network")
    path = evil("nas.representation.kinds", "Conv")
    file = tmp_path / "network" / "network.json"
    file.write_text(file.read_text().replace('"conv"', json.dumps(f"{path}:Plugin")))
    with pytest.raises(UserError, match=f"nas trust {path}"):
        nas.load(tmp_path / "network")
    assert not has_run(path)
    nas.trust(path)
    assert nas.load(tmp_path / "network")(torch.zeros(1, 1, 8, 8), level=0).shape == (1, 3)


@pytest.mark.usefixtures("account")
def test_the_architecture_of_a_stored_candidate_runs_no_file(cli, evil, tmp_path):
    assert cli(*arguments("nas.db", train=3, generation=3), "-q")[0] == 0
    path = evil("nas.representation.kinds", "Conv")
    with closing(sqlite3.connect(tmp_path / "nas.db")) as connection, connection:
        replaced = ("architecture = replace(architecture, '\"conv\"', ?)", (json.dumps(f"{path}:Plugin"),))
        connection.execute(f"UPDATE candidates SET {replaced[0]}", replaced[1])
    key = nas.open_store("nas.db").front("toy").candidate.iloc[0]
    for words in (["show", key], ["show", key, "--plot", "plot.png"], ["report", "toy", "-q"]):
        status, _, err = cli(*words, "--store", "nas.db")
        assert (status, f"nas trust {path}" in err) == (2, True)
    assert not has_run(path)


@pytest.mark.usefixtures("account")
def test_files_that_the_user_names_need_no_further_consent(cli, evil, tmp_path):
    path = evil()
    settings = {"space": f"{path}:Plugin", "evaluator": toy(), "train": 3, "generation": 3, "pool": 4}
    assert cli(*arguments("nas.db", **settings), "-q")[0] == 0
    assert has_run(path)
    assert cli("resume", "toy", "--store", "nas.db", "--train", "4", "-q")[0] == 0


@pytest.mark.usefixtures("account")
def test_code_that_runs_may_name_files(tmp_path):
    kind = tmp_path / "kind.py"
    kind.write_text("from nas.representation.kinds import Conv as Mine")
    builder = nas.Builder(Task(input_shape=(1, 8, 8), num_classes=3))
    x = builder.add(f"{kind}:Mine", builder.input, builder.map((4, 8)), kernel=3)
    builder.head(x)
    assert nas.Architecture.from_json(builder.architecture(2).to_json()) == builder.architecture(2)
    data = tmp_path / "data.py"
    data.write_text("from evaluators.data import digits as mine")
    assert nas.load_data(f"{data}:mine").num_classes == 10
    testing.check_search_space(space("Six"))
