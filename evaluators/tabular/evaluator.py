"""The evaluator that looks results up in a table of trained networks, so that a whole search takes seconds.

References
----------
Ying, Klein, Christiansen, Real, Murphy & Hutter, NAS-Bench-101: Towards Reproducible Neural Architecture Search,
ICML 2019, arXiv 1902.09635 (tables of trained networks).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cached_property
from hashlib import sha256
from typing import Any, ClassVar

from evaluators.data.datasets import Dataset
from evaluators.tabular.table import MEASURES, ResultsTable
from evaluators.training.evaluator import Training
from nas.config import OF_EVALUATOR, TrainingSettings, option
from nas.errors import EnvironmentFault, UserError
from nas.evaluation.evaluator import DataInfo, Evaluator
from nas.evaluation.jobs import Diverged, Job, Outcome
from nas.representation.architecture import macs, params

OF_DATA = ("layout", "hierarchy", "validation")
OF_TRAINING = {
    each.name: each.default
    for each in fields(TrainingSettings)
    if each.name in OF_EVALUATOR and each.name not in (*OF_DATA, "device", "threads")
}
"""Settings of a training, with their defaults: the trainings of a table have been made."""


class Tabular(Evaluator):
    """Looks results up in a table, as in tabular:FILE; from choices to measures, in CSV or Parquet.

    Trainings are free: every candidate has its result after full training, and is on the front. A candidate that the
    table does not have fails, with this reason in the store; a table that lacks a column for a choice ends the search.
    If choices have several trainings (seeds), the seed of the job determines which one is looked up.

    Parameters
    ----------
    data
        The data that the networks were trained on: a specification, see ``nas data``, or a Dataset. Shape, classes and
        the accuracy of a constant classifier are taken from them. If you do not have the data of a public table,
        synthetic data of the same shape and classes serve.
    file
        Path of the table, see :mod:`evaluators.tabular.table`.
    device, threads
        Not used: nothing is trained.
    layout, hierarchy, validation
        As for the evaluator "training".
    **settings
        Settings of trainings, which must have their defaults.

    Raises
    ------
    UserError
        A setting of trainings is not its default. The table and the data are read, and their errors raised, on first
        use.

    Notes
    -----
    The durations in the store are the durations in the table, so that the time that a search would have taken is known.
    No networks are saved.
    """

    measures = MEASURES
    free: ClassVar = True
    reads_file: ClassVar = True

    def __init__(
        self,
        data: str | Dataset,
        *,
        file: str,
        device: str = "auto",
        threads: int = 1,
        layout: str | None = None,
        hierarchy: str | None = None,
        validation: float | None = None,
        **settings: Any,
    ) -> None:
        for name, value in settings.items():
            if name not in OF_TRAINING or value != OF_TRAINING[name]:
                raise UserError(
                    f"{option(name)} has no meaning with a table: its networks have been trained. Got {value!r}: leave "
                    "it out."
                )
        self.file = file
        self._trainer = Training(data, device="cpu", layout=layout, hierarchy=hierarchy, validation=validation)

    @cached_property
    def table(self) -> ResultsTable:
        """The table, read once."""
        return ResultsTable(self.file)

    def info(self) -> DataInfo:
        info, table = self._trainer.info(), self.table.fingerprint
        both = sha256(f"{info.fingerprint} {table}".encode()).hexdigest()
        return replace(info, fingerprint=both, parts={**info.parts, "table": table}, augmentation="")

    def data_in_memory(self) -> Dataset | None:
        return self._trainer.data_in_memory()

    def full_epochs(self) -> int:
        return self.table.epochs[-1]

    def evaluate(self, job: Job, report: Callable[[int], None]) -> Outcome:
        started, architecture = time.monotonic(), job.parsed_architecture
        shown = ", ".join(f"{name}={value}" for name, value in job.choices.items())
        trainings = self.table.trainings(job.space, job.choices)
        if not trainings:
            raise Diverged(f"The table {self.file} has no row for {shown}.")
        training = trainings[job.seed % len(trainings)]
        if training.failed:
            raise Diverged(f"According to the table {self.file}: {training.failed}")
        if job.until not in training.points:
            listed = ", ".join(map(str, self.table.epochs))
            raise EnvironmentFault(f"The table {self.file} has results after {listed} epochs. Got {job.until}.")
        rows = training.points[job.until]
        costs = list(zip(macs(architecture), params(architecture)))
        if len(rows) != len(costs):
            raise EnvironmentFault(
                f"The table {self.file} must have a row for each of the {len(costs)} operating points. Got {len(rows)} "
                f"for {shown}: add --points {len(rows)}."
            )
        points = []
        for level, (row, (cost, size)) in enumerate(zip(rows, costs)):
            for name, actual in (("macs", cost), ("params", size)):
                if row.get(name, actual) != actual:
                    raise EnvironmentFault(
                        f"The table {self.file} must be of the networks that the space builds: level {level} of "
                        f"{shown} has {actual:,} {name}. Got {row[name]:,}."
                    )
            measured = {name: value for name, value in row.items() if job.test or not name.startswith("test_")}
            points.append({"level": level, "macs": cost, "params": size, "loss": math.nan} | measured)
        for epoch in range(job.until):
            report(epoch + 1)
        seconds = training.seconds[job.until] or time.monotonic() - started
        return Outcome(points=points, epochs=job.until, images=self._trainer.info().train_images, seconds=seconds)
