"""Strategies: what to propose next, given what has been trained. Random, TPE and NSGA-II."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nas.errors import UserError
from nas.spaces.choices import Decide, Options, Primitive, index_of

if TYPE_CHECKING:
    from nas.representation.architecture import Architecture


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A trained candidate, as strategies see it.

    choices: what the search space chose, by name.
    domains: the options of every one of these names.
    value: anytime accuracy, higher is better, finite: a candidate that gave NaN carries the floor. Of a stopped one,
      its last.
    complete: trained to the end; False when it was stopped early.
    intermediate: step (epoch) → anytime accuracy there.
    generation: number of the generation that proposed it, from 0.
    architecture: the network proposed; None where a caller does not have it.
    proxy: its score by the study's proxy; None where a caller does not have it.
    """

    choices: Mapping[str, Primitive]
    domains: Mapping[str, Options]
    value: float
    complete: bool = True
    intermediate: Mapping[int, float] = field(default_factory=dict)
    generation: int = 0
    architecture: Architecture | None = None
    proxy: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise UserError(f"The value of a trial must be finite; pass the floor instead. Got {self.value=}.")
        if self.choices.keys() != self.domains.keys():
            raise UserError(
                "A trial must have the options of exactly the names it chose. "
                f"Got choices of {sorted(self.choices)}, options of {sorted(self.domains)}."
            )
        for name, value in self.choices.items():
            if index_of(self.domains[name], value) < 0:
                raise UserError(
                    f"A choice must be among its options. Got {value!r} of {self.domains[name]} for {name!r}."
                )


class Strategy(ABC):
    """Proposes candidates: answers the decisions of a search space, in the light of what has been trained.

    Life cycle
    ----------
    The driver constructs one for every generation, as `Strategy(seed=..., history=...)`, with a seed derived from study
    and generation and all trials trained so far, in any order. Then it calls `ask` once for each proposal, and hands
    the decision function that it returns to the search space, through a `Recorder`. The function is good until the next
    `ask` or `tell`. The space may ask for names never seen in history, may leave out others, and may raise in the
    middle.

    Most proposals are screened out untrained; a strategy never hears of those. There is no state beside seed and
    history, so a study resumes exactly: equal seed, history (as a set) and calls give equal proposals, in any process.

    An asynchronous driver keeps one for longer and calls `tell` as trials finish: late, out of order, or never.

    All calls come from one thread. A strategy uses no global random state, prints nothing and warns of nothing.

    """

    def __init__(self, *, seed: int, history: Sequence[Trial] = ()) -> None:
        self.seed = seed
        self.history = list(history)

    @property
    def pool_limit(self) -> int | None:
        """Most proposals that it can be asked for at a cost of a second or two; None where there is no limit."""
        return None

    @abstractmethod
    def ask(self) -> Decide:
        """The decisions of one new proposal: `decide(name, options) -> index`. The caller asks for each name once."""

    def score(self, architecture: Architecture, proxy: float | None) -> float | None:
        """What a candidate is expected to be worth: the driver trains first where it is highest, cost included.

        None, the default, leaves the order to the driver: by rank of the proxy's score and MACs. Called for every
        feasible proposal; between two calls of `tell` it gives a finite number for all of them or None for all, and it
        is pure: neither the order of the calls nor their number matters, nor do they change what `ask` proposes.

        proxy: the candidate's score by the study's proxy; None to do without.
        """
        return None

    def tell(self, trial: Trial) -> None:
        """Adds a trained candidate to the history; counts from the next `ask` on."""
        self.history.append(trial)
