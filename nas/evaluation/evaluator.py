"""The contract of evaluators, which train candidates and measure their operating points."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from nas.errors import UserError
from nas.evaluation.controllers import ControllerResult, ControllerSettings
from nas.evaluation.jobs import Job, Outcome
from nas.evaluation.operating_points import SelectionResult, SelectionSettings
from nas.representation.architecture import Architecture
from nas.representation.elements import Task
from results.measures import Measure

if TYPE_CHECKING:
    from nas.execution.network import AnytimeNetwork

IMBALANCED = 0.7
"""Share of the most frequent class, or three times an equal share, above which classes count as imbalanced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataInfo:
    """A description of the data, which a search needs before any training.

    Parameters
    ----------
    name
        Shown to users.
    task
        Shape of the images, classes and label hierarchy.
    floor
        Accuracy, or the metric of the task, of the best constant classifier on the validation images.
    train_images, validation_images, test_images
        Numbers of images; the training images do not include the validation images.
    fingerprint
        Content hash of the arrays. A study keeps it: every process that trains or measures compares it.
    parts
        Content hashes of parts of the data by name, such as "test labels", with which a message names a difference.
        Under "examples", a hash that does not depend on the order of the examples and on their split.
    augmentation
        Changes of the training images in words, for displays; empty if unknown.
    sampling
        How the training images of an epoch are chosen, one of ``nas.config.SAMPLING``.
    certainty
        Accuracies of so many images are as certain as the metric of one validation image: 1 for accuracy, less for
        metrics to which few images of a rare class contribute as much as many of another.
    """

    name: str
    task: Task
    floor: float
    train_images: int
    validation_images: int
    test_images: int
    fingerprint: str
    parts: Mapping[str, str] = field(default_factory=dict)
    augmentation: str = ""
    sampling: str = "all"
    certainty: float = 1.0

    def check_settings(self, *, metric: str | None, sampling: str | None) -> None:
        """Check that the evaluator uses the settings of a study.

        Parameters
        ----------
        metric, sampling : str or None
            The settings; None: the default of the evaluator.

        Raises
        ------
        UserError
            If it uses another metric or sampling.
        """
        for name, given, used in (("metric", metric, self.task.metric), ("sampling", sampling, self.sampling)):
            if given not in (None, used):
                raise UserError(f"--{name} must be what the evaluator offers, here {used}. Got {given}: leave it out.")

    @property
    def imbalance(self) -> str:
        """A sentence if one class is so frequent that accuracies mislead; otherwise empty, also with coarse labels."""
        if (
            self.task.hierarchy
            or self.task.metric != "accuracy"
            or self.floor <= min(IMBALANCED, 3 / self.task.num_classes)
        ):
            return ""
        return (
            f"The classes are imbalanced: always the same answer scores {self.floor:.4f}, and accuracies are to be "
            "compared with that. --metric balanced_accuracy and --sampling balanced count all classes alike."
        )


class LoadedData(Protocol):
    """Labelled images in memory, such as :class:`evaluators.data.datasets.Dataset`, which pickle can copy."""

    @property
    def name(self) -> str:
        """Shown to users."""

    @property
    def fingerprint(self) -> str:
        """Content hash of the arrays."""


