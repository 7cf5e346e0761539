"""The search without barriers: a candidate is proposed as soon as a slot is free, and each result is recorded alone.

The funnel decides what is trained, a scheduler elsewhere which training stops early. As in a search by generations, a
pool is screened and ranked, and its best ``--generation`` proposals with their random controls are queued in the store.
The next pool follows when the last of them has been handed out, so a pool costs as much per candidate as a generation,
and a proposal misses the results of at most ``--generation`` - 1 candidates. The number of the pool is the candidate's
generation. Whether the proxy ranks is decided for every pool.

Which results a pool is based on depends on the clock, so two runs differ. The store has everything that a resumed
search needs: candidates that were in training continue, queued ones follow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from nas.evaluation.faults import Fault
from nas.evaluation.jobs import Job, Outcome
from nas.funnel.generation import GenerationProposer
from nas.funnel.leaders import Leaders
from nas.funnel.limits import Limits, check_that_training_works
from nas.funnel.records import Candidate
from nas.funnel.rungs import partial_stages
from nas.funnel.state import StateKeeper
from nas.funnel.training import CandidateTrainer, Stretch
from nas.workers.activity import Activity, RunningJob
from nas.workers.job_queue import JobQueue

NOTHING_NEW = "no feasible candidate was found that the study has not seen"
MOST_REPEATS = 3
"""Trainings that wait for being repeated alone, at most; more are not begun until these are done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """The partial training of a candidate, as plain data for the process that trains it.

    Attributes
    ----------
    key : str
        Of the candidate.
    job : Job
        The whole training.
    rungs : tuple of int
        Epochs after which the candidate is measured, the last being the end.
    known : mapping of int to float
        The anytime accuracy at rungs that the candidate reached in an earlier run: these are not trained again, but a
        scheduler must be informed of them.
    """

    key: str
    job: Job
    rungs: tuple[int, ...]
    known: Mapping[int, float]

    @property
    def candidate(self) -> int:
        """Id of the candidate."""
        return self.job.candidate

    def stretch(self, epochs: int) -> Job:
        """The job that trains up to a rung; it continues from the checkpoint of the one before."""
        return replace(self.job, until=epochs)


