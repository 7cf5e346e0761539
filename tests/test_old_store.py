"""A store of schema version 3 opens, its networks answer as they did, and its studies go on.

``python test_old_store.py --write`` rewrites the expected contents with this version.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import nas
import results

FOLDER = Path(__file__).resolve().parent / "golden" / "store"
STORE = FOLDER / "v3.db"
READ = FOLDER / "v3.json"
STUDIES = ("old", "moved")
"""Slimmable networks, one of them trained twice in full and controlled; and one whose training moved filters."""
FINALIST, CONSTRUCTED = "f96427e589240783", "7f097b8489f4028e"
TABLES = ("candidates", "points", "evaluations", "front", "policies")


@pytest.fixture
def store(tmp_path):
    """A copy of the store, under another name."""
    return _copied(tmp_path)


def _copied(folder: Path) -> str:
    shutil.copy(STORE, folder / "copy.db")
    shutil.copytree(f"{STORE}.files", folder / "copy.db.files")
    return str(folder / "copy.db")


@pytest.fixture(scope="module", name="known")
def fixture_known():
    return json.loads(READ.read_text("utf-8"))


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _read(store: str) -> dict[str, Any]:
    """The contents of a store as plain data: tables by column."""
    opened = results.open(store)
    tables = {"studies": opened.studies().drop(columns="score")}
    tables |= {f"{study} {table}": getattr(opened, table)(study) for study in STUDIES for table in TABLES}
    trained = [
        opened.find_candidate(row["key"], study)
        for study in STUDIES
        for row in opened.candidates(study).to_dict("records")
        if row["fidelity"] > 0
    ]
    architectures = {
        found.candidate: nas.Architecture.from_json(opened.architecture(found.realised)) for found in trained
    }
    return {
        "tables": {name: _columns(table) for name, table in tables.items()},
        "settings": {study: opened.settings(study) for study in STUDIES},
        "score": {study: [opened.score(study).low, opened.score(study).high] for study in STUDIES},
        "realised": {found.candidate: found.realised for found in trained},
        "architectures": {key: architecture.to_json() for key, architecture in architectures.items()},
        "network_keys": {key: architecture.network_key for key, architecture in architectures.items()},
    }


def _columns(table: pd.DataFrame) -> dict[str, list[Any]]:
    columns = {str(name): [_plain(value) for value in table[name]] for name in table}
    if "choices" in columns:
        columns["choices"] = [choices and json.loads(choices) for choices in columns["choices"]]
    return columns


def _plain(value: Any) -> Any:
    """A JSON-serialisable value; missing values are None."""
    if isinstance(value, dict | str):
        return value
    if pd.isna(value):
        return None
    return str(value) if isinstance(value, pd.Timestamp) else getattr(value, "item", lambda: value)()


def _test_images(rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of digits as they are stored, by row."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return np.rint(x.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)[rows], y[rows]


def _command(*arguments: str) -> str:
    """Output of the program ``nas``."""
    program = Path(sys.executable).with_name("nas")
    environment = {name: value for name, value in os.environ.items() if name != "NAS_STORE"}
    ended = subprocess.run([program, *arguments], capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_all_tables_read_as_they_did(store, known):
    read = json.loads(json.dumps(_read(store)))
    for name, table in known["tables"].items():
        for column, values in table.items():
            assert read["tables"][name][column] == values, f"{name}: {column}"
    for name in ("score", "realised", "architectures", "network_keys"):
        assert read[name] == known[name], name
    for study, settings in known["settings"].items():
        assert settings.items() <= read["settings"][study].items()


def test_what_is_in_it(store):
    opened = results.open(store)
    studies = opened.studies().set_index("study")
    assert studies.state.to_dict() == {"old": "finished", "moved": "finished"}
    assert studies.trained.to_dict() == {"old": 3, "moved": 1}
    assert opened.candidates("old").status.tolist() == ["infeasible"] * 5 + ["stopped", "finished", "stopped"]
    assert opened.front("old").macs.tolist() == [49568, 193344, 431328]
    assert opened.front("old").repeats.tolist() == [2, 2, 2]
    assert opened.policies("old").penalty.tolist() == [0.1, 0.3]
    assert opened.find_candidate(CONSTRUCTED).realised != CONSTRUCTED
    assert nas.Architecture.from_json(opened.architecture(FINALIST)).key == FINALIST
    assert opened.key(FINALIST[:6]) == FINALIST


@pytest.mark.parametrize(("study", "key"), [("old", FINALIST), ("moved", CONSTRUCTED)])
def test_networks_answer_as_they_did(study, key, store, known):
    network = nas.load(key, store=store)
    x, y = _test_images(known["test_rows"])
    with torch.no_grad():
        logits = [network(network.preprocess(torch.from_numpy(x)), level=level) for level in range(network.levels)]
    points = results.open(store).points(study)
    points = points[(points.candidate == key) & (points.repeat == 0) & points.test_accuracy.notna()]
    assert len(points) == network.levels
    assert [float((one.argmax(1).numpy() == y).mean()) for one in logits] == pytest.approx(
        points.test_accuracy.tolist()
    )
    assert list(network.macs) == points.macs.tolist()


def test_controllers_answer_as_they_did(store, known):
    network, controller = nas.load(FINALIST, store=store), nas.Controller.load(FOLDER / "controller")
    x, y = _test_images(known["test_rows"])
    with torch.no_grad():
        answers = nas.ControlledNetwork(network, controller)(network.preprocess(torch.from_numpy(x))).argmax(1).numpy()
    policy = results.open(store).policies("old").iloc[0]
    assert (policy.penalty, policy.test_accuracy) == (0.1, pytest.approx((answers == y).mean()))


@pytest.mark.parametrize("study", STUDIES)
def test_finished_studies_stay_as_they_are(study, store, known):
    resumed = nas.resume(study, store=store, workers=1, accept_plugin_change=True)  # the spaces build others now
    for table in TABLES:
        columns = known["tables"][f"{study} {table}"]
        assert {name: _columns(getattr(resumed.store, table)(study))[name] for name in columns} == columns
    assert resumed.best().key in (FINALIST, CONSTRUCTED)


def test_studies_go_on_as_they_would_have(store, known):
    assert _resumed(store) == known["resumed"]


def _resumed(store: str) -> dict[str, list[Any]]:
    """The candidates of a resumed study by column, without columns that depend on training."""
    candidates = nas.resume("moved", store=store, workers=1, train=3, accept_plugin_change=True).candidates()
    return _columns(candidates[["key", "space", "generation", "position", "control", "status", "choices"]])


def test_the_program_reads_it(store):
    assert {"old", "moved"} <= set(_command("status", "--store", store).split())
    assert "finished" in _command("status", "old", "--store", store)
    assert FINALIST in _command("show", FINALIST[:8], "--store", store)
    opened = results.open(store)
    shown = json.loads(_command("show", CONSTRUCTED, "--json", "--store", store))
    assert shown == opened.architecture(opened.find_candidate(CONSTRUCTED).realised)
    assert "431,328" in _command("front", "old", "--store", store)


def write(folder: Path) -> None:
    """Write the contents that this version reads; the choice of test images does not change."""
    rows = json.loads(READ.read_text("utf-8"))["test_rows"]
    store = _copied(folder)
    read = _read(store) | {"resumed": _resumed(store), "test_rows": rows}
    READ.write_text(json.dumps(read, separators=(",", ":")) + "\n", "utf-8")


if __name__ == "__main__":
    import tempfile

    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
