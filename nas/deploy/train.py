"""Full training of one network: of an architecture, of a candidate, or on from the weights of a network."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

import results
from nas.config import STORE, Config, TrainingSettings, check_names, takes
from nas.deploy.networks import check_task, evaluator_of_study, local_evaluator
from nas.errors import UserError, one_line
from nas.evaluation.evaluator import Evaluator
from nas.evaluation.jobs import Diverged, Job, Outcome
from nas.evaluation.loading import absolute_data, check_device, trust_data
from nas.evaluation.rule import parse_rule, replaced
from nas.evaluation.stored_data import DataInMemory
from nas.execution.loading import is_folder, load
from nas.execution.network import AnytimeNetwork
from nas.execution.serialization import AVERAGE
from nas.files import UNFINISHED, check_folder, write_folder
from nas.plugins import load_plugin, trust_named
from nas.progress import Progress, State, for_python
from nas.representation.architecture import Architecture
from nas.representation.elements import Task
from nas.seeds import seed as derived_seed
from nas.workers.machines import usable_cores
from results.measures import METRICS
from results.reading.stored_networks import StoredCandidate
from results.store import Store

if TYPE_CHECKING:
    import pandas as pd

EPOCHS, MOST_EPOCHS, LEAST_IMAGES = 20, 60, 500_000
"""Default length of a training: so many passes, and up to the second number until so many images are seen."""
START = "start"
"""The folder of starting weights beside a checkpoint."""


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """A trained network with its measurements.

    Parameters
    ----------
    network
        In evaluation mode.
    outcome
        As the evaluator returned it.
    """

    network: AnytimeNetwork
    outcome: Outcome

    @cached_property
    def points(self) -> pd.DataFrame:
        """One row per operating point: level, macs, params, and the measures of the evaluator."""
        import pandas as pd

        return pd.DataFrame(self.outcome.points)

    def plot(self, path: str | PathLike[str]) -> Path:
        """Draw accuracy over MACs.

        Parameters
        ----------
        path : str or path
            File of the figure, as for :func:`results.plots.plot_front`.

        Returns
        -------
        pathlib.Path

        Raises
        ------
        StoreError
            As :func:`results.plots.plot_front`.
        """
        from results.curves import Curves
        from results.front import non_dominated
        from results.measures import metric_in_words
        from results.plots import plot_front

        architecture = self.network.architecture
        labels = {"study": "train", "candidate": architecture.key, "space": "network"}
        points = self.points.assign(fidelity=float(self.outcome.epochs), accuracy_sd=np.nan, **labels)
        curves = Curves.of(points, quantity=metric_in_words(architecture.task.metric))
        return plot_front(curves, points[non_dominated(points.macs, points.accuracy)], path, drawn="network")


@dataclass(frozen=True, kw_only=True)
class _TrainArguments(TrainingSettings):
    """The arguments of :func:`train`."""

    network: str | Path | AnytimeNetwork | Architecture = field(kw_only=False)
    data: Any = field(default=None, kw_only=False)
    folder: str | Path | None = None
    epochs: int | None = None
    weights: str | Path | AnytimeNetwork | None = None
    study: str | None = None
    store: str = STORE
    seed: int = 0
    accept_plugin_change: bool = False
    progress: Progress | None = None


@takes(_TrainArguments)
def train(
    network: str | Path | AnytimeNetwork | Architecture,
    data: Any = None,
    *,
    folder: str | Path | None = None,
    epochs: int | None = None,
    weights: str | Path | AnytimeNetwork | None = None,
    study: str | None = None,
    store: str = STORE,
    seed: int = 0,
    accept_plugin_change: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> TrainingResult:
    """Train one network completely, with the recipe of a search, and measure its operating points.

    Parameters
    ----------
    network
        An architecture, or ``file.py:NAME`` of one or of a function that builds one for a task: trained from new
        weights. The key of a candidate in the store, also one without weights: trained from new weights with the data
        and the settings of its study. A network, or the folder of one: trained on from its weights.
    data
        As in :func:`nas.search`. None: the data of the study of a key.
    folder
        New or empty folder for the trained network, or a folder of a network, which is replaced. An interrupted
        training continues when it is started again with the same arguments. None: it is not saved.
    epochs
        Passes over the training images. By default 20, and up to 60 for less than 25,000 images.
    weights
        Start from the weights of this network: a key (of the study, if it is named), a folder or a network. They must
        have the same names and shapes.
    study
        Study of the key; needed if several studies have it.
    store
        URL or path of the results store, in which nothing is written.
    seed
        Seed of all random numbers.
    accept_plugin_change
        Use the evaluator of the study although its plug-in, or that of the data, has changed, and run their files.
    progress
        See :mod:`nas.progress`. By default a bar in a notebook, and nothing in a script.
    **settings
        Settings as in :class:`nas.config.TrainingSettings`, named like the options of the command line; by default
        those of the study of a key.

    Returns
    -------
    TrainingResult
        The trained network and its accuracies on validation and test images.

    Raises
    ------
    UserError
        For invalid settings, data of another task, weights of another architecture, a training whose loss becomes
        infinite, or a folder with files of other origin.
    results.StoreError
        If the store contains no such candidate.

    Examples
    --------
    >>> network = nas.train(architecture, "npz:images.npz", epochs=30).network  # doctest: +SKIP
    >>> finer = nas.train(network, (x_train, y_train), epochs=5, learning_rate=0.01)  # doctest: +SKIP
    """
    progress = progress or for_python()
    check_names(TrainingSettings, settings)
    given = {name: value for name, value in settings.items() if value is not None}
    TrainingSettings(**given)
    if epochs is not None and (type(epochs) is not int or epochs < 1):
        raise UserError(f"epochs must be a whole number of at least 1. Got {epochs!r}.")
    check_device(given.get("device", "auto"))
    if folder is not None:
        check_folder(folder)
    progress.show(State(stage="loading", done=0, total=1, trained=0))
    opened = results.open(store)
    of_weights = study if isinstance(weights, str) and not is_folder(weights) else None
    subject = _Subject.of(network, study, opened, needed=of_weights is None)
    with ExitStack() as stack:
        if data is not None and not isinstance(data, str):
            data = stack.enter_context(_written(data))
        given = subject.own_settings | given
        config, evaluator = subject.evaluator(data, given, accept_plugin_change=accept_plugin_change)
        if evaluator.free:
            raise UserError(f"The evaluator {config.evaluator!r} looks results up and trains no networks: name --data.")
        train_images = evaluator.info().train_images
        evaluator.info().check_settings(metric=config.metric, sampling=config.sampling)
        task = evaluator.info().task
        architecture = subject.architecture(task)
        if architecture.task.metric != task.metric:  # it is measured, whatever the network was made for
            architecture = replace(architecture, task=replace(architecture.task, metric=task.metric))
        check_task(architecture, evaluator)
        if config.training_rule and given.keys() & {"rule", "recipe"}:
            rule = parse_rule(config.training_rule)
            architecture = replace(architecture, training=replaced(architecture.training, rule))
        start = subject.network if weights is None else _network(weights, of_weights, opened)
        if start is not None:
            _check_start(start, architecture, evaluator, config)
        work = stack.enter_context(_work(folder))
        if start is not None:
            start.save(work / START)
        total = epochs or min(MOST_EPOCHS, max(EPOCHS, -(-LEAST_IMAGES // train_images)))
        job = Job(
            candidate=0,
            architecture=architecture.to_json(),
            seed=derived_seed("train", seed),
            epochs=total,
            until=total,
            images=None,
            folder=str(work),
            test=True,
            weights=str(work / START) if start is not None else "",
            threads=config.threads or usable_cores(),
        )
        outcome = _evaluated(evaluator, job, progress)
        if not outcome.saved:
            raise UserError(f"The evaluator {config.evaluator!r} saves no networks. Use 'training'.")
        trained = AnytimeNetwork.load(work)
        if folder is not None:
            average = AnytimeNetwork.load(work, average=True) if (work / AVERAGE).exists() else None
            write_folder(folder, trained.files(average=average))
            shutil.rmtree(work)
    return TrainingResult(trained, outcome)


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """The subject of a training.

    store, candidate: the place of a stored architecture. build: an architecture, or a function that builds one.
    network: the network whose weights are trained on.
    """

    store: Store
    candidate: StoredCandidate | None = None
    build: Any = None
    network: AnytimeNetwork | None = None

    @staticmethod
    def of(network: Any, study: str | None, store: Store, *, needed: bool) -> _Subject:
        """The subject that the first argument of :func:`train` names. needed: whether a study must be of its key."""
        if isinstance(network, str) and ".py:" in network:
            trust_named(network)
            network = load_plugin("nas.architectures", network)
        elif isinstance(network, str | Path):
            if not is_folder(network, study if needed else None):
                return _Subject(store=store, candidate=store.find_candidate(str(network), study))
            network = AnytimeNetwork.load(network)
        if study is not None and needed:
            raise UserError(f"Only a key has a study. Got {study=} for something else.")
        if isinstance(network, AnytimeNetwork):
            return _Subject(store=store, network=network)
        return _Subject(store=store, build=network)

    @property
    def own_settings(self) -> dict[str, Any]:
        """Settings that belong to a given network or architecture: its metric."""
        made = self.build if self.network is None else self.network.architecture
        metric = made.task.metric if isinstance(made, Architecture) else "accuracy"
        return {"metric": metric} if metric in METRICS and metric != "accuracy" else {}

    def evaluator(
        self, data: str | None, given: Mapping[str, Any], *, accept_plugin_change: bool
    ) -> tuple[Config, Evaluator]:
        """The settings and the evaluator: of the candidate's study, or the default one."""
        if data is not None:
            trust_data(data)
            data = absolute_data(data)
        if self.candidate is not None:
            changes = {"data": data, **given}
            return evaluator_of_study(
                self.store, self.candidate.study, changes, accept_plugin_change=accept_plugin_change
            )
        if data is None:
            raise UserError("A network that is not from the store has no data: name them, with --data.")
        config = Config(data=data, **given)
        return config, local_evaluator(config)

    def architecture(self, task: Task) -> Architecture:
        """The architecture to train, for the task of the data."""
        if self.candidate is not None:
            return Architecture.from_json(self.store.architecture(self.candidate.candidate))
        built = self.network.architecture if self.network is not None else self.build
        if callable(built):
            try:
                built = built(task)
            except Exception as error:  # of the user's function
                raise UserError(
                    f"A function that builds an architecture must accept a task. It raised {type(error).__name__}: "
                    f"{one_line(error)}."
                ) from error
        if not isinstance(built, Architecture):
            raise UserError(
                "network must be a key, a folder, a network, an architecture, or a function of the task that builds "
                f"one. Got {built!r:.200}."
            )
        return built


