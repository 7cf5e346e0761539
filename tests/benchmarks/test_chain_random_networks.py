"""The chain against operations of random weights, within the tolerances that the evidence states."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from nas.chain.training import training_chain
from nas.proxies.dtmc import dtmc

from ..nas.supernets import proposals
from .scripts import script

networks = script("chain_random_networks")
TOLERANCES = {
    "conv 3×3": (0.02, 0.04),
    "conv 3×3, stride 2": (0.12, 0.04),
    "conv 1×1, stride 2": (0.12, 0.06),
    "depthwise 3×3": (0.06, 0.25),
    "concat of two conv 3×3": (0.02, 0.04),
}
"""Operation → deviation of the signal's share of the high band, and of the gain of energy from 1."""


@pytest.fixture(scope="module")
def measured() -> pd.DataFrame:
    torch.manual_seed(0)
    kept = {name: networks.OPERATIONS[name] for name in TOLERANCES}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "OPERATIONS", kept)
        return pd.DataFrame(networks.of_operations(4))


@pytest.mark.parametrize("name", TOLERANCES)
def test_operations_agree_with_the_chain(measured: pd.DataFrame, name: str) -> None:
    share, gain = TOLERANCES[name]
    rows = measured[(measured.what == name) & (measured.spectrum != "smooth")]
    signal = rows[rows.direction == "signal"]
    assert (signal.measured - signal.chain).abs().max() <= share
    assert (rows.gain - 1).abs().max() <= gain


def test_strides_fold_both_bands(measured: pd.DataFrame) -> None:
    """Why the signal behind a stride is white: nothing of the spectrum that is read is left."""
    rows = measured[measured.what == "conv 3×3, stride 2"].set_index(["direction", "spectrum"]).measured
    for direction in ("signal", "gradient"):
        assert rows[direction, "low"] > 0.5 > rows[direction, "high"]


def test_the_adopted_rule_is_the_chain_of_nas() -> None:
    adopted = networks.RULES[networks.ADOPTED]
    for architecture in [*proposals("residual", 5), *proposals("mobile", 5)]:
        trained = networks.chain_by(adopted, architecture.topology, architecture.points[-1])
        for each in training_chain(architecture.topology, architecture.points[-1]):
            assert trained[each.operation] == pytest.approx(each[1:5])


def test_the_score_by_no_further_rule_is_the_one_without_strides() -> None:
    """A network whose strides read white noise has the same score by both rules, and another one does not."""
    scores = [
        (networks.score_by(networks.Rules(), a), dtmc(a), any(o.kind == "avg_pool" for o in a.topology.operations))
        for a in proposals("residual", 12)
    ]
    assert all(plain == pytest.approx(ours) for plain, ours, pooled in scores if not pooled)
    assert any(plain != pytest.approx(ours) for plain, ours, pooled in scores if pooled)
