"""Cost of reading and of searching a large store: does it grow with the answer, or with the store?

Builds SQLite stores of one study with 1,000, 10,000 and 100,000 trained candidates of four operating points each, by
direct insertion in batches, and one of 100 for comparison. Runs each query and command in a process of its own. Prints
seconds and peak memory above the same run on the store of 100 candidates, with the rows of the answer; writes raw rows
to rows/store_scale.csv. Seconds of CPU are printed, because machines are shared; the rows hold wall-clock time too.

    python benchmarks/store_scale.py [--candidates 1000 10000 100000] [--repeats 3]
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

import results
from nas.config import Config
from nas.evaluation.evaluator import DataInfo
from nas.funnel.generation import GenerationProposer
from nas.funnel.records import Records
from nas.funnel.state import StateKeeper, StudyState
from nas.representation.elements import Task
from nas.screening.proposals import Proposal
from nas.screening.screener import screener_of
from nas.spaces.choices import at_random
from nas.spaces.loading import load_spaces
from nas.strategies.random import Random
from results import connection, schema
from results.front import Score

STUDY = "scale"
SMALLEST = 100  # candidates of the store that others are compared with
BATCH = 5_000  # candidates inserted at once
PER_GENERATION = 1_000
TASK = Task(input_shape=(1, 8, 8), num_classes=10)
SCORE = Score(low=1e5, high=1e7, floor=0.1)
INFO = DataInfo(
    name="none", task=TASK, floor=0.1, train_images=1_000, validation_images=100, test_images=100, fingerprint="none"
)

READ = "import results; store = results.open({url!r}); answer = {call}"
COMMAND = "from nas.cli import main; import sys; sys.argv = ['nas', *{arguments!r}]; answer = None; main()"
SEARCH = "from store_scale import propose; answer = propose({url!r}, {generation}, {count})"
MEASURED = """
import sys, time
start, cpu = time.perf_counter(), time.process_time()
try:
    exec({code!r})
