"""The contract between the search and what trains and measures its candidates: jobs in, outcomes out, all plain
data.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from nas.deploy.subnetwork_search import EVALUATIONS, Found, Limits
from nas.errors import UserError, unknown_name
from nas.representation.topology import Architecture, Task

if TYPE_CHECKING:
    import torch

    from nas.execution.controller import Controller
    from nas.execution.gate_policy import GatePolicy
    from nas.execution.network import AnytimeNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """Something that an evaluator measures at every operating point: its name in the store, its unit, its direction."""

    name: str
    unit: str
    maximise: bool


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The settings of a final search, see :mod:`nas.deploy.subnetwork_search`.

    evaluations: subnetworks that are measured. low, high: range of budgets of the score that points are chosen by, in
    MACs; None: of what is found. max_macs, max_params, max_latency_ms: what every point must keep.
    """

    evaluations: int = EVALUATIONS
    low: float | None = None
    high: float | None = None
    max_macs: float | None = None
    max_params: float | None = None
    max_latency_ms: float | None = None

    def __post_init__(self) -> None:
        _ = self.limits  # refuses what is none

    @property
    def limits(self) -> Limits:
        """What every point must keep. Raises UserError where one is no limit."""
        return Limits(max_macs=self.max_macs, max_params=self.max_params, max_latency_ms=self.max_latency_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """What a final search made. network: with the chosen points, calibrated. points: as in :class:`Outcome`.
    found: all that was measured on the way.
    """

    network: AnytimeNetwork
    points: list[dict[str, Any]]
    found: Found


LEARNERS = ("expected", "reinforce", "gates")
"""How controllers learn: as bandits, from the rewards of all choices or from that of one that they try; or as gate
policies, from the gradients of gates.
"""
SEES = ("answer", "input")
"""answer: the network's, at the smallest utilization. input: what it is of."""
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
class Controlled:
    """Controllers of a network, one a penalty, and what was measured.

    policies: of each controller, with penalty, learner, sees, utilization (1.0; of gate policies, those that they were
    asked for), controller_macs, and accuracy and test_accuracy with the mean macs and test_macs of an example, all that
    runs included. fixed: the same for every utilization that there is to pick from, with utilization and macs.
    """

    controllers: list[Controller | GatePolicy]
    policies: list[dict[str, Any]]
    fixed: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One stretch of training and one evaluation.

    candidate: the store's id of the candidate. architecture: as JSON. seed: of everything random in this training.
    epochs: length of the schedule. until: stop after this many of them. images: training images used, None for all.
    folder: where checkpoint and trained network go, absolute. test: whether to measure on the test images too.
    selection: settings of the final search over the trained network, as keywords of :class:`Selection`; None for none.
    """

    candidate: int
    architecture: dict[str, Any]
    seed: int
    epochs: int
    until: int
    images: int | None
    folder: str
    test: bool = False
    selection: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, inverse of ``Job(**data)``."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a job measured.

    points: one dict a level, small to large, with ``level``, ``macs``, ``params`` and the evaluator's measures.
    epochs, images: what was trained on, so far. seconds: training and evaluation so far, on this machine.
    realised: JSON of the architecture that the points belong to, where training changed it.
    saved: whether the trained network lies in the job's folder, as ``network.save`` writes it.
    """

    points: list[dict[str, Any]]
    epochs: int
    images: int
    seconds: float
    realised: dict[str, Any] | None = None
    saved: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, inverse of ``Outcome(**data)``."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


class Diverged(Exception):
    """Training ran into infinite or undefined numbers, or made no network that keeps the limits: the candidate's
    failure, not the program's, which trying again would not mend.
    """


class Evaluator(ABC):
    """Trains candidates and measures their operating points.

    Life cycle: one is made in the driver, for :meth:`info`, and one in every worker process, with the same arguments,
    for :meth:`evaluate`, which is called for one job at a time from one thread. Constructing must be cheap, and refuses
    settings that make no sense; data are loaded on first use. Never touches global random state; equal jobs give equal
    outcomes on the same kind of device with the same number of threads.

    data: a data specification, see ``nas data``. settings: the study's settings of the evaluator, as plain data.
    """

    measures: ClassVar[tuple[Measure, ...]]
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
    ) -> Selected:
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
    ) -> Controlled:
        """Train controllers for a trained network, which is left as it is.

        report: is told how many are trained, of how many. Raises UserError for a network of one operating point.
        """
        raise UserError(f"The evaluator {type(self).__name__} trains no controllers. Use 'training'.")

    def discard(self, folder: str | Path) -> None:
        """Remove a job's checkpoint: its outcome is in the store, or it will never be continued."""
        Path(folder, self.checkpoint).unlink(missing_ok=True)


