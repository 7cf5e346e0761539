"""The candidates that were chosen for training, in memory: read once at the start, kept up to date by each write."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import nlargest
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from results.writer import StudyWriter

TRAINED = ("queued", "training", "stopped", "finished", "failed")
"""Statuses of candidates that were chosen for training."""
ENDED = ("stopped", "finished", "failed")
"""Statuses of candidates whose partial training has ended."""


@dataclass(slots=True, kw_only=True)
class Entry:
    """A candidate that was chosen for training.

    reference: name of the reference architecture that it is, if any.
    accuracy, seconds: anytime accuracy of the first repeat, and duration up to it, by fidelity, in passes over all
    training images.
    """

    key: str
    generation: int
    status: str
    reference: str | None = None
    accuracy: dict[float, float] = field(default_factory=dict)
    seconds: dict[float, float] = field(default_factory=dict)


class Ledger:
    """Entries by id, in order of proposal, with their counts.

    keys: of all entries. Entries are changed only by the methods.
    """

    def __init__(self, writer: StudyWriter) -> None:
        self.keys: set[str] = set()
        self._entries: dict[int, Entry] = {}
        self._generations: dict[int, list[int]] = {}
        self._with_result: set[int] = set()
        self._failed: set[int] = set()
        self._best: tuple[float, int] | None = None  # with the candidate
        names = ("id", "key", "generation", "status", "position", "reference")
        for row in writer.rows(TRAINED, columns=names):
            if row["position"] is not None:  # others failed as proposals
                self.add(row["id"], row["key"], row["generation"], row["status"], reference=row["reference"])
        for number, fidelity, accuracy, seconds in writer.scores():
            if number in self._entries:
                self.set_accuracy(number, fidelity, accuracy, seconds)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, number: int) -> Entry:
        return self._entries[number]

    def add(
        self, number: int, key: str, generation: int, status: str = "queued", *, reference: str | None = None
    ) -> None:
        """Add a candidate. reference: name of the reference architecture that it is, if any."""
        self._entries[number] = Entry(key=key, generation=generation, status=status, reference=reference)
        self._generations.setdefault(generation, []).append(number)
        self.keys.add(key)
        self.set_status(number, status)

    def drop_generation(self, generation: int) -> None:
        """Remove the candidates of a generation."""
        for number in self._generations.pop(generation, ()):
            self.keys.discard(self._entries.pop(number).key)
            self._failed.discard(number)
            self._with_result.discard(number)

    def set_status(self, number: int, status: str) -> None:
        """Change the status of a candidate."""
        self._entries[number].status = status
        if status == "failed":
            self._failed.add(number)
        else:
            self._failed.discard(number)

    def set_accuracy(self, number: int, fidelity: float, accuracy: float, seconds: float | None = None) -> None:
        """Note a result, in place of an earlier one at the same fidelity. seconds: of the training so far."""
        entry = self._entries[number]
        entry.accuracy[fidelity], entry.seconds[fidelity] = accuracy, math.nan if seconds is None else seconds
        self._with_result.add(number)
        latest = self._latest(number), number
        if self._best is not None and self._best[1] == number and latest < self._best:  # another may be the best now
            self._best = max((self._latest(each), each) for each in self._with_result)
        else:
            self._best = latest if self._best is None else max(self._best, latest)

    def _latest(self, number: int) -> float:
        """The anytime accuracy of a candidate at the largest fidelity that it reached."""
        accuracy = self._entries[number].accuracy
        return accuracy[max(accuracy)]

    # Counts ------------------------------------------------------------------------------------------------------

    def chosen(self) -> int:
        """Number of candidates that were chosen for training and have not failed."""
        return len(self._entries) - len(self._failed)

    def trained(self) -> int:
        """Number of candidates with a result that have not failed."""
        return len(self._with_result) - len(self._with_result & self._failed)

    def finished(self) -> bool:
        """Whether a candidate has finished partial training."""
        return any(entry.status == "finished" for entry in self._entries.values())

    def failed(self) -> list[int]:
        """Candidates whose partial training failed."""
        return sorted(self._failed)

    def failed_in_a_row(self) -> list[int]:
        """The failed candidates after the last one with a result, in order of training.

        Candidates without a result that have not failed are still in training, and do not count.
        """
        known = (n for n in reversed(self._entries) if n in self._failed or n in self._with_result)
        return [*takewhile(self._failed.__contains__, known)][::-1]

    def best(self) -> float | None:
        """The best anytime accuracy so far, of each candidate at the largest fidelity that it reached."""
        return None if self._best is None else self._best[0]

    # Choices -----------------------------------------------------------------------------------------------------

    def of_generation(self, generation: int) -> list[int]:
        """Candidates of a generation, in order of proposal."""
        return list(self._generations.get(generation, ()))

    def ended(self) -> list[int]:
        """Candidates whose partial training has ended, in order of proposal."""
        return [number for number, entry in self._entries.items() if entry.status in ENDED]

    def judged(self) -> list[int]:
        """Candidates that ended with a result or failed: not those for which there was no time."""
        return [n for n in self.ended() if self._entries[n].accuracy or self._entries[n].status == "failed"]

    def unfinished(self) -> list[int]:
        """Candidates whose partial training has not ended, in order of proposal."""
        return [number for number, entry in self._entries.items() if entry.status not in ENDED]

    def unfinished_generations(self) -> list[int]:
        """Generations with a candidate whose partial training has not ended, in order."""
        return sorted({entry.generation for entry in self._entries.values() if entry.status not in ENDED})

    def with_result(self, fidelity: float, *, most: int) -> list[int]:
        """The newest candidates with a result at a fidelity, in order of proposal, at most this many."""
        there = [number for number, entry in self._entries.items() if fidelity in entry.accuracy]
        return there[-most:]

    def representative(self, most: int) -> list[int]:
        """The judged candidates, in order of proposal; of more than ``most``, the newest half and the best others.

        Candidates that finished are better than those that were stopped; among equals, the first proposed.
        """

        def worth(number: int) -> tuple[bool, float]:
            entry = self._entries[number]
            value = self._latest(number) if entry.accuracy and entry.status != "failed" else 0.0
            return entry.status == "finished", value

        return newest_and_best(self.judged(), most, worth)


def newest_and_best(numbers: list[int], most: int, worth: Callable[[int], tuple[bool, float]]) -> list[int]:
    """Of more than ``most`` ids, the newest half and the best others, in order; among equals, the first."""
    if len(numbers) <= most:
        return numbers
    older, newer = numbers[: -(most // 2)], numbers[-(most // 2) :]
    return sorted(nlargest(most - len(newer), older, key=lambda number: (*worth(number), -number))) + newer
