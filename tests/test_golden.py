"""Equal seeds give equal rows: searches without training, compared with the rows of an earlier version.

``python -P tests/test_golden.py --write`` writes all rows anew; ``--write NAME …`` writes only the scores of these
proxies.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import nas
import results

FOLDER = Path(__file__).resolve().parent / "golden"
ROWS = FOLDER / "rows.json"
ARCHITECTURES = FOLDER / "architectures.json"
CONTROLS = Path(__file__).resolve().parents[1] / "benchmarks" / "controls.py"

COMMON: dict[str, Any] = {
    "study": "golden",
    "data": "nothing",
    "evaluator": f"{FOLDER / 'plugin.py'}:Pure",
    "proxy": "walk_weights",
    "points": 4,
    "pool": 20,
    "generation": 5,
    "references": False,
    "train": 15,
    "epochs": 9,
    "images": 500,
    "finalists": 2,
    "final_epochs": 6,
    "final_search": 0,
    "seeds": 2,
    "device": "cpu",
    "threads": 1,
    "workers": 1,
    "augment": "none",
    "precision": "float32",
}
"""All settings that influence rows are set here or below, so that a changed default changes no row."""

TWO: dict[str, Any] = {"space": ("residual", "mobile"), "max_macs": 2e6, "low": 2e5}
SLICING: dict[str, Any] = {"space": ("slicing",), "max_macs": 3e6, "low": 4e5, "max_params": 6e5, "points": 3}
THROTTLEABLE: dict[str, Any] = {"space": ("throttleable",), "max_macs": 4e6, "low": 6e4, "points": 3}
STEPPING: dict[str, Any] = {"space": ("stepping",), "max_macs": 2e6, "low": 9e4, "points": 2}
SLIMMABLE: dict[str, Any] = {"space": ("slimmable",), "max_macs": 5e6, "low": 2.5e5}

SEARCHES: dict[str, dict[str, Any]] = {
    "tpe-0": TWO | {"strategy": "tpe", "seed": 0},
    "tpe-1": TWO | {"strategy": "tpe", "seed": 1},
    "nsga2-0": TWO | {"strategy": "nsga2", "seed": 0},
    "nsga2-1": TWO | {"strategy": "nsga2", "seed": 1},
    "random-0": TWO | {"strategy": "random", "seed": 0, "proxy": "depth", "train": 30},
    "random-1": TWO | {"strategy": "random", "seed": 1, "proxy": f"{CONTROLS}:learned_paths"},
    "guided-0": TWO | {"strategy": "guided", "seed": 0, "train": 25},
    "guided-1": TWO | {"strategy": "guided", "seed": 1, "proxy": "nn_mass"},
    "slicing-guided-1": SLICING | {"strategy": "guided", "seed": 1},
    "throttleable-nsga2-0": THROTTLEABLE | {"strategy": "nsga2", "seed": 0},
    "stepping-tpe-1": STEPPING | {"strategy": "tpe", "seed": 1},
    "slimmable-random-0": SLIMMABLE | {"strategy": "random", "seed": 0, "rule": "sandwich:sampled=2"},
    "slimmable-nsga2-1": SLIMMABLE | {"strategy": "nsga2", "seed": 1},
}

CANDIDATES = ("key", "space", "generation", "position", "control", "status", "attempts", "fidelity", "anytime_accuracy")
FRONT = ("macs", "params", "accuracy", "test_accuracy", "candidate", "realised_key", "level", "repeats", "accuracy_sd")
LEVELS = ("macs", "params", "accuracy", "loss", "test_accuracy")
TRAINING = ("candidate", "realised_key", "fidelity", "repeat")


@cache
def rows_of(name: str) -> dict[str, Any]:
    """The rows of a search as plain JSON data; choices as a digest of their names, order and values."""
    with tempfile.TemporaryDirectory() as folder:
        store = f"{folder}/nas.db"
        study = nas.search(store=store, **{**COMMON, **SEARCHES[name]})
        opened = results.open(store)
        candidates, points, score = opened.candidates("golden"), opened.points("golden"), study.score()
        trained = candidates[candidates.position.notna()]
        rows = {
            "state": opened.studies().state.tolist(),
            "score": [score.low, score.high, score.floor],
            "reliance": [[d.share, d.trained, d.ordered, d.own] for d in study.state.reliance.values()],
            "candidates": [
                [*row, sha256(json.dumps(json.loads(choices)).encode()).hexdigest()[:8]]
                for row, choices in zip(_rows(candidates, CANDIDATES), candidates.choices)
            ],
            "points": [
                [*about, [_plain(list(group[level])) for level in LEVELS]]
                for about, group in points.groupby(list(TRAINING), sort=False)
            ],
            "evaluations": _rows(opened.evaluations("golden"), (*TRAINING, "epochs", "images")),
            "front": _rows(opened.front("golden"), FRONT),
            "networks": [[key, _architecture(opened.architecture(key)).network_key] for key in trained.key],
            "proxies": {
                column.removeprefix("proxy_").rpartition(":")[2]: trained[column].tolist()
                for column in trained
                if column.startswith("proxy_")
            },
        }
        return _rounded(json.loads(json.dumps(rows)))


def _rounded(value: Any) -> Any:
    """Data with floats of 10 significant digits: logarithms differ in the last digit between CPUs."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.10g}") if isinstance(value, float) else value