except SystemExit as ended:
    assert not ended.code
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
peak = int(status["VmHWM"].split()[0]) / 1024  # of this program; getrusage includes the parent's before exec
rows = -1 if answer is None else len(answer)
print(time.perf_counter() - start, time.process_time() - cpu, peak, rows, file=sys.stderr)
"""


def runs(url: str, key: str, candidates: int, figure: str) -> dict[str, str]:
    """Name → code of everything that is measured. Queries leave their rows as ``answer``, commands print theirs."""
    reading = {
        "front": f"store.front({STUDY!r})",
        "points": f"store.points({STUDY!r})",
        "candidates": f"store.candidates({STUDY!r})",
        "evaluations": f"store.evaluations({STUDY!r})",
        "two columns": f"store.candidates({STUDY!r}, columns=['key', 'anytime_accuracy'])",
        "curves": f"store.curves({STUDY!r}).rows",
    }
    commands = {
        "nas status": ["status"],
        "nas status STUDY": ["status", STUDY],
        "nas show KEY": ["show", key],
        "nas front": ["front", STUDY],
        "nas front --plot": ["front", STUDY, "--plot", figure],
    }
    first = _generations(candidates)
    search = {f"start and propose {n}": SEARCH.format(url=url, generation=first, count=n) for n in (0, 1, 2)}
    return (
        {name: READ.format(url=url, call=call) for name, call in reading.items()}
        | {name: COMMAND.format(arguments=[*words, "--store", url]) for name, words in commands.items()}
        | search
    )


def propose(url: str, generation: int, count: int) -> range:
    """Start the search of a store and propose generations; they are removed again."""
    store = results.open(url)
    settings = store.settings(STUDY)
    config = Config.from_stored(STUDY, settings)
    with store.writer(STUDY, settings) as writer:
        records, keeper = Records(config, writer, INFO, SCORE), StateKeeper(writer)
        screener = screener_of(config, TASK, load_spaces(config.spaces, {}))
        screener.domains = keeper.domains
        proposer = GenerationProposer(config, records, keeper, screener, Random)
        proposed = range(generation, generation + count)
        for number in proposed:
            proposer.propose(number, math.inf)
        for number in proposed:
            records.drop_generation(number)
        writer.finish()
    return proposed


def _generations(candidates: int) -> int:
    return -(-candidates // PER_GENERATION)


def build(path: Path, candidates: int) -> str:
    """Make a store; returns the key of one candidate."""
    screener = screener_of(Config(), TASK, load_spaces(("residual",), {}))
    rng = np.random.default_rng(0)
    drawn = (screener.propose(at_random(rng)) for _ in itertools.count())
    proposals = list(itertools.islice((each for each in drawn if isinstance(each, Proposal)), 16))
    store = results.open(path)
    settings = Config(
        spaces=("residual",), proxy="macs", pool=20, epochs=9, images=10_000, final_epochs=20, strategy="random"
    ).stored()
    with store.writer(STUDY, settings | {"data_fingerprint": "none"}) as writer:
        writer.set_score(SCORE)
        state = StudyState(generations=_generations(candidates), domains=dict(screener.domains.options))
        writer.set_memo(state.to_json())
        writer.finish()
    with connection.engine(connection.locate(str(path)), writing=True).begin() as opened:
        for start in range(1, candidates + 1, BATCH):
            _insert(opened, proposals, range(start, min(start + BATCH, candidates + 1)), rng)
    return _key(candidates)


def _key(number: int) -> str:
    return f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}"


def _insert(opened: sa.Connection, proposals: list[Proposal], ids: range, rng: np.random.Generator) -> None:
    """Candidates with a training each; their architectures are copies of a few real ones."""
    macs = np.sort(rng.integers(1e5, 1e7, (len(ids), 4)), axis=1)
    accuracy = np.sort(rng.uniform(0.1, 0.9, (len(ids), 4)).round(3), axis=1)
    data = [proposal.architecture.to_json() for proposal in proposals]
    tables: dict[sa.Table, list[dict[str, Any]]] = {
        schema.candidates: [],
        schema.evaluations: [],
        schema.points: [],
    }
    for row, number in enumerate(ids):
        training = {"candidate_id": number, "fidelity": 9.0, "repeat": 0}
        tables[schema.candidates].append(
            {
                "id": number,
                "study_id": 1,
                "key": _key(number),
                "space": "residual",
                "generation": (number - 1) // PER_GENERATION,
                "position": (number - 1) % PER_GENERATION,
                "control": number % 10 == 9,
                "status": "finished" if number % 3 else "stopped",
                "attempts": 0,
                "reason": f"Place {number % PER_GENERATION} of {PER_GENERATION}.",
                "proxies": {"macs": float(macs[row, -1])},
                "choices": dict(proposals[number % len(proposals)].choices),
                "architecture": data[number % len(proposals)],
            }
        )
        points = [
            training | {"level": level, "macs": int(cost), "params": int(cost) // 100, "nonzero_macs": int(cost)}
            | {"accuracy": float(value), "loss": 1 - float(value)}
            for level, (cost, value) in enumerate(zip(macs[row], accuracy[row]))
        ]  # fmt: skip
        spent = {"epochs": 9.0, "images": 9_000, "seconds": 2.5}
        score = SCORE(macs[row], accuracy[row])
        tables[schema.evaluations].append(training | spent | {"realised_key": _key(number), "score": score})
        tables[schema.points] += points
    for table, rows in tables.items():
        opened.execute(sa.insert(table), rows)


def measure(code: str) -> dict[str, float]:
    """Run code in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED.format(code=code)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, cpu, peak, rows = map(float, done.stderr.split()[-4:])
    lines = len(done.stdout.splitlines())  # the answer of a command
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_mib": peak, "rows": lines if rows < 0 else rows}


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """CPU seconds and peak memory above the smallest store, and rows of the answer, by run and number of candidates."""
    best = frame.groupby(["run", "candidates"], sort=False)[["cpu_seconds", "peak_mib", "rows"]].min()
    above = best[["cpu_seconds", "peak_mib"]] - best.xs(SMALLEST, level="candidates")[["cpu_seconds", "peak_mib"]]
    wide = above.assign(rows=best.rows).drop(SMALLEST, level="candidates").unstack("candidates")
    return wide.reindex(frame.run.unique())


def main() -> None:
    """Build, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--csv", default=str(Path(__file__).parent / "rows" / "store_scale.csv"))
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        sizes = [SMALLEST, *options.candidates]
        keys = {size: build(Path(folder, f"{size}.db"), size) for size in sizes}
        for size, _ in itertools.product(sizes, range(options.repeats)):
            figure = str(Path(folder, "front.png"))
            for name, code in runs(str(Path(folder, f"{size}.db")), keys[size], size, figure).items():
                rows.append({"run": name, "candidates": size} | measure(code))
    frame = pd.DataFrame(rows)
    shown = table(frame)
    print(f"Above the store of {SMALLEST} candidates: seconds of CPU and peak memory in MiB; rows of the answer.")
    print(shown.round({column: 2 if column[0] == "cpu_seconds" else 0 for column in shown}).to_string())
    Path(options.csv).parent.mkdir(exist_ok=True)
    frame.to_csv(options.csv, index=False)


if __name__ == "__main__":
    main()
