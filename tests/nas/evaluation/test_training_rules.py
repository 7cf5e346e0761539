"""Training rules are constructed with their settings; wrong names are answered with the valid ones."""

from __future__ import annotations

import pytest

from nas.errors import UserError
from nas.evaluation.training_rules import load_rule
from nas.representation.elements import TrainingSpec


def test_a_rule_has_its_settings():
    rule = load_rule(TrainingSpec(rule="sandwich", settings=(("sampled", 2), ("soft", True))))
    assert (rule.sampled, rule.soft) == (2, True)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            "sandwich",
            "The training rule 'sandwich' has the settings ema, ensemble, smoothing, zero_init, soft, sampled. "
            "Got taste.",
        ),
        ("joint", "The training rule 'joint' has no settings. Got taste."),
    ],
)
def test_unknown_settings_are_refused_with_the_valid_ones(rule, message):
    with pytest.raises(UserError) as caught:
        load_rule(TrainingSpec(rule=rule, settings=(("taste", 5),)))
    assert str(caught.value) == message
