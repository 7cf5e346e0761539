"""A table of trained networks: every choice of the space `cells`, trained on digits.

With the table, strategies, proxies and orders of training are compared in seconds, by ``--evaluator
tabular:rows/digits_cells.csv`` or in a simulation. The 500 choices are 228 networks; 36 choices describe none, and have
one row with the reason under ``failed``. Every network is trained once, by the search's evaluator and the default rule
on all training images with one cosine schedule of 9 epochs, and measured after 1, 3 and 9 epochs on validation and test
images. Every eighth network is trained with a second seed too, to state the noise. The order of training is random, so
that every prefix of the table is representative.

Appends to rows/digits_cells.csv, for each training and each choice that leads to the network, a row per number of
epochs and operating point. ``seconds``: CPU seconds of the training so far. Trainings in that file are skipped. Prints
the noise of seeds and the spread of networks.

    python benchmarks/digits_cells.py [--workers 2]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from resumable import Rows

from evaluators.training.evaluator import Training
from nas.errors import InvalidArchitecture
from nas.evaluation.jobs import Job
from nas.representation.architecture import Architecture
from nas.representation.elements import Task
from nas.seeds import seed
from nas.spaces.choices import Domains, Recorder, replay
from results.front import anytime_accuracy
from search_spaces.cells import DEPTHS, EDGES, OPERATIONS, WIDTHS, Cells

DATA = "digits"
TASK = Task(input_shape=(1, 8, 8), num_classes=10)
EPOCHS = (1, 3, 9)
"""Epochs after which a training is measured; the last is the length of its schedule."""
REPEATED = 8
"""One of this number of networks is trained with a second seed."""
OPTIONS = {"width": WIDTHS, "depth": DEPTHS, **dict.fromkeys(EDGES, OPERATIONS)}
MEASURES = ("macs", "params", "accuracy", "loss", "test_accuracy", "test_loss")
COLUMNS = (*OPTIONS, "seed", "epochs", "level", *MEASURES, "seconds", "failed")
ROWS = Path(__file__).parent / "rows" / "digits_cells.csv"


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network, with all choices that lead to it."""

    architecture: Architecture
    choices: list[dict[str, Any]] = field(default_factory=list)


def enumerated(task: Task) -> tuple[list[Network], list[dict[str, Any]]]:
    """The networks of all choices, in a random order; and the rows of choices that describe no network."""
    networks: dict[str, Network] = {}
    invalid: list[dict[str, Any]] = []
    for answers in product(*OPTIONS.values()):
        choices = dict(zip(OPTIONS, answers))
        try:
            architecture = Cells().architecture(Recorder(replay(choices), Domains()), task)
        except InvalidArchitecture as error:
            invalid.append(choices | {"failed": str(error)})
        else:
            networks.setdefault(architecture.key, Network(architecture=architecture)).choices.append(choices)
    order = np.random.default_rng(seed("digits_cells", "order")).permutation(len(networks))
    of_key = list(networks.values())
    return [of_key[i] for i in order], invalid


def trainings(networks: list[Network]) -> Iterator[tuple[Network, int]]:
    """All trainings as (network, seed), first seeds before second ones."""
    yield from ((network, 0) for network in networks)
    yield from ((network, 1) for network in networks[::REPEATED])


def train(network: Network, repeat: int) -> list[dict[str, Any]]:
    """The rows of one training, on one thread."""
    trainer, rows = Training(DATA, device="cpu"), []
    trainer.info()  # load the data
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        for until in EPOCHS:
            outcome = trainer.evaluate(
                Job(
                    candidate=0,
                    architecture=network.architecture.to_json(),
                    seed=seed("digits_cells", network.architecture.network_key, repeat),
                    epochs=EPOCHS[-1],
                    until=until,
                    images=None,
                    folder=folder,
                    test=True,
                ),
                lambda epoch: None,
            )
            measured = {"seed": repeat, "epochs": until, "seconds": round(time.process_time() - started, 2)}
            for point in outcome.points:
                rows.append(measured | {"level": point["level"]} | {n: round(point[n], 5) for n in MEASURES})
    return [choices | row for choices in network.choices for row in rows]


def summary(table: pd.DataFrame) -> str:
    """Spread of the anytime accuracy over networks, and its standard deviation over seeds, after every rung.

    The range of budgets is from the median cheapest point to the most expensive point.
    """
    trained = table[table.failed.isna()]
    points = trained.groupby(["params", "macs", "level", *OPTIONS], sort=False)
    low, high = points.first().xs(0, level="level").reset_index().macs.median(), trained.macs.max()
    lines = [f"Budgets {low:,.0f} to {high:,.0f} MACs; anytime accuracy on validation images:"]
    for epochs, of_rung in trained.groupby("epochs"):
        scores = of_rung.groupby([*OPTIONS, "seed"]).apply(
            lambda g: anytime_accuracy(g.macs, g.accuracy, low=low, high=high, floor=0.1), include_groups=False
        )
        scores = scores.unstack("seed")
        within = (scores[1] - scores[0]).dropna().std() / np.sqrt(2) if 1 in scores else np.nan
        quantiles = ", ".join(f"{q:.3f}" for q in scores[0].quantile([0, 0.25, 0.5, 0.75, 1]))
        deviations = f"SD of networks {scores[0].std():.3f}, of seeds {within:.3f}"
        lines.append(f"{epochs:.0f} epochs: quartiles {quantiles}; {deviations}")
    return "\n".join(lines)


def main() -> None:
    """Train the missing networks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--limit", type=int, help="largest number of trainings of this run")
    parser.add_argument("--csv", type=Path, default=ROWS)
    options = parser.parse_args()
    networks, invalid = enumerated(TASK)
    file = Rows(options.csv, COLUMNS)
    table = pd.read_csv(options.csv)
    if table.empty:
        file.append(invalid)
    done = set(table[[*OPTIONS, "seed"]].itertuples(index=False, name=None))
    left = [(n, repeat) for n, repeat in trainings(networks) if (*n.choices[0].values(), repeat) not in done]
    left = left[: options.limit]
    started = time.monotonic()
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as workers:
        futures = [workers.submit(train, *each) for each in left]
        for count, future in enumerate(as_completed(futures), start=1):
            file.append(future.result())
            rest = (time.monotonic() - started) / count * (len(left) - count)
            print(f"{count} of {len(left)} trainings; {rest / 60:.0f} min left", flush=True)
    print(summary(pd.read_csv(options.csv)))


if __name__ == "__main__":
    main()