class Evaluator(ABC):
    """Trains candidates and measures their operating points.

    Parameters
    ----------
    data
        Data specification, see ``nas data``; or data in memory, if :meth:`data_in_memory` returns them.
    device
        Name of a torch device, or ``"auto"``.
    threads
        Number of CPU threads.
    settings
        Further settings of the study, as plain data. An evaluator that :attr:`reads_file` also receives ``file``.

    Notes
    -----
    Life cycle: the driver constructs one instance and calls :meth:`info`. Every worker process constructs one with the
    same arguments and calls :meth:`evaluate` for one job at a time, from one thread. The constructor must be cheap and
    reject invalid settings; data are loaded on first use.

    An evaluator does not touch global random state. Equal jobs give equal outcomes on the same kind of device with the
    same number of threads.
    """

    measures: ClassVar[tuple[Measure, ...]]
    """The measures that :meth:`evaluate` returns for every operating point, in addition to level, macs and params.

    accuracy, loss and test_accuracy must be declared. ``results.measures.built_in`` returns further built-in measures.
    An additional measure is declared as ``Measure(name="energy_mj", unit="mJ", maximise=False)``: it is stored and
    shown, and can be a cost or a limit of fronts. The declaration is checked before a study starts. The declared
    measures determine the keys of every point, see :class:`nas.evaluation.jobs.Outcome`: the first outcome with other
    keys stops the study.
    """
    checkpoint: ClassVar[str] = "checkpoint.safetensors"
    """Name of the checkpoint in the folder of a job."""
    selects: ClassVar[bool] = False
    """Whether :meth:`evaluate` runs the final search of a job; if not, studies with a final search are rejected."""

    free: ClassVar[bool] = False
    """Whether trainings take no time, because their results are known, such as from a table.

    A study then trains every candidate in full at once: its jobs use all training images, have ``until`` and ``epochs``
    equal to :meth:`full_epochs`, and ``test=True``. There are no finalists, so every candidate is on the front.
    """
    reads_file: ClassVar[bool] = False
    """Whether a file follows the name of the evaluator, as in ``tabular:table.csv``; its absolute path is the argument
    ``file`` of the constructor. Every machine with a worker must have it.
    """

    @abstractmethod
    def __init__(self, data: Any, *, device: str = "auto", threads: int = 1, **settings: Any) -> None: ...

    @abstractmethod
    def info(self) -> DataInfo:
        """Describe the data.

        Returns
        -------
        DataInfo
            Known before any training.

        Raises
        ------
        DataError
            For invalid data.
        """

    @abstractmethod
    def evaluate(self, job: Job, report: Callable[[int], None]) -> Outcome:
        """Train up to epoch ``job.until``, then measure every level.

        Training continues from the checkpoint in the folder of the job, if there is one. If the checkpoint contains the
        outcome of the job, that is returned. The network is saved if ``until`` is the end of the schedule, or if the
        job requires it.

        Parameters
        ----------
        job
            The job.
        report
            Called with the number of completed epochs after every epoch, once its checkpoint is on disk; again with the
            last number during long work that follows. A job without a call for long counts as hung, see
            ``--trial-timeout``.

        Returns
        -------
        Outcome
            The measures of every level.

        Raises
        ------
        Diverged
            If training produces infinite or undefined numbers, or no network within the limits. Other exceptions fail
            the candidate too, except for faults of the environment, which stop the study: exceptions of the operating
            system, for example, see :doc:`/reference/failures`.
        nas.errors.EnvironmentFault
            If no candidate can be trained: a device is missing, a server does not answer.
        """

    def full_epochs(self) -> int:
        """Epochs of full training, if trainings are :attr:`free`; other evaluators are not asked.

        Returns
        -------
        int
            By default 1.

        Raises
        ------
        UserError
            If they cannot be determined.
        """
        return 1

    def data_in_memory(self) -> LoadedData | None:
        """Return the loaded data, if the constructor accepts them in place of their specification.

        Workers on other machines then share one copy per machine, read-only. They construct the evaluator with it, and
        without layout and hierarchy, which have been applied.

        Returns
        -------
        LoadedData or None
            None, the default: workers receive the specification, and load the data themselves.
        """
        return None

    def continues(self, architecture: Architecture) -> bool:
        """Whether trainings of this architecture follow :attr:`nas.evaluation.jobs.Job.stages`.

        A finalist then continues its partial training in the same folder; otherwise it is trained anew.

        Parameters
        ----------
        architecture
            Of a candidate, with its training rule.

        Returns
        -------
        bool
            By default False.
        """
        return False

    def starts_from_weights(self, architecture: Architecture) -> bool:
        """Whether trainings of this architecture can start from :attr:`nas.evaluation.jobs.Job.weights`.

        Parameters
        ----------
        architecture
            With its training rule.

        Returns
        -------
        bool
            By default False.
        """
        return False

    def samples_subnetworks(self, architecture: Architecture) -> bool:
        """Whether training samples subnetworks of the supernet, beyond its operating points.

        The final search is then worthwhile, and runs by default.

        Parameters
        ----------
        architecture
            Of a candidate, with its training rule.

        Returns
        -------
        bool
            By default False.
        """
        return False

    def select(
        self,
        network: AnytimeNetwork,
        selection: SelectionSettings,
        *,
        seed: int = 0,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> SelectionResult:
        """Choose operating points for a trained network.

        Parameters
        ----------
        network
            The trained network.
        selection
            Settings of the search.
        seed
            Seed of the search.
        report
            Called with the number of measured subnetworks and the total.

        Returns
        -------
        SelectionResult
            A network with the chosen points; the given network is unchanged.

        Raises
        ------
        Diverged
            If fewer subnetworks than ``selection.points`` are within the limits.
        UserError
            If no subnetwork is within the limits on MACs and parameters, or the evaluator has no final search.
        """
        raise UserError(f"The evaluator {type(self).__name__} runs no final search. Use 'training'.")

    def train_controllers(
        self,
        network: AnytimeNetwork,
        settings: ControllerSettings,
        *,
        seed: int = 0,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> ControllerResult:
        """Train controllers for a trained network, whose weights stay unchanged.

        Parameters
        ----------
        network
            The trained network.
        settings
            Settings of the controllers.
        seed
            Seed of their training.
        report
            Called with the number of trained controllers and the total.

        Returns
        -------
        ControllerResult
            One controller for each penalty.

        Raises
        ------
        UserError
            For a network with a single operating point, or if the evaluator trains no controllers.
        """
        raise UserError(f"The evaluator {type(self).__name__} trains no controllers. Use 'training'.")

    def discard(self, folder: str | Path) -> None:
        """Delete the checkpoint of a job that will not be continued, or whose outcome is in the store.

        Parameters
        ----------
        folder
            The folder of the job; if it has a URL, a folder of empty files with the same names.
        """
        Path(folder, self.checkpoint).unlink(missing_ok=True)
