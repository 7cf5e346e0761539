"""The trainer that the tests of this folder share."""

from __future__ import annotations

import pytest

from evaluators.training.evaluator import Training

from .jobs import DATA


@pytest.fixture(scope="module")
def settings() -> Training:
    return Training(DATA)
