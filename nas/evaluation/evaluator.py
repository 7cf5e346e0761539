"""The contract between the search and what trains and measures its candidates: jobs in, outcomes out, all plain
data.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nas.errors import UserError
from nas.representation.architecture import Architecture
from nas.representation.elements import Task

if TYPE_CHECKING:
    from nas.execution.network import AnytimeNetwork
from nas.evaluation.controllers import ControllerResult, ControlSettings
from nas.evaluation.jobs import Job, Outcome
from nas.evaluation.operating_points import Selection, SelectionResult
from results.measures import Measure


@dataclass(frozen=True, slots=True, kw_only=True)
class DataInfo:
    """What a search must know of the data before anything is trained.

    floor: accuracy of the best constant classifier on the validation images. train_images: without the validation
    images. fingerprint: content hash of the arrays.
    """

    name: str
    task: Task
    floor: float
    train_images: int
    validation_images: int
    test_images: int
    fingerprint: str


class Evaluator(ABC):
    """Trains candidates and measures their operating points.

    Life cycle: one is made in the driver, for :meth:`info`, and one in every worker process, with the same arguments,
    for :meth:`evaluate`, which is called for one job at a time from one thread. Constructing must be cheap, and refuses
    settings that make no sense; data are loaded on first use. Never touches global random state; equal jobs give equal
    outcomes on the same kind of device with the same number of threads.

    data: a data specification, see ``nas data``. settings: the study's settings of the evaluator, as plain data.
    """

    measures: ClassVar[tuple[Measure, ...]]
    """The measures that :meth:`evaluate` returns for every operating point, beside level, macs and params.

    accuracy, loss and test_accuracy are required. Further built-in ones come from ``results.measures.built_in``; a
    measure of its own is declared as ``Measure(name="energy_mj", unit="mJ", maximise=False)``: it is stored, shown, and
    can be a cost or a limit of fronts. The declaration is checked before a study starts, every outcome against it.
    """
    checkpoint: ClassVar[str] = "checkpoint.safetensors"
    selects: ClassVar[bool] = False
    """Whether it runs the final search that a job asks for; where not, a study that asks for one is refused."""

    @abstractmethod
    def __init__(self, data: str, *, device: str = "auto", threads: int = 1, **settings: Any) -> None: ...

    @abstractmethod
    def info(self) -> DataInfo:
        """What the data are. Raises DataError for data that cannot be learned from."""

    @abstractmethod
    def evaluate(self, job: Job, report: Callable[[int], None]) -> Outcome:
        """Train from the job's checkpoint, or from the start, up to ``job.until`` epochs, then measure every level.

        Calls ``report(epoch)`` after every epoch, once its checkpoint is on disk. A job whose checkpoint already
        carries the outcome returns that. The trained network is saved when ``until`` is the whole schedule.
        Raises Diverged, or anything else: the driver records it as the candidate's failure.
        """

    def samples_subnetworks(self, architecture: Architecture) -> bool:
        """Whether training makes all subnetworks of the supernet good, not only its operating points: then a final
        search is worth its time, and is the default.
        """
        return False

    def select(
        self,
        network: AnytimeNetwork,
        selection: Selection,
        *,
        seed: int = 0,
        points: int | None = None,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> SelectionResult:
        """Choose other operating points for a trained network: as many as it has, or ``points``.

        report: is told how many subnetworks are measured, of how many. Raises UserError where the limits leave too few.
        """
        raise UserError(f"The evaluator {type(self).__name__} runs no final search. Use 'training'.")

    def control(
        self,
        network: AnytimeNetwork,
        settings: ControlSettings,
        *,
        seed: int = 0,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> ControllerResult:
        """Train controllers for a trained network, which is left as it is.

        report: is told how many are trained, of how many. Raises UserError for a network of one operating point.
        """
        raise UserError(f"The evaluator {type(self).__name__} trains no controllers. Use 'training'.")

    def discard(self, folder: str | Path) -> None:
        """Remove a job's checkpoint: its outcome is in the store, or it will never be continued."""
        Path(folder, self.checkpoint).unlink(missing_ok=True)
