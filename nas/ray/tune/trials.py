"""The trainings of an asynchronous search as trials of Ray Tune, whose schedulers stop them early.

Tune's searcher asks the funnel, and its callbacks report to the funnel, in the process of the driver. The store is the
record: nothing of Tune's experiment is kept, and a resumed search starts another one.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial

from nas.errors import EnvironmentFault, last_line
from nas.evaluation.faults import Fault, fault_of, fault_of_hang
from nas.evaluation.jobs import Outcome
from nas.funnel.asynchronous import AsynchronousFunnel, Training
from nas.ray.failures import fault_of_ray
from nas.ray.job_files import write_files
from nas.ray.nodes import autoscales
from nas.ray.runner import RayRunner
from nas.ray.tune.quiet import Signals, quiet_tune
from nas.ray.tune.schedulers import band_size, scheduler_of
from nas.ray.tune.stretches import DELIVERY, EPOCH, ETA, Stretch, StretchTrainable, TrialFault
from nas.workers.machines import Machine
from nas.workers.runner import OPENING

CHECK_SECONDS = 0.5
"""Time between checks for hanging trainings and for the limits of the search."""


class Stopped(Exception):
    """Ends Tune's loop and its workers; the cause is kept by the :class:`Bridge`."""


class Abandoned(BaseException):
    """Ends Tune's loop at once, because the head of the cluster is lost: Tune would wait for it to end its workers."""


class TuneTrials:
    """Trains the proposals of a funnel, see :class:`nas.funnel.asynchronous.AsynchronousFunnel`.

    Parameters
    ----------
    runner
        Of the study; it trains the finalists afterwards.
    scheduler
        "asha", "median" or "hyperband".
    """

    def __init__(self, runner: RayRunner, scheduler: str) -> None:
        self.runner, self.scheduler = runner, scheduler

    def __call__(self, funnel: AsynchronousFunnel) -> None:
        """Train until the funnel has ended. Raises its exceptions, and what signals raise."""
        bridge = Bridge(funnel, self.runner, self.scheduler)
        resources = tune.PlacementGroupFactory([self.runner.request.amounts])
        scheduler = scheduler_of(self.scheduler, funnel.config.rungs(), funnel.earlier_results())
        with quiet_tune() as folder, bridge.signals.deferred():
            try:
                tune.run(
                    tune.with_resources(StretchTrainable, resources),
                    search_alg=_Searcher(bridge),
                    scheduler=scheduler,
                    callbacks=[_Reports(bridge)],
                    num_samples=-1,
                    reuse_actors=True,
                    storage_path=folder,
                    name="search",
                    verbose=0,
                    raise_on_failed_trial=False,
                    trial_dirname_creator=_trial_id,
                    _remote=False,
                )
            except (tune.TuneError, ray.exceptions.RayError, ConnectionError) as error:
                if bridge.error is None:
                    raise EnvironmentFault(
                        f"Ray Tune must be able to run the trainings. Got {last_line(error)} Resume the search."
                    ) from error
            except (Stopped, Abandoned):
                assert bridge.error is not None
        if bridge.error is not None:
            raise bridge.error


@dataclass(eq=False)
class _Flight:
    """A training in Tune's hands.

    reached: epochs of the last rung with a result. since: time of the last event, None while it waits for room.
    begun: reference to the end of the worker's preparation. node, host: id and name of its node, None and "" before.
    hung: the fault, if it was ended because it hung.
    """

    training: Training
    reached: int = 0
    since: float | None = None
    begun: ray.ObjectRef | None = None
    opened: bool = False
    node: str | None = None
    host: str = ""
    trial: Trial | None = None
    hung: Fault | None = None

    @property
    def runs(self) -> bool:
        """Whether it has a worker: it neither waits for room, nor is it paused."""
        return self.since is not None and self.trial is not None and self.trial.status == Trial.RUNNING


