"""The training of controllers: settings and result."""

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
"""How controllers learn: as bandits, from the rewards of all choices or from that of one that they try; or as gate
policies, from the gradients of gates.
"""


SHAPES = ("linear", "hinge", "distance")
"""How the mean gate G of a policy is penalised at utilization u: (1 − u) · G, max(0, G − u)^p, |G − u|^p."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSettings:
    """How controllers are trained.

    penalties: λ of each controller: what all the MACs of the network cost in accuracy; of a gate policy, the weight of
    its penalty. learner: one of :data:`LEARNERS`. sees: one of :data:`SEES`, None for "answer"; gate policies see the
    input. epochs: passes over the images that they learn from. width: see
    :func:`nas.execution.controller.controller_architecture`. shape, power: of a gate policy's penalty, see
    :data:`SHAPES`.
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
        if not (self.penalties and ascending and all(0 <= penalty < math.inf for penalty in self.penalties)):
            raise UserError(f"penalties must be numbers, at least 0 and ascending. Got {self.penalties}.")
        for name, valid in (("learner", LEARNERS), ("sees", (None, *SEES)), ("shape", SHAPES)):
            if getattr(self, name) not in valid:
                raise UserError(unknown_name(name, getattr(self, name), [one for one in valid if one]))
        if self.learner == "gates" and self.sees == "answer":
            raise UserError("Gate policies see the input: leave sees='answer' to controllers.")
        if not (isinstance(self.power, int | float) and 0 < self.power < math.inf):
            raise UserError(f"power must be positive. Got {self.power!r}.")
        for name in ("epochs", "width"):
            if not (type(getattr(self, name)) is int and getattr(self, name) >= 1):
                raise UserError(f"{name} must be a whole number, at least 1. Got {getattr(self, name)!r}.")

    @property
    def seen(self) -> str:
        """What controllers see, or gate policies."""
        return self.sees or ("input" if self.learner == "gates" else "answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerResult:
    """Controllers of a network, one a penalty, and what was measured.

    policies: of each controller, with penalty, learner, sees, utilization (1.0; of gate policies, those that they were
    asked for), controller_macs, and accuracy and test_accuracy with the mean macs and test_macs of an example, all that
    runs included. fixed: the same for every utilization that there is to pick from, with utilization and macs.
    """

    controllers: list[Controller | GatePolicy]
    policies: list[dict[str, Any]]
    fixed: list[dict[str, Any]]
