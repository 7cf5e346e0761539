"""The training of controllers: settings and results."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas.config import check_settings, setting
from nas.errors import UserError
from nas.execution.controller_architectures import SEES

if TYPE_CHECKING:
    from nas.execution.controller import Controller
    from nas.execution.gate_policy import GatePolicy


LEARNERS = ("expected", "reinforce", "gates")
"""Controllers learn as contextual bandits: from the expected reward over all choices, or from the reward of one sampled
choice (REINFORCE). "gates": gate policies, which learn by the gradients of gates.
"""

SHAPES = ("linear", "hinge", "distance")
"""Penalty of a gate policy with mean gate G at utilization u: (1 − u) · G, max(0, G − u)^p, or |G − u|^p."""
DEFAULT_SHAPE, DEFAULT_POWER = "hinge", 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerSettings:
    """Settings of the training of controllers.

    Parameters
    ----------
    penalties
        λ of each controller: accuracy that all MACs of the network cost. For a gate policy, the weight of its penalty.
    learner
        One of :data:`LEARNERS`.
    sees
        One of :data:`nas.execution.controller_architectures.SEES`; None: see :attr:`controller_input`.
    epochs
        Passes over the images.
    width
        See :func:`nas.execution.controller_architectures.controller_architecture`.
    shape, power
        Penalty of a gate policy, see :data:`SHAPES`; ``power`` is p. None: see :attr:`gate_penalty`.

    Raises
    ------
    UserError
        For settings outside of these ranges, and for settings that the learner or the shape does not use.
    """

    penalties: tuple[float, ...] = setting(
        (0.01, 0.03, 0.1, 0.3, 1.0), "Accuracy that all MACs cost; one controller per value."
    )
    learner: str = setting("expected", "Learning rule: expected, reinforce or gates.", valid=LEARNERS)
    sees: str | None = setting(
        None,
        "Input of a controller: answer (of the smallest point) or input.",
        default="answer, or input for gates",
        valid=SEES,
    )
    epochs: int = setting(40, "Epochs of the training of controllers.", most=100_000)
    width: int = setting(8, "Channels of a controller's first layer.", most=100_000)
    shape: str | None = setting(
        None, "Penalty of a gate policy: linear, hinge or distance.", default=DEFAULT_SHAPE, valid=SHAPES
    )
    power: float | None = setting(None, "Power of the penalty of a gate policy.", default=f"{DEFAULT_POWER:g}")

    def __post_init__(self) -> None:
        penalties = self.penalties
        numbers = isinstance(penalties, tuple) and all(isinstance(penalty, int | float) for penalty in penalties)
        ascending = numbers and list(penalties) == sorted(set(penalties))
        if not ascending or not penalties or not all(0 <= penalty < math.inf for penalty in penalties):
            raise UserError(f"Each --penalty must be a number, at least 0 and ascending. Got {penalties!r}.")
        check_settings(self)
        if self.learner == "gates" and self.sees == "answer":
            raise UserError("Gate policies see the input. Got --sees answer: use it for controllers only.")
        if self.learner != "gates" and (self.shape, self.power) != (None, None):
            raise UserError(
                "--shape and --power need gate policies: add --learner gates. "
                f"Got learner {self.learner!r}, shape {self.shape!r} and power {self.power!r}."
            )
        if self.shape == "linear" and self.power is not None:
            raise UserError(f"--power needs --shape hinge or distance. Got shape 'linear' and power {self.power:g}.")

    @property
    def controller_input(self) -> str:
        """Input of the controllers: ``sees``; by default "answer", for gate policies "input"."""
        return self.sees or ("input" if self.learner == "gates" else "answer")

    @property
    def gate_penalty(self) -> tuple[str, float]:
        """Shape and power of a gate policy's penalty; by default :data:`DEFAULT_SHAPE`, :data:`DEFAULT_POWER`."""
        return self.shape or DEFAULT_SHAPE, self.power or DEFAULT_POWER


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerResult:
    """The controllers of a network, with measurements.

    Parameters
    ----------
    controllers
        One for each penalty.
    policies
        Rows with the columns ``results.columns.POLICY``. MACs are means over examples and include the controller and
        all passes. One row for each controller, with utilization 1.0; for gate policies, one for each utilization.
    fixed
        Rows with utilization, macs, accuracy and test_accuracy: each utilization that controllers choose from, for all
        examples.
    """

    controllers: list[Controller | GatePolicy]
    policies: list[dict[str, Any]]
    fixed: list[dict[str, Any]]
