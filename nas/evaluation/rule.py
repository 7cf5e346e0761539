"""The training rule of a study, given in its settings, in place of the rules that its spaces name."""

from __future__ import annotations

from dataclasses import replace

from nas.config.named import parse_named
from nas.plugins import canonical_spec
from nas.representation.elements import TrainingSpec


def parse_rule(text: str) -> TrainingSpec:
    """Parse a training rule with settings, as given on the command line.

    Parameters
    ----------
    text
        The rule's name or ``file.py:Name``, then ``:`` and settings as ``name=value``, separated by commas.

    Raises
    ------
    PluginError
        For an unknown rule.
    UserError
        For malformed settings. The rule itself checks their values: see
        :func:`nas.evaluation.training_rules.load_rule`.

    Examples
    --------
    >>> parse_rule("sandwich:sampled=2,soft=true")
    TrainingSpec(rule='sandwich', settings=(('sampled', 2), ('soft', True)))
    """
    name, settings = parse_named(text, "rule", "sandwich:sampled=2,soft=true")
    return TrainingSpec(rule=canonical_spec("nas.training_rules", name), settings=tuple(sorted(settings.items())))


def replaced(of_space: TrainingSpec, of_study: TrainingSpec) -> TrainingSpec:
    """The study's training rule; for the same rule, the space's settings fill the missing ones."""
    if of_space.rule != of_study.rule:
        return of_study
    return replace(of_study, settings=tuple(sorted((dict(of_space.settings) | dict(of_study.settings)).items())))
