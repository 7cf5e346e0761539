"""What a study knows so far, as its driver needs it: results by fidelity, in memory and in the store alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.config import Config
from nas.evaluation.evaluator import DataInfo
from nas.evaluation.jobs import Outcome
from nas.funnel.finals import Curve
from nas.representation.architecture import Architecture
from nas.spaces.choices import Domains
from nas.strategies.contract import Trial
from nas.workers.local import Failure
from results.front import Score

if TYPE_CHECKING:
    from results.writer import StudyWriter

TRAINED = ("queued", "training", "stopped", "finished", "failed")
"""Statuses of candidates that were chosen for training."""


class Ledger:
    """Reads and writes the trained candidates of a study.

    accuracy: candidate id → {fidelity: anytime accuracy} of the first repeat, for all chosen candidates.
    Fidelity is the number of passes over all training images; partial training may use a part of them.
    """

    def __init__(self, config: Config, writer: StudyWriter, info: DataInfo, score: Score):
        self.config, self.writer, self.info, self.score = config, writer, info, score
        self.accuracy = {row["id"]: self._recorded(row["id"]) for row in self.rows()}
        self._architectures: dict[int, Architecture] = {}

    def rows(self, generation: int | None = None) -> list[dict[str, Any]]:
        """The candidates that were chosen for training, as rows of the store."""
        return self._chosen(TRAINED, generation)

    def fidelity(self, epochs: int, images: int | None) -> float:
        """Passes over all training images in so many epochs over ``images`` of them (None: all)."""
        share = 1.0 if images is None else min(1.0, images / self.info.train_images)
        return round(epochs * share, 6)

    def rung(self, epochs: int) -> float:
        """The fidelity of partial training after so many epochs."""
        return self.fidelity(epochs, self.config.images)

    def folder(self, key: str, stage: str, repeat: int) -> str:
        """Where a training keeps its checkpoint and its network."""
        return str(self.writer.files.resolve() / "candidates" / key / f"{stage}-{repeat}")

    def record(self, row: dict[str, Any], repeat: int, outcome: Outcome, fidelity: float, folder: str) -> None:
        """Write an outcome to the store; recorded again, it replaces itself."""
        realised = Architecture.from_json(outcome.realised) if outcome.realised else None
        self.writer.record(
            row["id"],
            fidelity=fidelity,
            repeat=repeat,
            epochs=outcome.epochs,
            images=outcome.images,
            seconds=outcome.seconds,
            realised_key=realised.key if realised else row["key"],
            architecture=outcome.realised,
            points=outcome.points,
            weights=str(Path(folder).relative_to(self.writer.files.resolve())) if outcome.saved else None,
        )
        if repeat == 0:
            self.accuracy[row["id"]][fidelity] = self._anytime(outcome.points)

    def record_failure(self, row: dict[str, Any], failure: Failure, *, ends: bool) -> None:
        """Write a failure with its traceback; one in full training leaves the candidate what it had reached."""
        status = {"status": "failed"} if ends else {}
        about = {"reason": failure.reason, "traceback": failure.traceback, "attempts": failure.attempts}
        self.writer.update_candidate(row["id"], **about, **status)

    def history(self, domains: Domains, *, with_proxy: bool = True) -> list[Trial]:
        """What strategies learn from: everything that ended partial training, a failure at the floor.

        with_proxy: whether they are told the scores by the study's proxy.
        """
        trials = []
        for row in self._chosen(("stopped", "finished", "failed")):
            reached = {
                e: a for e in self.config.rungs() if (a := self.accuracy[row["id"]].get(self.rung(e))) is not None
            }
            failed = row["status"] == "failed" or not reached
            trials.append(
                Trial(
                    choices=row["choices"],
                    domains=domains.of(row["choices"]),
                    value=self.score.floor if failed else reached[max(reached)],
                    complete=row["status"] != "stopped",
                    intermediate=reached,
                    generation=row["generation"],
                    architecture=self.architecture(row),
                    proxy=row["proxies"].get(self.config.proxy) if with_proxy else None,
                )
            )
        return trials

    def architecture(self, row: dict[str, Any]) -> Architecture:
        """That of a candidate; read once, for every generation asks for all."""
        if row["id"] not in self._architectures:
            self._architectures[row["id"]] = Architecture.from_json(row["architecture"])
        return self._architectures[row["id"]]

    def curves(self, status: str) -> list[Curve]:
        """The candidates of a status at the highest fidelity of their partial training."""
        curves = []
        for row in self._chosen((status,)):
            reached = [f for f in map(self.rung, self.config.rungs()) if f in self.accuracy[row["id"]]]
            if not reached:
                continue
            points = self._points(row["id"], reached[-1], 0)
            seconds = self.writer.seconds_of(row["id"], reached[-1])
            curves.append(
                Curve(
                    candidate=row["id"],
                    key=row["key"],
                    macs=tuple(p["macs"] for p in points),
                    accuracy=tuple(p["accuracy"] for p in points),
                    seconds_per_image=seconds / (reached[-1] * self.info.train_images),
                )
            )
        return curves

    def tested(self, number: int, fidelity: float, repeat: int) -> bool:
        """Whether a training has its test accuracies in the store."""
        points = self._points(number, fidelity, repeat)
        return bool(points) and all(p["test_accuracy"] is not None for p in points)

    def best(self) -> float | None:
        """The best anytime accuracy so far, at any fidelity."""
        return max((a for by_fidelity in self.accuracy.values() for a in by_fidelity.values()), default=None)

    def _chosen(self, statuses: Sequence[str], generation: int | None = None) -> list[dict[str, Any]]:
        """Not those that failed as proposals: they have no place in the order of training."""
        rows = self.writer.rows(status=statuses, generation=generation)
        return [row for row in rows if row["position"] is not None]

    def _points(self, number: int, fidelity: float, repeat: int) -> list[dict[str, Any]]:
        points = self.writer.points_of(number)
        return [p for p in points if p["fidelity"] == fidelity and p["repeat"] == repeat]

    def _recorded(self, number: int) -> dict[float, float]:
        by_fidelity: dict[float, list[dict[str, Any]]] = {}
        for point in self.writer.points_of(number):
            if point["repeat"] == 0:
                by_fidelity.setdefault(point["fidelity"], []).append(point)
        return {fidelity: self._anytime(points) for fidelity, points in by_fidelity.items()}

    def _anytime(self, points: Sequence[dict[str, Any]]) -> float:
        return self.score([p["macs"] for p in points], [p["accuracy"] for p in points])
