"""The driver of a study: propose, screen, rank, train, evaluate, record. It alone writes the store.

Everything it decides is a function of the settings and of what is in the store, so that a study that was killed goes on
as if it had not been. One generation at a time: its candidates are in the store before the first of them trains; their
results are recorded as they come, in any order, and each decision waits for all the results that it needs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.audit.reference import Scorebook
from nas.audit.reliance import Reliance, decide
from nas.audit.wording import reliance_changes, reliance_sentence
from nas.config import Config
from nas.errors import UserError
from nas.evaluation.evaluator import DataInfo, Evaluator
from nas.evaluation.jobs import Job, Outcome
from nas.evaluation.operating_points import EVALUATIONS
from nas.funnel.estimates import Work
from nas.funnel.finals import choose_finalists, epochs_within
from nas.funnel.ranking import Entry, Shortlist, with_controls
from nas.funnel.records import Ledger
from nas.plugins import load_plugin
from nas.progress import Progress, State
from nas.proxies.contract import evaluate, load_proxy
from nas.representation.architecture import Architecture
from nas.screening.pool import pool
from nas.screening.proposals import Proposal, Rejected, duplicate, outranked
from nas.screening.screener import Screener
from nas.screening.strategy_calls import new_strategy, with_strategy_score
from nas.seeds import seed
from nas.spaces.choices import Domains
from nas.strategies.contract import Strategy
from nas.strategies.optuna_export import export
from nas.strategies.random import Random
from nas.workers.local import Failure, Runner
from results.errors import StoreError
from results.front import Score

if TYPE_CHECKING:
    from results.writer import StudyWriter

CONTROL_EVERY = 10
SHORTLIST = 4  # times the candidates that a generation trains
CHUNK = 256  # rejected proposals written at once
AUDITED = ("macs", "params", "depth", "count")
DEFAULT_TRAIN = 36  # where no limit is given
SEARCH_SHARE = 0.6  # of --hours; the rest is for training the finalists in full
RESERVE = 0.9  # of the time left is planned for
LEAST_FINAL_EPOCHS = 3
SELECTION_SHARE = 0.1  # of the work of training on an image, that of answering it with one subnetwork
SELECTION_IMAGES = 2_000  # at most of one kind, that a final search measures a subnetwork on
OVERTIME = 1.05  # of --hours: then whatever runs is stopped


class OutOfTime(Exception):
    """The wall-clock limit has passed while something ran: checkpoints and store hold all that was done."""


class Driver:
    """Runs one study from where the store says it stands.

    memo: what the store keeps of the driver beside the candidates: generations done, seconds spent, the range of
    budgets, the options of all choices, the plan of full training, whether each generation relied on the proxy.
    """

    def __init__(
        self,
        config: Config,
        writer: StudyWriter,
        runner: Runner,
        evaluator: Evaluator,
        info: DataInfo,
        screener: Screener,
        score: Score,
        progress: Progress,
    ):
        self.config, self.writer, self.runner = config, writer, runner
        self.evaluator, self.info, self.progress = evaluator, info, progress
        self.memo = writer.memo()
        self._started = time.monotonic()
        self._before = float(self.memo.get("seconds", 0.0))
        self.strategy: type[Strategy] = load_plugin("nas.strategies", config.strategy)
        self.proxies = {name: load_proxy(name) for name in dict.fromkeys((config.proxy, *AUDITED))}
        self.screener = screener
        screener.domains = Domains(self.memo.get("domains"))
        screener.constraints = replace(screener.constraints, low=score.low)
        writer.set_score(score)
        self.ledger = Ledger(config, writer, info, score)
        self.book = Scorebook(writer.files, replace(config, low=score.low), info.task, screener.spaces)
        self._work: Work | None = None
        if config.hours is None:
            done = int(self.memo.get("generations", 0))
            self._work = Work(config, info.train_images, limit=self._train_limit(), generations=done)

    # The study ---------------------------------------------------------------------------------------------------

    def run(self) -> str:
        """Search until a limit is reached, then train the finalists in full. Returns why the search ended."""
        try:
            return self._run()
        finally:
            with suppress(StoreError):  # the first error is the one to tell
                self._remember()

    def _run(self) -> str:
        done = int(self.memo.get("generations", 0))
        while True:
            if not self.ledger.rows(done):
                if (reason := self._limit_reached(done)) is not None:
                    break
                if not self._propose(done):
                    reason = "no feasible candidate was found that the study has not seen"
                    break
            self._halve(done)
            self._check_that_training_works(done)
            done += 1
            self._remember(generations=done)
            self._export()
        return f"{reason}{self._finals(done)}"

    def _export(self) -> None:
        """Copy what was trained to Optuna; a copy that cannot be made is told, and made good by the next."""
        if self.config.optuna:
            try:
                export(self.ledger.history(self.screener.domains), self.config.optuna, self.config.study)
            except Exception as error:  # whatever a database says
                self.progress.say(f"Optuna's copy failed: {' '.join(f'{type(error).__name__}: {error}'.split()):.300}")

    def elapsed(self) -> float:
        """Seconds that the study has run, those before a resume included."""
        return self._before + time.monotonic() - self._started

    def _check_that_training_works(self, generation: int) -> None:
        """Raise UserError when a first generation, of three or more, failed altogether: what is wrong is no candidate.

        The generation is forgotten, so that the same command starts over once that is mended; its tracebacks are in the
        log.
        """
        rows = self.ledger.rows(generation)
        if generation or len(rows) < 3 or any(self.ledger.accuracy.values()):
            return
        log = self.writer.files / "log.txt"
        with open(log, "a", encoding="utf-8") as file:
            file.writelines(f"Candidate {row['key']}: {row['reason']}\n{row['traceback'] or ''}\n" for row in rows)
        self.writer.drop_generation(generation)
        raise UserError(
            f"Training must succeed for some candidate, and all {len(rows)} of the first generation failed, the last "
            f"with {rows[-1]['reason']:.300} The tracebacks are in {log}. Mend it and run the same command again."
        )

    def _limit_reached(self, done: int) -> str | None:
        """Why no generation follows after ``done`` of them, or None."""
        config, trained = self.config, len(self.ledger.accuracy)
        if trained >= self._train_limit():
            return f"{trained} candidates were trained"
        if config.generations is not None and done >= config.generations:
            return f"{done} generations were trained"
        if config.hours is not None:
            typical = self.elapsed() / done if done else 0.0
            if self.elapsed() + 0.5 * typical > SEARCH_SHARE * config.hours * 3600:
                return f"the search's share of {config.hours:g} hours was used"
        return None

    def _train_limit(self) -> float:
        config = self.config
        if config.train is not None:
            return config.train
        return DEFAULT_TRAIN if config.generations is None and config.hours is None else math.inf

    def _remember(self, **changes: Any) -> None:
        """Keep what a resume needs."""
        domains = {name: list(options) for name, options in self.screener.domains.known.items()}
        self.memo |= {"seconds": self.elapsed(), "domains": domains, **changes}
        self.writer.set_memo(self.memo)

    # Proposing ---------------------------------------------------------------------------------------------------

    def _propose(self, generation: int) -> bool:
        """Fill a generation: the best of a pool in order of training, with random controls. False where none is new."""
        started = time.monotonic()
        self._show(f"generation {generation + 1}: screening")
        self.writer.drop_generation(generation)
        before = len(self.ledger.accuracy)
        wanted = int(min(self.config.generation, self._train_limit() - before))
        known = {row["key"] for row in self.ledger.rows()}
        reliance = self._reliance(generation)
        ranked = self._screened(generation, wanted, known, relied=reliance.relied)
        taken = known | {proposal.key for proposal in ranked[:wanted]}
        due = sum(place % CONTROL_EVERY == CONTROL_EVERY - 1 for place in range(before, before + wanted))
        controls, drawn = self._controls(generation, due, taken)
        chosen = with_controls(ranked, controls, every=CONTROL_EVERY, start=before)[:wanted]
        trained = {proposal.key for proposal, _ in chosen}
        left = [outranked(p, place) for place, p in enumerate(ranked) if p.key not in trained]
        with self.writer.transaction():
            self.writer.add_candidates(rejected_row(r, generation) for r in [*left, *drawn])
            ids = self.writer.add_candidates(
                self._row(proposal, generation, position, control)
                for position, (proposal, control) in enumerate(chosen)
            )
            self._remember(
                screening=self.memo.get("screening", 0.0) + time.monotonic() - started,
                reliance=self.memo.get("reliance", {}) | {str(generation): asdict(reliance)},
            )
        self.ledger.accuracy |= {number: {} for number in ids}
        return bool(ids)

    def _reliance(self, generation: int) -> Reliance:
        """Whether a generation is ordered by the proxy: by what was trained before it, at the fidelity all share."""
        ledger, first = self.ledger, self.ledger.rung(self.config.rungs()[0])
        rows = {row["key"]: row for row in ledger.rows() if first in ledger.accuracy[row["id"]]}
        reliance = decide(
            self.book,
            (self.config.proxy, self.proxies[self.config.proxy]),
            list(rows),
            lambda key: ledger.architecture(rows[key]),
            [ledger.accuracy[row["id"]][first] for row in rows.values()],
            rng_seed=seed(self.config.seed, "reliance", generation),
        )
        decisions = self.memo.get("reliance", {})
        changes = reliance_changes(decisions | {str(generation): asdict(reliance)})
        if changes and changes[-1][0] == generation:
            told = reliance_sentence(self.config.proxy, *changes[-1])
            self.progress.say(told)
            with open(self.writer.files / "log.txt", "a", encoding="utf-8") as file:
                file.write(f"{told}\n")
        return reliance

    def _screened(self, generation: int, wanted: int, known: set[str], *, relied: bool) -> list[Proposal]:
        """The best feasible proposals of a pool, in order of training; the others go to the store with their reason.

        relied: whether the proxy counts. Where it does not, and the strategy has no score of its own either, the order
        is that of its proposals, and no more are asked for than are wanted.
        """
        config, history = self.config, self.ledger.history(self.screener.domains, with_proxy=relied)
        strategy = new_strategy(self.strategy, seed(config.seed, "strategy", generation), history)
        size = min(config.pool, strategy.pool_limit or config.pool)
        rng = np.random.default_rng(seed(config.seed, "mutation", generation))
        best: Shortlist[Proposal] = Shortlist(capacity=SHORTLIST * wanted)
        as_asked: list[Proposal] = []
        rejected: list[Rejected] = []
        for proposal in pool(self.screener, strategy, size, known=known, rng=rng):
            if isinstance(proposal, Rejected):
                rejected.append(proposal)
            else:
                proposal = with_strategy_score(strategy, proposal, with_proxy=relied)
                if not (relied or proposal.ranked_by_strategy):
                    as_asked.append(proposal)
                    if len(as_asked) == wanted:
                        break
                    continue
                cost = 1.0 if proposal.ranked_by_strategy else proposal.macs[-1]  # 1.0: order by score only
                entry = Entry(key=proposal.key, score=proposal.score, macs=cost, payload=proposal)
                rejected += [outranked(dropped.payload) for dropped in best.extend([entry])]
            if len(rejected) >= CHUNK:
                self.writer.add_candidates(rejected_row(r, generation) for r in rejected)
                rejected.clear()
        self.writer.add_candidates(rejected_row(r, generation) for r in rejected)
        return as_asked or [entry.payload for entry in best.ordered()]

    def _controls(self, generation: int, count: int, taken: set[str]) -> tuple[list[Proposal], list[Rejected]]:
        """Random feasible proposals, whatever their score, and what was drawn in vain."""
        decide = Random(seed=seed(self.config.seed, "controls", generation)).ask()
        found: dict[str, Proposal] = {}
        rejected: list[Rejected] = []
        for _ in range(self.config.pool):
            if len(found) == count:
                break
            proposal = self.screener.propose(decide)
            if isinstance(proposal, Rejected):
                rejected.append(proposal)
            elif proposal.key in taken or proposal.key in found:
                rejected.append(duplicate(proposal))
            else:
                found[proposal.key] = proposal
        return list(found.values()), rejected

    def _row(self, proposal: Proposal, generation: int, position: int, control: bool) -> dict[str, Any]:
        return {
            "key": proposal.key,
            "space": proposal.space,
            "generation": generation,
            "position": position,
            "control": control,
            "status": "queued",
            "choices": dict(proposal.choices),
            "architecture": proposal.architecture.to_json(),
            "proxies": evaluate(proposal.architecture, self.proxies),
        }

    # Partial training --------------------------------------------------------------------------------------------

    def _halve(self, generation: int) -> None:
        """Successive halving: train to each rung, stop all but the best third."""
        rungs = self.config.rungs()
        for epochs in rungs:
            fidelity = self.ledger.rung(epochs)
            alive = [row for row in self.ledger.rows(generation) if row["status"] in ("queued", "training")]
            self._train(
                [(row, 0) for row in alive if fidelity not in self.ledger.accuracy[row["id"]]],
                name=f"generation {generation + 1}: epoch {epochs} of {rungs[-1]}",
                stage="search",
                epochs=rungs[-1],
                until=epochs,
                images=self.config.images,
                test=epochs == rungs[-1] and self.config.hours is not None,  # no time may be left for full training
            )
            self._decide(generation, epochs, last=epochs == rungs[-1])

    def _decide(self, generation: int, epochs: int, *, last: bool) -> None:
        """Stop what fell behind at a rung. Decided anew after a resume, the decision is the same."""
        ledger, fidelity = self.ledger, self.ledger.rung(epochs)
        entered = [row for row in ledger.rows(generation) if fidelity in ledger.accuracy[row["id"]]]
        entered.sort(key=lambda row: (-ledger.accuracy[row["id"]][fidelity], row["key"]))
        keep = len(entered) if last else math.ceil(len(entered) / 3)
        with self.writer.transaction():
            for place, row in enumerate(entered):
                if row["status"] in ("queued", "training"):
                    accuracy = ledger.accuracy[row["id"]][fidelity]
                    told = (
                        f"Place {place + 1} of {len(entered)} at epoch {epochs}, with anytime accuracy {accuracy:.4f}."
                    )
                    status = "finished" if last else "training" if place < keep else "stopped"
                    self.writer.update_candidate(row["id"], status=status, reason=told)
            self._remember()
        for row in entered if last else entered[keep:]:
            self.evaluator.discard(ledger.folder(row["key"], "search", 0))

    def _train(
        self,
        wanted: Sequence[tuple[dict[str, Any], int]],
        *,
        name: str,
        stage: str,
        epochs: int,
        until: int,
        images: int | None,
        test: bool = False,
    ) -> None:
        """Train (candidate row, repeat) pairs side by side and record what comes, as it comes."""
        ledger = self.ledger
        about = {ledger.folder(row["key"], stage, repeat): (row, repeat) for row, repeat in wanted}
        architectures = {row["id"]: Architecture.from_json(row["architecture"]) for row, _ in wanted}
        jobs = [
            Job(
                candidate=row["id"],
                architecture=row["architecture"],
                seed=seed(self.config.seed, architectures[row["id"]].network_key, repeat),
                epochs=epochs,
                until=until,
                images=images,
                folder=folder,
                test=test,
                selection=self._selection(architectures[row["id"]]) if stage == "full" else None,
            )
            for folder, (row, repeat) in about.items()
        ]

        def done(job: Job, outcome: Outcome | Failure) -> None:
            row, repeat = about[job.folder]
            if isinstance(outcome, Failure):
                ledger.record_failure(row, outcome, ends=stage == "search")
                if stage == "search":
                    self.evaluator.discard(job.folder)
                self.progress.say(f"Candidate {row['key']} failed: {outcome.reason}")
            else:
                ledger.record(row, repeat, outcome, ledger.fidelity(until, images), job.folder)
            self._show(name)

        def progress(job: Job, epoch: int) -> None:
            if self._work is not None:
                self._work.add(job.images)
            self._show(name)
            if self.config.hours is not None and self.elapsed() > OVERTIME * self.config.hours * 3600:
                raise OutOfTime

        self._show(name)
        self.runner.run(jobs, done, progress)

    # Full training -----------------------------------------------------------------------------------------------

    def _finals(self, done: int) -> str:
        """Train the finalists on all training images, and measure them on the test images. Tells of those that failed.

        One after the other where latency is limited: nothing of ours then runs beside what is timed.
        """
        plan = self.memo.get("finals")
        if plan is None or plan["generations"] != done:
            plan = self._plan_finals(done)
            self._remember(finals=plan)
        ledger, repeats = self.ledger, range(self.config.seeds)
        rows = {row["id"]: row for row in ledger.rows()}
        fidelity = ledger.fidelity(plan["epochs"], None)
        pairs = [(rows[number], repeat) for repeat in repeats for number in plan["candidates"]]
        wanted = [(row, repeat) for row, repeat in pairs if not ledger.tested(row["id"], fidelity, repeat)]
        for together in [wanted] if self.config.max_latency_ms is None else [[pair] for pair in wanted]:
            self._train(
                together,
                name=f"{len(plan['candidates'])} finalists: {plan['epochs']} epochs",
                stage="full",
                epochs=plan["epochs"],
                until=plan["epochs"],
                images=None,
                test=True,
            )
        left = [row["id"] for row, repeat in pairs if not ledger.tested(row["id"], fidelity, repeat)]
        for row, repeat in pairs:
            if row["id"] not in left:  # the checkpoint of one that failed is what trying again starts from
                self.evaluator.discard(ledger.folder(row["key"], "full", repeat))
        if not left:
            return ""
        last = next(row["reason"] for row in ledger.rows() if row["id"] == left[-1])
        return f"; {len(set(left))} of {len(plan['candidates'])} finalists failed in full training, the last: {last}"

    def _plan_finals(self, done: int) -> dict[str, Any]:
        """Which candidates, for how many epochs."""
        config = self.config
        curves = self.ledger.curves("finished") or self.ledger.curves("stopped")
        finalists, epochs = choose_finalists(curves, self.ledger.score, config.finalists), config.full_epochs
        if config.hours is not None:
            # A front is of the highest fidelity: what trains less than partial training did would be in vain.
            least = min(epochs, max(LEAST_FINAL_EPOCHS, 1 + math.floor(self.ledger.rung(config.rungs()[-1]))))
            finalists, epochs = epochs_within(
                finalists,
                seconds=RESERVE * max(0.0, config.hours * 3600 - self.elapsed()),
                images=self.info.train_images,
                workers=config.workers or 1,
                repeats=config.seeds,
                most=epochs,
                least=least,
                extra=max((self._selection_work(c.candidate) for c in finalists), default=0.0),
            )
            finalists = finalists if epochs >= least else []
        return {"generations": done, "epochs": epochs, "candidates": [c.candidate for c in finalists]}

    def _selection_work(self, candidate: int) -> float:
        """About what a finalist's final search takes, in training images."""
        row = next(row for row in self.ledger.rows() if row["id"] == candidate)
        selection = self._selection(Architecture.from_json(row["architecture"]))
        images = SELECTION_IMAGES + min(SELECTION_IMAGES, self.info.validation_images)
        return SELECTION_SHARE * images * selection["evaluations"] if selection else 0.0

    def _selection(self, architecture: Architecture) -> dict[str, Any] | None:
        """The settings of a finalist's final search, or None: where nothing else is said, it is worth its time only
        where training made more than the operating points good, or where it alone can keep a limit.
        """
        config, score = self.config, self.ledger.score
        if architecture.norm == "per_point":  # other points have no norms
            return None
        evaluations = config.final_search
        if evaluations is None:
            worth = config.max_latency_ms is not None or self.evaluator.samples_subnetworks(architecture)
            evaluations = EVALUATIONS if worth else 0
        if not evaluations:
            return None
        limits = {name: getattr(config, name) for name in ("max_macs", "max_params", "max_latency_ms")}
        return {"evaluations": evaluations, "low": score.low, "high": score.high, **limits}

    def _show(self, stage: str) -> None:
        """Tell the progress display where the study stands: by work done, or by time where that is the limit."""
        if self._work is not None:
            done, total = self._work.done, self._work.total
            left = self._work.seconds_left(time.monotonic() - self._started)
        else:
            total = (self.config.hours or 0) * 3600
            done = min(self.elapsed(), total)
            left = total - done
        trained, best = sum(map(bool, self.ledger.accuracy.values())), self.ledger.best()
        self.progress.show(State(stage=stage, done=done, total=total, trained=trained, best=best, seconds_left=left))


def rejected_row(rejected: Rejected, generation: int) -> dict[str, Any]:
    """A rejection as a row of the store: its choices and its reason, nothing else."""
    return {
        "key": rejected.key,
        "space": rejected.space,
        "generation": generation,
        "status": rejected.status,
        "reason": rejected.reason,
        "choices": dict(rejected.choices),
        "traceback": rejected.traceback,
    }