def _network(weights: str | Path | AnytimeNetwork, study: str | None, store: Store) -> AnytimeNetwork:
    """The network that starting weights are of. study: of a key."""
    if not isinstance(weights, str | Path | AnytimeNetwork):
        raise UserError(f"weights must be a key, a folder or a network. Got {weights!r:.200}.")
    return weights if isinstance(weights, AnytimeNetwork) else load(weights, study=study, store=store.url)


def _check_start(start: AnytimeNetwork, architecture: Architecture, evaluator: Evaluator, config: Config) -> None:
    """Raise UserError unless a training of an architecture can start from the weights of a network."""
    if not evaluator.starts_from_weights(architecture):
        raise UserError(
            "A training starts from weights if the evaluator allows it, such as 'training', and the rule does not "
            f"construct the network. Got evaluator {config.evaluator!r} and rule {architecture.training.rule!r}."
        )
    own = {name: tensor.shape for name, tensor in start.state_dict().items()}
    needed = {name: tensor.shape for name, tensor in AnytimeNetwork(architecture).state_dict().items()}
    if own != needed:
        raise UserError("Starting weights must have the shapes of the network's weights. Got other ones.")


@contextmanager
def _written(data: Any) -> Iterator[str]:
    """The specification of data in memory, in a file that exists inside the context."""
    with tempfile.TemporaryDirectory(prefix="nas-data-") as folder:
        path = Path(folder, "data.npz")
        np.savez(path, allow_pickle=False, **DataInMemory.of(data).arrays)
        yield f"npz:{path}"


