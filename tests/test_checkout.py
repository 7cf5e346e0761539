"""A checkout that is not installed trains a candidate with few packages: no Optuna, no database, no command line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
ABSENT = ("optuna", "sqlalchemy", "alembic", "ray", "typer", "rich", "matplotlib", "sklearn", "scipy", "jinja2")
TRAIN = f"""
import importlib.metadata, json, sys

sys.modules |= dict.fromkeys({ABSENT!r})  # importing these fails
importlib.metadata.entry_points = lambda **_: ()

import nas
from nas.evaluation.jobs import Job
from nas.plugins import load_plugin

assert nas.__file__.startswith(sys.argv[1]), nas.__file__
evaluator = load_plugin("nas.evaluators", "training")(f"npz:{{sys.argv[2]}}/data.npz", device="cpu")
space = load_plugin("nas.search_spaces", "slimmable")()
architecture = space.architecture(lambda name, options: options[0], evaluator.info().task, points=2)
job = Job(candidate=1, architecture=architecture.to_json(), seed=0, epochs=1, until=1, images=None, folder=sys.argv[2])
print(json.dumps(evaluator.evaluate(job, lambda epoch: None).points))
"""


def test_a_candidate_trains_in_a_checkout_that_is_not_installed(tmp_path):
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    shutil.copy(ROOT / "pyproject.toml", checkout)
    for package in ("nas", "search_spaces", "evaluators", "results"):
        shutil.copytree(ROOT / package, checkout / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "work").mkdir()
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, size=(60, 8, 8, 1), dtype=np.uint8), np.arange(60) % 2
    np.savez(tmp_path / "work" / "data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(checkout), str(tmp_path / "work")],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"accuracy"' in done.stdout
