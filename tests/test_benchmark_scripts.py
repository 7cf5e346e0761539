"""Every benchmark runs in a short form, in a copy of its folder, so that committed rows do not change."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
DATA = "--data=synthetic:n=300,classes=3,size=12,channels=1"
SHORT = (DATA, "--images=200", "--epochs=1", "--seeds=1", "--width=8", "--csv=rows.csv", "--folder=runs")
COMMANDS = {
    "anytime_accuracy": (*SHORT, "--method=sandwich", "--method=I-ResNeXt"),
    "asynchronous": ("--search=asha", "--seconds=2", "--train=2", "--seeds=1", "--csv=rows.csv"),
    "calibration": SHORT,
    "causal_training": ("--seconds=0.01",),
    "chain": ("--population=40", "--graphs=8", "--repeats=1"),
    "continuing": (
        DATA,
        "--passes=19",
        "--max-macs=1e6",
        "--way=restart",
        "--seeds=1",
        "--csv=rows.csv",
        "--folder=runs",
    ),
    "contributions": (
        DATA,
        "--minutes=0.4",
        "--seeds=1",
        "--csv=rows.csv",
        "--complete=complete.csv",
        "--folder=runs",
    ),
    "digits_cells": ("--limit=1", "--csv=rows.csv"),
    "kills": ("--kills=5", "--csv=rows.csv", "--folder=runs"),
    "loading": ("--count=200", "--workers=1", "--csv=rows.csv"),
    "chain_random_networks": ("--networks=1", "--images=2"),
    "driver_scale": ("--share=0.02", "--csv=rows.csv"),
    "inherited": (DATA, "--images=40", "--children=1", "--max-macs=1e6", "--csv=rows.csv", "--folder=runs"),
    "partial_training": (DATA, "--images=40", "--max-macs=3e5", "--csv=rows.csv", "--folder=runs"),
    "path_sampling": (*SHORT, "--rule=path_sampling", "--rule=uniform_sampling", "--subnetworks=1"),
    "pays": (DATA, "--minutes=0.4", "--seeds=1", "--csv=rows.csv", "--folder=runs"),
    "pays_report": (),
    "population": (DATA, "--images=200", "--epochs=1", "--limit=2", "--csv=rows.csv"),
    "ranking": ("--proxy=dtmc", "--proxy=macs"),
    "recipe": (
        DATA,
        "--passes=1",
        "--max-macs=2e6",
        "--recipe",
        *("all images shifted", "half of the images shifted", "no shifts in the last quarter"),
        *("label smoothing 0.1", "moving average", "contiguous layout"),
        "--csv=rows.csv",
        "--folder=runs",
    ),
    "refine": ("--seconds=0.01", "--network=small"),
    "score_selection": (),
    "screening": ("--pool=40", "--repeats=1"),
    "search": (DATA, "--study=short", "--space=slimmable", "--hours=0.02"),
    "stepping": SHORT,
    "seed_spread": (),
    "store_scale": ("--candidates=200", "--repeats=1", "--csv=rows.csv"),
    "strategies": ("--seeds=1", "--after=5", "--limit=8", "--strategy=random", "--out=rows.csv"),
    "throttle": ("--seconds=0.01", "--network=resnet, 9 blocks"),
    "throttle_accuracy": (*SHORT, "--method=ungated", "--method=in groups"),
    "workers": ("--repeats=1", "--train=2", "--csv=rows.csv"),
    "width_schedules": (
        *(DATA, "--images=200", "--epochs=1", "--seeds=1", "--csv=rows.csv"),
        *("--schedule", "path"),
    ),
}
LIBRARIES = {
    "bootstrap",
    "chain_checks",
    "chain_graphs",
    "chain_oracles",
    "controls",
    "kills_evaluator",
    "matched",
    "pays_evaluator",
    "public_tables",
    "resumable",
    "score_ideas",
    "step_cost",
    "tables",
    "timing",
    "waiting",
}
"""Files that other scripts import."""


def test_every_script_has_a_short_form():
    assert {path.stem for path in BENCHMARKS.glob("*.py")} == COMMANDS.keys() | LIBRARIES


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_short_form_runs(tmp_path, name):
    shutil.copytree(BENCHMARKS, tmp_path / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, f"benchmarks/{name}.py", *COMMANDS[name]],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
