"""The training of controllers: settings and results."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas.errors import UserError, unknown_name
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSettings:
    """Settings of the training of controllers.

    Parameters
    ----------
    penalties
        λ of each controller: accuracy that all MACs of the network cost. For a gate policy, the weight of its penalty.
    learner
        One of :data:`LEARNERS`.
    sees
        One of :data:`nas.execution.controller_architectures.SEES`; None: "answer", or "input" for gate policies.
    epochs
        Passes over the images.
    width
        See :func:`nas.execution.controller_architectures.controller_architecture`.
    shape, power
        Penalty of a gate policy, see :data:`SHAPES`; ``power`` is p.

    Raises
    ------
    UserError
        For settings outside of these ranges.
    """

    penalties: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0)
    learner: str = "expected"
    sees: str | None = None
    epochs: int = 40
    width: int = 8
    shape: str = "hinge"
    power: float = 1.0

    def __post_init__(self) -> None:
        ascending = list(self.penalties) == sorted(set(self.penalties))
        if not self.penalties or not ascending or not all(0 <= penalty < math.inf for penalty in self.penalties):
            raise UserError(f"penalties must be numbers, at least 0 and ascending. Got {self.penalties}.")
        for name, valid in (("learner", LEARNERS), ("sees", (None, *SEES)), ("shape", SHAPES)):
            if getattr(self, name) not in valid:
                raise UserError(unknown_name(name, getattr(self, name), [option for option in valid if option]))
        if self.learner == "gates" and self.sees == "answer":
            raise UserError("Gate policies see the input. Got sees='answer': use it for controllers only.")
        if not (isinstance(self.power, int | float) and 0 < self.power < math.inf):
            raise UserError(f"power must be positive. Got {self.power!r}.")
        for name in ("epochs", "width"):
            if not (type(getattr(self, name)) is int and getattr(self, name) >= 1):
                raise UserError(f"{name} must be a whole number, at least 1. Got {getattr(self, name)!r}.")

    @property
    def seen(self) -> str:
        """Input of the controllers: ``sees``, or its default."""
        return self.sees or ("input" if self.learner == "gates" else "answer")


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