class AsynchronousFunnel:
    """Proposes candidates one by one, and records what becomes of them.

    Notes
    -----
    All calls come from the driver's process and from one thread, because only the driver writes the store; an object of
    this class cannot be pickled. The caller trains proposals as follows.

    1. While a slot is free, call :meth:`propose`. The candidate is then in flight. If the result is None and
       :attr:`ended` is true, the search is over; if it is None otherwise, ask again after the next end of a training.
    2. Train the stretches of the :class:`Training` rung by rung. Pass the outcome of each to :meth:`report`, and let
       the scheduler decide by the accuracy that it returns. At rungs in ``known``, nothing is trained or reported: the
       scheduler receives the known accuracy.
    3. When the training ends, call one of :meth:`stopped`, :meth:`finished`, :meth:`failed` and :meth:`lost`. The
       candidate is then no longer in flight.

    Candidates end in any order. Candidates that never end stay in training in the store, and the next run continues
    them from their checkpoints. Any exception of these methods ends the search: the caller stops all trainings and
    raises it.
    """

    def __init__(
        self,
        trainer: CandidateTrainer,
        keeper: StateKeeper,
        proposer: GenerationProposer,
        limits: Limits,
        leaders: Leaders,
        *,
        refilled: Callable[[], None] = lambda: None,
    ):
        self.config, self.records, self.trainer = trainer.config, trainer.records, trainer
        self.keeper, self.proposer, self.limits, self.leaders = keeper, proposer, limits, leaders
        self.reason = ""
        """Why the search ended; "" before."""
        self.places: Callable[[], Mapping[int, str]] = lambda: dict.fromkeys(self._in_flight, "")
        """Returns the trainings that run: id of the candidate → name of the node, "" if unknown. The caller replaces it
        if trainings in flight may wait or be paused."""
        self._refilled = refilled
        self._in_flight: dict[int, _InFlight] = {}
        trainer.activity.source = self._activity
        ledger = self.records.ledger
        unfinished = ledger.unfinished()
        self._continued = deque(n for n in unfinished if ledger[n].status == "training")
        self._queued = deque(n for n in unfinished if ledger[n].status == "queued")
        self._repeats = JobQueue([])
        self._exhausted_after = -1  # ended candidates, when a pool gave nothing new
        self._ended, self._seconds = 0, 0.0  # trainings that ended in this run, and their sum

    # Proposing ---------------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> tuple[int, ...]:
        """Ids of the candidates that were proposed and have not ended, in order."""
        return tuple(self._in_flight)

    @property
    def ended(self) -> bool:
        """Whether the last :meth:`propose` returned None for good."""
        return bool(self.reason)

    def earlier_results(self) -> dict[int, dict[int, float]]:
        """Results of the candidates that have ended, for a scheduler that starts: id → epochs → anytime accuracy."""
        return {number: self.records.reached(number) for number in self.records.ledger.ended()}

    def propose(self) -> Training | None:
        """The next candidate to train.

        Returns
        -------
        Training or None
            None if a limit is reached, if there is nothing new and feasible, or if trainings wait that are repeated
            alone after a failure that does not name its owner.

        Raises
        ------
        PluginError
            Of the strategy, the proxy or a space.
        """
        while (number := self._next()) is not None:
            training = self._begin(number)
            if training.rungs[-1] not in training.known:
                return training
            self.finished(number)  # the program was killed between the last result and the end
        return None

    def _begin(self, number: int) -> Training:
        (candidate,) = self.records.numbered([number])
        training = self._training(candidate)
        self._in_flight[number] = _InFlight(candidate, training, self.keeper.clock.elapsed())
        if candidate.status != "training":
            with self.records.transaction():
                self.records.set_statuses({number: ("training", "In training.")})
                self.keeper.update(finals=None)  # they are chosen again
        self._show()
        return training

    def _next(self) -> int | None:
        """Id of the next candidate, or None."""
        self.reason = ""
        if any(self._repeats.is_repeated(flight.training.job) for flight in self._in_flight.values()):
            return None
        if self._continued:
            return self._continued.popleft()
        end = None
        if self._repeats.repeats < MOST_REPEATS and (end := self._end()) is None:
            return self._queued.popleft()
        job = self._repeats.take(running=len(self._in_flight))
        if job is not None:
            return job.candidate
        if not self._in_flight:
            assert end is not None  # without a repeat, there is room for one
            self.reason = end
        return None

    def _end(self) -> str | None:
        """The reason why no queued candidate may be trained; None if one may. Screens a pool if none is queued."""
        if (reason := self.limits.time_used(self._seconds / max(1, self._ended))) is not None:
            return reason
        if self._queued:
            return None
        pool = self.keeper.state.generations
        if (reason := self.limits.counts_reached(pool) or self.limits.proposals_end()) is not None:
            return reason
        ended = len(self.records.ledger.ended())
        if ended == self._exhausted_after:
            return NOTHING_NEW
        self.trainer.show(f"pool {pool + 1}: screening")
        if not self.proposer.propose(pool, self.limits.train, generations=pool + 1):
            self._exhausted_after = ended
            return NOTHING_NEW
        self._queued.extend(candidate.id for candidate in self.records.candidates(pool))
        self._refilled()
        return None

    def _training(self, candidate: Candidate) -> Training:
        config, rungs = self.config, self.config.rungs()
        job = self.trainer.job(
            candidate,
            0,
            self.records.proposed([candidate.id])[candidate.id],
            Stretch(
                part="search",
                epochs=rungs[-1],
                until=rungs[-1],
                images=config.images,
                stages=partial_stages(config),
            ),
        )
        return Training(key=candidate.key, job=job, rungs=rungs, known=self.records.reached(candidate.id))

    # What becomes of a candidate in flight -------------------------------------------------------------------------

    def report(self, candidate: int, epochs: int, outcome: Outcome) -> float:
        """Record the outcome at a rung; in place of an earlier one, if it is repeated.

        Parameters
        ----------
        candidate
            Id of a candidate in flight.
        epochs
            The rung.
        outcome
            Checked, see :func:`nas.workers.outcome_checks.checked_outcome`.

        Returns
        -------
        float
            The anytime accuracy.

        Raises
        ------
        OutOfTime
            If the study exceeds its time limit.
        """
        flight = self._in_flight[candidate]
        before = max(self.records.reached(candidate), default=0)
        self.trainer.record_outcome(flight.candidate, 0, flight.training.stretch(epochs), outcome)
        for _ in range(before, epochs):
            self.trainer.display.add(flight.training.job.images)
        self._show()
        self.trainer.check_time()
        return self.records.reached(candidate)[epochs]

    def stopped(self, candidate: int, reason: str) -> None:
        """The scheduler has stopped a candidate after a result. reason: such as "Stopped by asha"."""
        self._end_of(candidate, "stopped", reason)

    def finished(self, candidate: int) -> None:
        """A candidate has its result at the last rung."""
        self._end_of(candidate, "finished", "Trained to the end")

    def failed(self, candidate: int, fault: Fault) -> None:
        """An attempt to train a candidate has failed. A failure that does not name its owner is repeated once, alone.

        Parameters
        ----------
        candidate
            Id of a candidate in flight.
        fault
            Of the attempt.

        Raises
        ------
        EnvironmentFault
            If the fault is not the candidate's. The search must stop.
        UserError
            If the last candidates have all failed.
        """
        flight = self._in_flight[candidate]
        job = flight.training.job
        failure = self._repeats.failed(job, fault)
        del self._in_flight[candidate]
        if failure is None:
            self.records.log(f"{fault.reason} The training in {job.folder} is repeated once, alone.", fault.traceback)
            return
        self.trainer.record_failure(flight.candidate, job, failure, ends=True)
        self._show()
        check_that_training_works(self.records)

    def lost(self, candidate: int) -> None:
        """A training was stopped and nobody is to blame, such as when its machine left: it is proposed again."""
        job = self._in_flight.pop(candidate).training.job
        if self._repeats.is_repeated(job):
            self._repeats.put_back(job)  # alone again
        else:
            self._continued.append(candidate)

    def check_time(self) -> None:
        """Raise OutOfTime if the study exceeds its time limit; to be called now and then."""
        self.trainer.activity.tick()
        self.trainer.check_time()

    def _activity(self) -> Activity:
        """The trainings in flight that run, and what the runner does, such as full training."""
        of_runner = self.trainer.runner.activity()
        in_flight = (
            RunningJob(
                candidate=number,
                node=node,
                epoch=max(self.records.reached(number), default=0),
                until=flight.training.rungs[-1],
                seconds=self.keeper.clock.elapsed() - flight.started,
            )
            for number, node in self.places().items()
            if (flight := self._in_flight.get(number)) is not None
        )
        return Activity(nodes=of_runner.nodes, running=(*in_flight, *of_runner.running))

    def _end_of(self, candidate: int, status: str, reason: str) -> None:
        flight, reached = self._in_flight[candidate], self.records.reached(candidate)
        epochs = max(reached)
        text = f"{reason} at epoch {epochs}, with anytime accuracy {reached[epochs]:.4f}."
        with self.records.transaction():
            self.records.set_statuses({candidate: (status, text)})
            self.keeper.update()
        del self._in_flight[candidate]
        self._ended, self._seconds = self._ended + 1, self._seconds + self.keeper.clock.elapsed() - flight.started
        self.leaders.ended([candidate])
        self._show()

    def _show(self) -> None:
        self.trainer.show(f"{len(self._in_flight)} in training")


@dataclass(frozen=True, slots=True)
class _InFlight:
    """A candidate in training. started: by the clock of the study."""

    candidate: Candidate
    training: Training
    started: float


TrainsProposals = Callable[[AsynchronousFunnel], None]
"""Trains the proposals of a funnel until it has ended, as its class describes."""
