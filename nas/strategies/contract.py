"""The contract of strategies, which propose candidates, and the trials that they learn from."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from nas.errors import UserError
from nas.spaces.choices import Decide, Options, Primitive, index_of

if TYPE_CHECKING:
    from nas.representation.architecture import Architecture


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A trained candidate in the history of a strategy.

    Parameters
    ----------
    choices : mapping of str to str, int, float, bool or None
        The choices of the search space by name.
    domains : mapping of str to tuple
        The options of every name in ``choices``.
    value : float
        Anytime accuracy, finite; higher is better. The floor for a candidate with NaN, the last value for a stopped
        one.
    complete : bool
        False if training was stopped early.
    intermediate : mapping of int to float
        Anytime accuracy by step (epoch).
    generation : int
        Number of the generation that proposed it, from 0.
    architecture : Architecture or None
        The proposed architecture, if known.
    proxy : float or None
        Its score by the study's proxy, if known.

    Raises
    ------
    UserError
        If the value is not finite, or if choices and domains do not fit together.
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
                "A trial must have options for exactly the names of its choices. "
                f"Got choices of {sorted(self.choices)}, options of {sorted(self.domains)}."
            )
        for name, value in self.choices.items():
            if index_of(self.domains[name], value) < 0:
                raise UserError(
                    f"A choice must be among its options. Got {value!r} of {self.domains[name]} for {name!r}."
                )

    @property
    def last_step(self) -> int:
        """The last step with an intermediate value; -1 if there is none."""
        return max(self.intermediate, default=-1)


def trial_order(trial: Trial) -> tuple[int, str, float, bool]:
    """A sort key that does not depend on the order of arrival: generation, then content."""
    return trial.generation, repr(sorted(trial.choices.items())), trial.value, trial.complete


class Strategy(ABC):
    """Proposes candidates: makes the choices of a search space, based on the trained candidates.

    Notes
    -----
    The driver constructs one strategy per generation, in an asynchronous search per pool, as ``Strategy(seed=...,
    history=...)``. The seed is derived from study and generation; the history has the trials so far, in any order: of
    more than 2,000, the newest 1,000 and the best 1,000 of the rest. After ``--from``, trials of the earlier study are
    among them; their generations come first. For each proposal the driver calls ``ask`` once, and passes the returned
    decision function to the search space through a `Recorder`. The function is valid until the next call of ``ask`` or
    ``tell``. The space may ask for names that are not in the history, may not ask for some that are, and may raise an
    exception at any time.

    Most proposals are rejected without training, and the strategy is not informed of it. A strategy has no state except
    seed and history, so a study resumes exactly: equal seeds, histories (as sets) and calls give equal proposals, in
    any process.

    A program that keeps a strategy for longer calls ``tell`` when trials finish: late, out of order, or never.

    All calls come from one thread. A strategy uses no global random state, prints nothing and gives no warnings.

    Parameters
    ----------
    seed : int
        Determines the proposals, together with the history.
    history : sequence of Trial
        The trained candidates.

    See Also
    --------
    nas.testing.check_strategy : checks that a strategy keeps this contract.
    """

    reads_architectures: ClassVar[bool] = True
    """Whether the trials must carry their architectures. False saves time in long studies."""

    def __init__(self, *, seed: int, history: Sequence[Trial] = ()) -> None:
        self.seed = seed
        self.history = list(history)

    @property
    def pool_limit(self) -> int | None:
        """Largest number of proposals that cost one or two seconds; None without a limit."""
        return None

    @abstractmethod
    def ask(self) -> Decide:
        """Make one new proposal.

        Returns
        -------
        callable
            The decision function ``decide(name, options) -> index``. The caller asks for each name once.
        """

    def score(self, architecture: Architecture, proxy: float | None) -> float | None:
        """Expected worth of a candidate. The driver trains the candidates with the highest scores first.

        Called for every feasible proposal. Between two calls of ``tell``, either all scores are finite numbers or all
        are None. Scores are pure: they depend neither on the order nor on the number of calls, and calls do not change
        the proposals of ``ask``.

        Parameters
        ----------
        architecture : Architecture
            The candidate.
        proxy : float or None
            Its score by the study's proxy; None to ignore the proxy.

        Returns
        -------
        float or None
            The score, which takes the candidate's cost into account. None, the default, leaves the order to the driver:
            by the ranks of the proxy's score and of MACs.
        """
        return None

    def tell(self, trial: Trial) -> None:
        """Add a trained candidate to the history, from the next ``ask`` on.

        Parameters
        ----------
        trial : Trial
        """
        self.history.append(trial)