@dataclass(eq=False)
class Bridge:
    """Between a funnel and Tune, whose calls all come from one thread.

    error: the first exception of the funnel, or of a signal. It is kept, because Tune would take it for a failure of a
    trial, and the next step of Tune's loop ends the loop.
    """

    funnel: AsynchronousFunnel
    runner: RayRunner
    scheduler: str
    error: BaseException | None = None
    signals: Signals = field(default_factory=Signals)
    _flights: dict[str, _Flight] = field(default_factory=dict)
    _checked: float = field(default_factory=time.monotonic)
    _autoscales: bool = field(default_factory=autoscales)

    def __post_init__(self) -> None:
        self.funnel.places = self.places

    def places(self) -> dict[int, str]:
        """The nodes of the trainings that run, see :attr:`nas.funnel.asynchronous.AsynchronousFunnel.places`."""
        return {flight.training.candidate: flight.host for flight in self._flights.values() if flight.runs}

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Keep the first exception, which ends the search."""
        try:
            self.signals.deliver()
        except BaseException as error:  # KeyboardInterrupt too: Tune must first end its workers
            self.error = self.error or error
        try:
            with self.signals.open():
                yield
        except BaseException as error:
            self.error = self.error or error

    # The searcher ------------------------------------------------------------------------------------------------

    def propose(self, trial_id: str) -> dict[str, Any] | str | None:
        """A trial for the next proposal of the funnel; None while no slot is free; FINISHED at the end."""
        self._go_on()
        with self.guard():
            if len(self._flights) >= self._most():
                return None
            training = self.funnel.propose()
            self._await_head()
            if training is None:
                return tune.search.Searcher.FINISHED if self.funnel.ended else None
            self._flights[trial_id] = _Flight(training)
            return {"key": training.key}
        self._go_on()
        return None

    def _most(self) -> int:
        """Trials at once: one that waits for room makes an autoscaler add nodes; Hyperband pauses some."""
        config, most = self.funnel.config, self.runner.slots + self._autoscales
        if self.scheduler == "hyperband":  # the settings refuse a limit
            return max(most, band_size(config.rungs()))
        return most if config.workers is None else min(most, config.workers)

    # The callbacks -----------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Check the trainings. Raises Stopped if the search must end."""
        with self.guard():
            if time.monotonic() - self._checked >= CHECK_SECONDS:
                self._await_head()
                self.funnel.check_time()
                self.runner.check_fit(running=any(each.runs for each in self._flights.values()))
                self._end_hanging()
                self._checked = time.monotonic()
        self._go_on()

    def started(self, trial: Trial) -> None:
        """Send a training to the worker of a trial that starts, or that goes on after a pause."""
        flight = self._flights[trial.trial_id]
        with self.guard():
            training, rungs = flight.training, flight.training.rungs
            stretches = [
                Stretch(
                    epochs=epochs,
                    resource=ETA**place,
                    test=training.stretch(epochs).test,
                    known=training.known.get(epochs),
                )
                for place, epochs in enumerate(rungs)
                if epochs > flight.reached
            ]
            job = training.job
            flight.trial, flight.since, flight.opened = trial, time.monotonic(), False
            flight.node, flight.host = None, ""
            call, code = self.runner.call_for(job)
            flight.begun = _actor(trial).begin.remote(
                call, code, job.to_json(), stretches, self.funnel.records.score, self.runner.files_of(job)
            )

    def result(self, trial: Trial, result: dict[str, Any]) -> None:
        """Record the result of a stretch; its outcome and files are taken out of the result."""
        flight = self._flights[trial.trial_id]
        delivery = result.pop(DELIVERY, None)
        with self.guard():
            self._note_opened(flight)
            if delivery is not None:
                outcome, files = delivery.take()
                write_files(flight.training.job.folder, files)
                self.funnel.report(flight.training.candidate, result[EPOCH], Outcome(**outcome))
            flight.reached, flight.since = result[EPOCH], time.monotonic()

    def completed(self, trial: Trial) -> None:
        """A trial has its last result, or the scheduler has stopped it."""
        flight = self._flights.pop(trial.trial_id)
        with self.guard():
            self._await_head()
            if flight.reached == flight.training.rungs[-1]:
                self.funnel.finished(flight.training.candidate)
            elif flight.reached:
                self.funnel.stopped(flight.training.candidate, f"Stopped by {self.scheduler}")
            else:
                self.funnel.lost(flight.training.candidate)

    def failed(self, trial: Trial) -> None:
        """A trial has raised, or its worker died."""
        flight = self._flights.pop(trial.trial_id, None)
        if flight is None:  # its end could not be recorded, which ends the search
            return
        with self.guard():
            self._await_head()
            fault = flight.hung or self._fault(trial, flight)
            if fault is None:
                self.funnel.lost(flight.training.candidate)
            else:
                self.funnel.failed(flight.training.candidate, fault)

    def _await_head(self) -> None:
        """Wait while the head of the cluster is silent: Tune would ask it, and Ray would end this process.

        Raises EnvironmentFault if it is lost.
        """
        while not self.runner.head_answers():
            self.runner.check_fit(running=True)
            time.sleep(CHECK_SECONDS)

    def _go_on(self) -> None:
        """Raise Stopped or Abandoned if the search must end."""
        if self.error is None:
            return
        if not self.runner.head_answers():
            raise Abandoned
        for flight in self._flights.values():
            _kill(flight)  # Tune would wait for the step of each
        raise Stopped

    def _fault(self, trial: Trial, flight: _Flight) -> Fault | None:
        """The fault of a trial that failed; None if nobody is to blame."""
        error = _error_of(trial)
        cause = getattr(error, "cause", None)  # of an exception of the worker
        if isinstance(cause, TrialFault):
            return cause.fault
        if not isinstance(error, ray.exceptions.RayError):
            return fault_of(error)
        self._note_opened(flight)
        lives = flight.node is None or self.runner.lives(flight.node)
        return fault_of_ray(error, opened=flight.opened, node_lives=lives)

    def _note_opened(self, flight: _Flight) -> None:
        """Note whether a worker has loaded evaluator and data, and on which node it is."""
        if flight.opened or flight.begun is None or not ray.wait([flight.begun], timeout=0)[0]:
            return
        try:
            message = ray.get(flight.begun)
        except ray.exceptions.RayError:  # it died before
            return
        flight.node, flight.host, flight.since = message["node"], message["name"], time.monotonic()
        flight.opened = "fault" not in message
        if "opened" in message:
            self.runner.report_machine(message["name"], Machine(**message["opened"]))

    def _end_hanging(self) -> None:
        """End trainings without a result for too long; time in which this process was stopped does not count."""
        now = time.monotonic()
        pause = max(0.0, now - self._checked - 2 * CHECK_SECONDS)
        for flight in self._flights.values():
            if not flight.runs or flight.since is None or flight.hung:
                continue
            flight.since += pause
            self._note_opened(flight)
            rungs = flight.training.rungs
            following = next((epochs for epochs in rungs if epochs > flight.reached), rungs[-1])
            parts = following - flight.reached + 1 if flight.opened else OPENING  # epochs, and a measurement
            if now - flight.since > parts * self.funnel.trainer.patience(flight.training.job):
                flight.hung = fault_of_hang(now - flight.since, opened=flight.opened)
                _kill(flight)


