"""The examples do what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.testing import search_space_checks

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.mark.parametrize(
    "check", [pytest.param(check, id=name) for name, check in search_space_checks(f"{EXAMPLES}/own_space.py:Ladder")]
)
def test_own_space(check):
    check()


def test_own_space_is_short():
    assert len((EXAMPLES / "own_space.py").read_text(encoding="utf-8").splitlines()) < 40