class TrainingRule(Protocol):
    """Which subnetworks a training step trains, and with what loss. Made with the architecture's settings as
    keywords.

    A rule that trains sampled subnetworks, not only the operating points, says so by ``samples_subnetworks = True``.
    One that changes as the training goes on has an attribute ``progress``, which the trainer sets before every step:
    the share of the schedule's steps that are done.
    """

    def losses(
        self, network: AnytimeNetwork, x: torch.Tensor, labels: torch.Tensor, generator: torch.Generator
    ) -> Iterator[torch.Tensor]:
        """The losses of one step, one scalar at a time; the trainer runs each backward before it asks for the next.

        x: (N, \\*input_shape), preprocessed and augmented. labels: (N,), fine; what a level should answer is
        ``network.labels(labels, level)``. generator: on the CPU, for what is sampled.
        """


@runtime_checkable
class ConstructingRule(Protocol):
    """A training rule that changes the architecture while it trains: the outcome belongs to a realised one.

    Made as a :class:`TrainingRule` is, in whose place it stands; it is told from one by having ``construct``.
    """

    def construct(self, architecture: Architecture, *, steps: int, generator: torch.Generator) -> Construction:
        """What is trained in place of the proposal's network, over so many steps; draws its weights from the generator.

        Raises UserError where the architecture is none that it can construct.
        """


class Construction(Protocol):
    """The state of a training that changes its architecture; an ``nn.Module``, whose state the checkpoint keeps.

    For every step, the trainer asks for the losses as of a :class:`TrainingRule`, exhausts them, steps the optimiser,
    and calls :meth:`advance`. ``step`` counts from 0. Where that gave a new network, the trainer makes a new optimiser
    and carries the momentum over.

    network: the one trained now, with the architecture as it is now.
    """

    network: AnytimeNetwork

    def trained(self) -> list[torch.nn.Module]:
        """The modules whose parameters are stepped; the gradients of each are clipped on their own."""

    def losses(
        self, step: int, x: torch.Tensor, labels: torch.Tensor, generator: torch.Generator
    ) -> Iterator[torch.Tensor]:
        """As :meth:`TrainingRule.losses`; may change what each backward left in the gradients."""

    def advance(self, step: int, generator: torch.Generator) -> Callable[[str, torch.Tensor], torch.Tensor] | None:
        """After the optimiser's step: None where the network stays, else how what belongs to a parameter, by its name,
        becomes what belongs to the new one.
        """

    def restore(self, architecture: Architecture) -> None:
        """Become one whose network has this architecture, ready for ``load_state_dict`` of a checkpoint."""

    def finished(self, steps: int, batches: Iterable[torch.Tensor], generator: torch.Generator) -> AnytimeNetwork:
        """The network as it would be if construction ended after so many steps, every point within the cost of the
        proposal's; the training may go on after that.

        batches: preprocessed training images, to estimate the statistics of norms on.
        """


def architecture_of(job: Job) -> Architecture:
    """The architecture that a job is about."""
    return Architecture.from_json(job.architecture)
