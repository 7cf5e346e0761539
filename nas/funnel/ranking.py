"""The order of training: which of many scored candidates go first, in memory that does not grow with their number.

By non-dominated rank of (score, MACs of the largest point), front first; within a front the candidates that stand
alone in log MACs go first. Not the best of every MACs stratum: the best of a bad stratum is wasted training.

References
----------
Deb et al., A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II, 2002 (rank, then crowding).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.errors import UserError
from results.front import crowding, non_dominated_rank

T = TypeVar("T")


def order_of_training(
    scores: ArrayLike, macs: ArrayLike, *, keep: int | None = None, keys: Sequence[Any] | None = None
) -> NDArray[np.int64]:
    """The indices of the candidates in the order in which to train them, the first ``keep`` of them (None: all).

    scores: shape (N,), higher is better; NaN is worst. macs: of the largest point, shape (N,), positive.
    keys: sortable, different; they break ties, so that the order does not depend on that of the arguments. None: ties
        go by position.

    Raises
    ------
    UserError
        On MACs that are not positive and finite, lengths that differ, or a negative ``keep``.

    Notes
    -----
    O(N log N): 10,000 candidates take about 10 ms.

    Examples
    --------
    >>> order_of_training([1.0, 2.0, 3.0, 0.5], [10, 10, 30, 20]).tolist()
    [1, 2, 0, 3]
    """
    scores_N, macs_N = np.asarray(scores, dtype=float), np.asarray(macs, dtype=float)
    if not (scores_N.ndim == 1 and scores_N.shape == macs_N.shape and (keys is None or len(keys) == len(scores_N))):
        raise UserError(f"Scores, MACs and keys must be as many. Got shapes {scores_N.shape} and {macs_N.shape}.")
    if not (np.isfinite(macs_N).all() and (macs_N > 0).all()):
        raise UserError("MACs must be positive and finite. Screen candidates without MACs before ranking them.")
    if not (keep is None or keep >= 0):
        raise UserError(f"The number to keep must not be negative. Got {keep=}.")
    if not scores_N.size:
        return np.zeros(0, dtype=np.int64)
    log_macs_N = np.log(macs_N)
    rank_N = non_dominated_rank(np.column_stack([scores_N, -log_macs_N]))
    alone_N = np.empty(len(scores_N))
    by_key_N = np.arange(len(scores_N)) if keys is None else np.array(sorted(range(len(keys)), key=keys.__getitem__))
    # Crowding tells the ends of equal MACs apart by position: let it be the position by key.
    by_rank_N = by_key_N[np.argsort(rank_N[by_key_N], kind="stable")]
    for front in np.split(by_rank_N, np.flatnonzero(np.diff(rank_N[by_rank_N])) + 1):
        alone_N[front] = crowding(log_macs_N[front])
    order = by_key_N[np.lexsort((-alone_N[by_key_N], rank_N[by_key_N]))]
    return order[:keep].astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(Generic[T]):
    """A scored candidate. macs: of its largest point. payload: whatever training it takes, such as its choices."""

    key: str
    score: float
    macs: float
    payload: T


@dataclass(slots=True)
class Shortlist(Generic[T]):
    """The best of a stream of candidates, at least ``capacity``, by :func:`order_of_training`, in flat memory.

    At most twice the capacity is held at any time: at that point, the worse half is dropped for good. A key that is
    held already is not added again. The result depends on the order of the candidates, not on how they were cut into
    chunks.

    Dropping is greedy. A candidate that is dropped had ``capacity`` candidates before it, whose ranks only sink as
    others arrive; so the first front of all that came is kept exactly while it has never outgrown the capacity. Where
    it has, crowding chose among those seen by then, and one shown earlier may have been dropped that would now stand
    alone.

    Examples
    --------
    >>> shortlist = Shortlist(capacity=1)
    >>> stream = [Entry(key=key, score=score, macs=10, payload=None) for key, score in [("a", 1), ("b", 3), ("c", 2)]]
    >>> [entry.key for entry in shortlist.extend(stream)]
    ['a', 'c']
    >>> [entry.key for entry in shortlist.ordered()], shortlist.seen
    (['b'], 3)
    """

    capacity: int
    seen: int = 0
    _held: dict[str, Entry[T]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not (self.capacity >= 1):
            raise UserError(f"A shortlist must have room for a candidate. Got {self.capacity=}.")

    def extend(self, entries: Iterable[Entry[T]]) -> list[Entry[T]]:
        """Take in a chunk of any size. Returns what was dropped for good on the way, in the order in which it came."""
        held = self._held
        dropped: list[Entry[T]] = []
        for entry in entries:
            self.seen += 1
            held.setdefault(entry.key, entry)
            if len(held) >= 2 * self.capacity:
                self._held = kept = {best.key: best for best in self.ordered()[: self.capacity]}
                dropped += [e for e in held.values() if e.key not in kept]
                held = kept
        return dropped

    def ordered(self) -> list[Entry[T]]:
        """All that is held, in order of training: the best ``capacity`` of all that came, and some that may go next."""
        entries = list(self._held.values())
        order = order_of_training(
            [e.score for e in entries],
            [e.macs for e in entries],
            keys=[e.key for e in entries],
        )
        return [entries[i] for i in order]

    def __len__(self) -> int:
        return len(self._held)


def with_controls(
    ordered: Sequence[T], controls: Sequence[T], *, every: int = 10, start: int = 0
) -> list[tuple[T, bool]]:
    """Ranked candidates with a random control in every ``every``-th place, as (candidate, is control).

    start: how many candidates came before these in the study, so that short generations have their controls too.

    When the controls are used up, the ranked go on alone; the rest of the controls is left out when the ranked are
    used up.

    Examples
    --------
    >>> with_controls("abc", "xyz", every=3)
    [('a', False), ('b', False), ('x', True), ('c', False)]
    """
    if not (every >= 2):
        raise UserError(f"Controls must leave room for ranked candidates. Got {every=}; use 2 or more.")
    mixed: list[tuple[T, bool]] = []
    used = 0
    for place, candidate in enumerate(ordered):
        while (start + place + used) % every == every - 1 and used < len(controls):
            mixed.append((controls[used], True))
            used += 1
        mixed.append((candidate, False))
    if (start + len(mixed)) % every == every - 1 and used < len(controls) and ordered:
        mixed.append((controls[used], True))
    return mixed
