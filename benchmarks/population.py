"""A population of trained candidates, on which proxies are evaluated in seconds: see ranking.py and strategies.py.

Random proposals of `residual` (150) and `mobile` (80), trained with equal settings on 10,000 images of a data set by
the search's evaluator and the default training rule. 60 of them (40 and 20) have the MACs of their largest point within
5 % of one value, so that size cannot help a proxy. 24 are trained with a second and a third seed, to estimate the noise
of the order. All are drawn before the first training, from fixed seeds. Candidates with even numbers are for tuning
proxies, candidates with odd numbers for reporting.

Appends one row per training to rows/population.csv: architecture (JSON), choices, and lists over levels, small to
large: macs, params, accuracy and loss on the validation images. The test images are not used. Trainings in that file
are skipped.

    python benchmarks/population.py --data npz:fashion_mnist.npz [--workers 2]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import zip_longest
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluators.training.evaluator import Training
from nas.evaluation.jobs import Job
from nas.plugins import load_plugin
from nas.proxies.contract import load_proxy
from nas.representation.architecture import Architecture
from nas.representation.elements import Task
from nas.screening.constraints import Constraints
from nas.screening.proposals import Proposal
from nas.screening.screener import Screener
from nas.seeds import seed
from nas.spaces.choices import at_random
from results.front import Score

SIZES = {"residual": (110, 40), "mobile": (60, 20)}
"""Per space: number of free candidates, and of candidates with matched MACs."""
REPEATED = {"residual": 16, "mobile": 8}
"""Per space: number of free candidates that are trained three times."""
LOW, HIGH, MATCHED = 0.3e6, 3e6, 1.8e6
"""MACs: limit of the smallest point, limit of the largest point, largest point of matched candidates."""
TOLERANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A candidate of the population. group: "free" or "matched". number: within its space; even numbers: tuning."""

    space: str
    group: str
    number: int
    proposal: Proposal


def draw(task: Task) -> list[Candidate]:
    """The population in the order of training: spaces and groups alternate, so that every prefix is representative."""
    groups = [_group(space, group, size, task) for space, sizes in SIZES.items() for group, size in zip(GROUPS, sizes)]
    spread = [sorted(((i + 0.5) / len(g), c.space, c.group, c) for i, c in enumerate(g)) for g in groups]
    return [c for *_, c in sorted((entry for g in spread for entry in g), key=lambda entry: entry[:3])]


GROUPS = ("free", "matched")


def _group(space: str, group: str, size: int, task: Task) -> list[Candidate]:
    screener = Screener(
        {space: load_plugin("nas.search_spaces", space)()},
        task,
        proxy=("dtmc", load_proxy("dtmc")),
        constraints=Constraints(max_macs=HIGH, low=LOW),
    )
    decide, proposals = at_random(np.random.default_rng(seed("population", space, group))), {}
    first = 0 if group == "free" else SIZES[space][0]
    while len(proposals) < size:
        proposal = screener.propose(decide)
        if isinstance(proposal, Proposal) and (group == "free" or abs(proposal.macs[-1] / MATCHED - 1) <= TOLERANCE):
            proposals.setdefault(proposal.key, proposal)
    return [Candidate(space=space, group=group, number=first + i, proposal=p) for i, p in enumerate(proposals.values())]


def trainings(population: list[Candidate]) -> Iterator[tuple[Candidate, int]]:
    """All trainings as (candidate, repeat); second and third seeds are spread over the whole order."""
    repeated = [c for c in population if c.group == "free" and c.number < REPEATED[c.space]]
    repetitions = [(c, repeat) for repeat in (1, 2) for c in repeated]
    every = max(1, len(population) // max(1, len(repetitions)))
    chunks = [population[i : i + every] for i in range(0, len(population), every)]
    for chunk, repeat in zip_longest(chunks, repetitions):
        yield from ((c, 0) for c in chunk or ())
        if repeat is not None:
            yield repeat


def train(data: str, candidate: Candidate, repeat: int, epochs: int, images: int) -> dict[str, Any]:
    """The row of one training, on one thread."""
    proposal, trainer = candidate.proposal, Training(data, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        outcome = trainer.evaluate(
            Job(
                candidate=candidate.number,
                architecture=proposal.architecture.to_json(),
                seed=seed("population", proposal.architecture.network_key, repeat),
                epochs=epochs,
                until=epochs,
                images=images,
                folder=folder,
            ),
            lambda epoch: None,
        )
    lists = {name: [point[name] for point in outcome.points] for name in ("macs", "params", "accuracy", "loss")}
    score = Score(low=LOW, high=HIGH, floor=trainer.info().floor)
    return {
        "data": trainer.dataset.name,
        "epochs": epochs,
        "images": outcome.images,
        "space": candidate.space,
        "group": candidate.group,
        "number": candidate.number,
        "repeat": repeat,
        "key": proposal.key,
        "anytime_accuracy": round(score(lists["macs"], lists["accuracy"]), 6),
        **{name: json.dumps([round(v, 5) for v in values]) for name, values in lists.items()},
        "seconds": round(outcome.seconds, 1),
        "choices": json.dumps({name.partition("/")[2]: value for name, value in proposal.choices.items()}),
        "architecture": json.dumps(proposal.architecture.to_json(), separators=(",", ":")) if not repeat else "",
    }


def read(path: str | Path) -> pd.DataFrame:
    """The rows of a population; lists are read as arrays of shape (levels,), architectures as objects."""
    frame = pd.read_csv(path)
    architectures = {
        key: Architecture.from_json(json.loads(text))
        for key, text in zip(frame.key, frame.architecture)
        if isinstance(text, str)
    }
    frame = frame[frame.key.isin(architectures)].reset_index(drop=True)
    for name in ("macs", "params", "accuracy", "loss"):
        frame[name] = [np.array(json.loads(text)) for text in frame[name]]
    frame["choices"] = [json.loads(text) for text in frame.choices]
    return frame.assign(architecture=frame.key.map(architectures))


def main() -> None:
    """Train the missing candidates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--limit", type=int, help="largest number of trainings of this run")
    parser.add_argument("--csv", type=Path, default=Path(__file__).parent / "rows" / "population.csv")
    options = parser.parse_args()
    trainer = Training(options.data)
    images = len(trainer.source.training_subset(options.images))
    setting = {"data": trainer.dataset.name, "epochs": options.epochs, "images": images}
    done: set[tuple[str, int]] = set()
    if options.csv.exists():
        rows = pd.read_csv(options.csv)
        if not all((rows[name] == value).all() for name, value in setting.items()):
            parser.error(
                f"{options.csv} must hold a population of {setting}; its rows differ. Choose a different --csv."
            )
        done = set(zip(rows.key, rows.repeat))
    left = [(c, repeat) for c, repeat in trainings(draw(trainer.dataset.task)) if (c.proposal.key, repeat) not in done]
    left, total = left[: options.limit], len(left) + len(done)
    started = time.monotonic()
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as workers:
        futures = [workers.submit(train, options.data, c, repeat, options.epochs, options.images) for c, repeat in left]
        for count, future in enumerate(as_completed(futures), start=1):
            row = future.result()
            pd.DataFrame([row]).to_csv(options.csv, mode="a", index=False, header=not options.csv.exists())
            rest = (time.monotonic() - started) / count * (len(left) - count)
            print(
                f"{len(done) + count} of {total}: {row['space']} {row['number']}.{row['repeat']}, "
                f"{row['anytime_accuracy']:.4f}, {row['seconds']} s; {rest / 60:.0f} min left",
                flush=True,
            )


if __name__ == "__main__":
    main()