@contextmanager
def _work(folder: str | Path | None) -> Iterator[Path]:
    """The folder of the checkpoint: inside the folder of the network, so that the same command continues.

    Raises UserError if another process trains there.
    """
    if folder is not None:
        work = Path(folder).absolute() / f"{UNFINISHED}training"
        work.mkdir(parents=True, exist_ok=True)
        lock = FileLock(work / ".lock")
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise UserError(
                f"One training writes to a folder at a time. Got {folder}, to which another process writes: wait for "
                "it, or name another folder."
            ) from error
        try:
            yield work
        finally:
            lock.release()
        return
    with tempfile.TemporaryDirectory(prefix="nas-train-") as temporary:
        yield Path(temporary)


def _evaluated(evaluator: Evaluator, job: Job, progress: Progress) -> Outcome:
    started = time.monotonic()
    first: int | None = None

    def report(done: int) -> None:
        nonlocal first
        first = done - 1 if first is None else first
        left = (time.monotonic() - started) / (done - first) * (job.until - done)
        progress.show(State(stage="training", done=done, total=job.until, trained=0, seconds_left=left))

    progress.show(State(stage="training", done=0, total=job.until, trained=0))
    try:
        return evaluator.evaluate(job, report)
    except Diverged as error:
        raise UserError(f"{error} Use a smaller learning rate (--learning-rate).") from error
