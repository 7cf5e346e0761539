"""The examples do what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

import nas
from nas.testing import search_space_checks

from .nas.searching import TINY

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.mark.parametrize(
    "check", [pytest.param(check, id=name) for name, check in search_space_checks(f"{EXAMPLES}/own_space.py:Ladder")]
)
def test_own_space(check):
    check()


def test_own_space_is_short():
    assert len((EXAMPLES / "own_space.py").read_text(encoding="utf-8").splitlines()) < 40


def test_own_space_is_searched(tmp_path):
    study = nas.search(
        "synthetic:n=300,classes=3,size=8",
        space=f"{EXAMPLES}/own_space.py:Ladder",
        store=str(tmp_path / "nas.db"),
        **TINY,
    )
    front = study.front()
    assert set(front.space) == {"Ladder"}
    assert front.test_accuracy.notna().all()
    network = nas.load(front.candidate[0], store=str(tmp_path / "nas.db"))
    assert network.macs[front.level[0]] == front.macs[0]
