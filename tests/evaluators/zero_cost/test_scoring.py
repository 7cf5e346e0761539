"""All zero-cost proxies: their contract, invariances, levels and seeds, other processes, and batches of images."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from evaluators.data.loading import load
from evaluators.zero_cost.naswot import NASWOT, code_kernel, log_determinant
from evaluators.zero_cost.scoring import draw_batches, fresh_network
from evaluators.zero_cost.synflow import SynFlow, synaptic_flow
from evaluators.zero_cost.zico import ZiCo, gradients, log_steadiness
from nas import testing
from nas.errors import UserError
from nas.plugins import load_plugin
from nas.proxies.contract import load_proxy
from nas.representation.elements import TrainingSpec

from ...nas.hand_built import ALL
from .networks import random_architectures

IMAGES = "synthetic:n=900,classes=10,size=8,channels=1"
NAMES = ("naswot", "synflow", "zico")
SMALL = {
    "naswot": NASWOT(batch_size=16),
    "synflow": SynFlow(),
    "zico": ZiCo(batch_size=8),
    "naswot mean": NASWOT(batch_size=16, levels="mean"),
    "synflow mean": SynFlow(levels="mean"),
    "zico mean": ZiCo(batch_size=8, levels="mean"),
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("style", ALL)
def test_finite_on_every_style(name, style):
    score = SMALL[name](ALL[style]())
    assert type(score) is float
    assert math.isfinite(score)


@pytest.mark.parametrize("name", ["naswot", "synflow", "zico"])
@pytest.mark.parametrize("space", ["residual", "mobile", "slimmable"])
def test_finite_and_different_on_random_networks(name, space):
    scores = [SMALL[name](architecture) for architecture in random_architectures(space, 4)]
    assert np.isfinite(scores).all()
    assert len(set(scores)) >= 3


@pytest.mark.parametrize("norm", ["shared", "per_point", "recalibrated"])
@pytest.mark.parametrize("name", SMALL)
def test_every_norm_policy(name, norm):
    assert math.isfinite(SMALL[name](replace(ALL["causal"](), norm=norm)))


@pytest.mark.parametrize("name", NAMES)
def test_installed_and_passing_the_shipped_checks(name):
    proxy = load_proxy(name)
    assert proxy.needs == ("weights" if name == "synflow" else "batch")
    testing.check_proxy(name)


@pytest.mark.parametrize("name", SMALL)
def test_training_rule_and_unused_parts_do_not_matter(name):
    score, architecture = SMALL[name], ALL["residual"]()
    assert score(replace(architecture, training=TrainingSpec(rule="joint"))) == score(architecture)
    smaller = architecture.with_points(architecture.points[:2])
    assert smaller.canonical != smaller
    assert score(smaller) == score(smaller.canonical)


@pytest.mark.parametrize("name", NAMES)
def test_levels(name):
    """The score of the largest point by default; else the mean of the scores of all points."""
    architecture = ALL["multi_exit"]()
    by_level = {
        "naswot": lambda network, level: log_determinant(
            code_kernel(network, draw_batches(architecture, 1, 16)[0][0], level)
        ),
        "synflow": lambda network, level: math.log(sum(synaptic_flow(network, level).values())),
        "zico": lambda network, level: log_steadiness(gradients(network, draw_batches(architecture, 2, 8), level)),
    }[name]
    scores = [by_level(fresh_network(architecture), level) for level in range(3)]
    assert SMALL[name](architecture) == pytest.approx(scores[-1], rel=1e-6)
    assert SMALL[f"{name} mean"](architecture) == pytest.approx(np.mean(scores), rel=1e-6)
    assert len(set(scores)) == 3


@pytest.mark.parametrize("name", NAMES)
def test_other_seeds_give_other_scores(name):
    architecture = ALL["mobile"]()
    scores = {replace(SMALL[name], seed=seed)(architecture) for seed in range(3)}
    assert len(scores) == 3


def test_global_state_is_left_alone():
    architecture, threads = ALL["residual"](), torch.get_num_threads()
    torch.manual_seed(3)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    with torch.no_grad():  # as a caller may have it
        first = [score(architecture) for score in SMALL.values()]
        assert not torch.is_grad_enabled()
    torch.manual_seed(4)
    assert [score(architecture) for score in SMALL.values()] == first
    torch.set_rng_state(before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]  # noqa: NPY002
    assert torch.get_num_threads() == threads


ELSEWHERE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import json, torch
torch.set_num_threads(3)
torch.manual_seed(99)
from evaluators.zero_cost.naswot import NASWOT
from evaluators.zero_cost.synflow import SynFlow
from evaluators.zero_cost.zico import ZiCo
from nas.proxies.nn_mass import NNMass
from nas.representation.architecture import Architecture
architecture = Architecture.from_json(json.loads(sys.stdin.read()))
print([p(architecture) for p in (ZiCo(batch_size=8), SynFlow(), NASWOT(batch_size=16), NNMass())])
"""


def test_the_same_in_another_process_with_few_packages():
    """Other order, hash seed, threads and global seed; neither scikit-learn nor the search's packages installed."""
    absent = {"sklearn", "scipy", "optuna", "sqlalchemy", "safetensors", "matplotlib", "rich", "typer", "ray"}
    architecture = random_architectures("residual", 1)[0]
    expected = [SMALL[name](architecture) for name in ("zico", "synflow", "naswot")] + [
        load_plugin("nas.proxies", "nn_mass")()(architecture)
    ]
    ended = subprocess.run(
        [sys.executable, "-c", ELSEWHERE.format(absent=absent)],
        input=json.dumps(architecture.to_json()),
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(ended.stdout) == expected


@pytest.mark.parametrize("kind", [NASWOT, ZiCo])
def test_real_images(kind):
    architecture = random_architectures("slimmable", 1)[0]
    real, noise = kind(data=IMAGES, batch_size=16), kind(batch_size=16)
    assert real(architecture) == kind(data=load(IMAGES), batch_size=16)(architecture)
    assert real(architecture) != noise(architecture)


def test_images_are_distinct_and_standardised():
    architecture = random_architectures("slimmable", 1)[0]
    drawn = draw_batches(architecture, 2, 200, IMAGES)
    x = torch.cat([x for x, _ in drawn])
    assert x.shape == (400, 1, 8, 8)
    assert len(x.flatten(1).unique(dim=0)) == 400
    assert float(x.mean()) == pytest.approx(0, abs=0.05)
    assert float(x.std()) == pytest.approx(1, abs=0.05)
    assert set(torch.cat([labels for _, labels in drawn]).tolist()) == set(range(10))


def test_batches_of_few_images_are_smaller():
    architecture = random_architectures("slimmable", 1)[0]
    drawn = draw_batches(architecture, 4, 10_000, IMAGES)
    assert {len(x) for x, _ in drawn} == {len(load(IMAGES).y_train) // 4}


def test_bad_data_and_settings_are_rejected():
    with pytest.raises(UserError, match=r"the task's shape.*'synthetic"):
        NASWOT(data=IMAGES)(ALL["residual"]())
    with pytest.raises(UserError, match="fill 1000 batches of two"):
        ZiCo(data=IMAGES, batches=1000)(random_architectures("slimmable", 1)[0])
    for kind in (NASWOT, SynFlow, ZiCo):
        with pytest.raises(UserError, match="'largest' or 'mean'"):
            kind(levels="smallest")
    with pytest.raises(UserError, match="batch_size must be a whole number of at least 2"):
        NASWOT(batch_size=1)
    with pytest.raises(UserError, match="batches must be a whole number of at least 2"):
        ZiCo(batches=1)