class _Searcher(tune.search.Searcher):
    """Asks the funnel."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def suggest(self, trial_id: str) -> Any:
        return self._bridge.propose(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pass  # the callbacks know more

    def save(self, checkpoint_path: str) -> None:
        pass  # the store is the state


class _Reports(tune.Callback):
    """Reports to the funnel."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._bridge.step()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._bridge.started(trial)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        self._bridge.result(trial, result)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._bridge.completed(trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._bridge.failed(trial)


def _trial_id(trial: Trial) -> str:
    return str(trial.trial_id)


def _actor(trial: Trial) -> Any:
    return trial.temporary_state.ray_actor


def _kill(flight: _Flight) -> None:
    if flight.trial is not None and (actor := _actor(flight.trial)) is not None:
        ray.kill(actor)


def _error_of(trial: Trial) -> Exception:
    """The exception that ended a trial, which Tune has written to a file."""
    try:
        with open(trial.pickled_error_file, "rb") as file:
            error = pickle.load(file)
    except (OSError, TypeError, pickle.UnpicklingError):
        text = Path(trial.error_file).read_text() if trial.error_file else "unknown"
        return EnvironmentFault(f"Ray Tune must run the trainings. Got {' '.join(text.split()):.400}")
    assert isinstance(error, Exception)
    return error