def _rows(frame: Any, columns: tuple[str, ...]) -> list[list[Any]]:
    return [_plain(row) for row in zip(*(frame[name].astype(object) for name in columns))]


def _plain(values: Any) -> list[Any]:
    """Plain JSON values; None if missing."""
    return [None if pd.isna(value) else value.item() if hasattr(value, "item") else value for value in values]


def _architecture(data: dict[str, Any]) -> nas.Architecture:
    """The architecture of JSON data; checks that it writes the same data."""
    architecture = nas.Architecture.from_json(data)
    assert json.loads(json.dumps(architecture.to_json())) == data
    return architecture


def _golden() -> dict[str, Any]:
    return _rounded(json.loads(ROWS.read_text("utf-8")))


@pytest.fixture(scope="module", name="golden")
def fixture_golden():
    return _golden()


@pytest.mark.parametrize("name", SEARCHES)
def test_equal_seeds_give_equal_rows(name, golden):
    old, new = golden["searches"][name], rows_of(name)
    assert new.keys() == old.keys()
    for table in [name for name in old if name != "proxies"]:
        assert new[table] == old[table], table


@pytest.mark.parametrize("name", SEARCHES)
def test_equal_networks_have_equal_scores(name, golden):
    old, new = golden["searches"][name]["proxies"], rows_of(name)["proxies"]
    assert new.keys() == old.keys()
    wrong = [
        (proxy, key, was, is_)
        for proxy, scores in old.items()
        for (key, _), was, is_ in zip(golden["searches"][name]["networks"], scores, new[proxy], strict=True)
        if not math.isclose(was, is_, rel_tol=1e-9)
    ]
    assert not wrong


def _keys() -> list[list[Any]]:
    """Keys and costs of the stored architectures."""
    architectures = [_architecture(data) for data in json.loads(ARCHITECTURES.read_text("utf-8"))]
    return [[one.key, one.network_key, list(nas.macs(one)), list(nas.params(one))] for one in architectures]


def test_keys_of_stored_architectures_do_not_change(golden):
    assert _keys() == golden["keys"]


def write(*proxies: str) -> None:
    """Write the rows of this version, one per line; or only the scores of some proxies."""
    if proxies:
        golden = _golden()
        for name, rows in golden["searches"].items():
            rows["proxies"] |= {proxy: rows_of(name)["proxies"][proxy] for proxy in proxies if proxy in rows["proxies"]}
    else:
        golden = {"searches": {name: rows_of(name) for name in SEARCHES}, "keys": _keys()}
    ROWS.write_text(_lines(golden) + "\n", "utf-8")


def _lines(value: Any, depth: int = 0) -> str:
    """JSON with a line for each row."""
    if isinstance(value, dict) and depth < 4:
        inside = (f"{json.dumps(key)}: {_lines(item, depth + 1)}" for key, item in value.items())
        return "{\n" + ",\n".join(inside) + "\n}"
    if isinstance(value, list) and any(isinstance(item, list) for item in value):
        return "[\n" + ",\n".join(json.dumps(item, separators=(",", ":")) for item in value) + "\n]"
    return json.dumps(value, separators=(",", ":"))


if __name__ == "__main__":
    if sys.argv[1:2] != ["--write"]:
        sys.exit(__doc__)
    write(*sys.argv[2:])
