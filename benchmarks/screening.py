"""Throughput of screening on one core: propose, build, deduplicate, exact costs, constraints, score, order.

Uses the functions of a search (`nas.screening.pool`, `Shortlist`). Prints candidates per second of CPU time (machines
are shared) and of wall-clock time, the time of each step, and peak memory by size of the pool; writes raw rows to
rows/screening.csv.

    python benchmarks/screening.py [--pool 4000] [--repeats 3]
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd

from nas.config import Config
from nas.funnel.ranking import Entry, Shortlist
from nas.plugins import load_plugin
from nas.representation.architecture import macs
from nas.representation.elements import Task
from nas.screening.pool import pool
from nas.screening.proposals import Proposal
from nas.screening.screener import Screener, screener_of
from nas.spaces.choices import Domains, Recorder, at_random
from nas.spaces.loading import load_spaces

TASKS = {
    "28x28x1": Task(input_shape=(1, 28, 28), num_classes=10),
    "32x32x3": Task(input_shape=(3, 32, 32), num_classes=10),
}
CAPACITY = 36  # shortlist of a generation of nine


def screener(space: str, task: Task) -> Screener:
    """The screener of a study of one space with a limit that more than half of its proposals meet."""
    config = Config(spaces=(space,), max_macs=10e6)
    return screener_of(config, task, load_spaces(config.spaces, {}))


def screen(space: str, task: Task, strategy: str, size: int, seed: int) -> dict[str, float]:
    """Screen one generation: seconds, number of proposals and number of feasible proposals."""
    screening = screener(space, task)
    proposer = load_plugin("nas.strategies", strategy)(seed=seed, history=())
    shortlist: Shortlist[Proposal] = Shortlist(capacity=CAPACITY)
    wall, cpu = time.perf_counter(), time.process_time()
    count = feasible = 0
    for proposal in pool(screening, proposer, size, known=set(), history=(), rng=np.random.default_rng(seed)):
        count += 1
        if isinstance(proposal, Proposal):
            feasible += 1
            shortlist.extend([Entry(key=proposal.key, score=proposal.score, macs=proposal.macs[-1], payload=proposal)])
    shortlist.ordered()
    return {
        "proposals": count,
        "feasible": feasible,
        "cpu_seconds": time.process_time() - cpu,
        "wall_seconds": time.perf_counter() - wall,
    }


def steps(space: str, task: Task, count: int) -> dict[str, float]:
    """CPU time of each step per proposal in microseconds; the steps run in sequence over the same proposals."""
    screening = screener(space, task)
    decide, domains = at_random(np.random.default_rng(0)), Domains()
    spent = {}
    start = time.process_time()
    architectures = [
        screening.spaces[space].architecture(Recorder(decide, domains), task, points=4) for _ in range(count)
    ]
    spent["choose and build"] = time.process_time() - start
    for name, step in (("costs", macs), ("key", lambda a: a.key), ("dtmc score", screening.proxy)):
        start = time.process_time()
        for architecture in architectures:
            step(architecture)
        spent[name] = time.process_time() - start
    return {name: seconds / count * 1e6 for name, seconds in spent.items()}


def peak_memory(space: str, task: Task, pool: int) -> float:
    """Peak of Python's memory during the screening of a pool, in MiB."""
    tracemalloc.start()
    screen(space, task, "random", pool, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pool", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rows = []
    for space in ("residual", "mobile"):
        for name, task in TASKS.items():
            screen(space, task, "random", 200, 99)  # warm up: imports, caches
            for repeat in range(options.repeats):
                measured = screen(space, task, "random", options.pool, repeat)
                rows.append({"space": space, "task": name, "repeat": repeat, **measured})
    frame = pd.DataFrame(rows)
    frame["per_cpu_second"] = frame.proposals / frame.cpu_seconds
    frame["per_wall_second"] = frame.proposals / frame.wall_seconds
    print(f"Screening with the random strategy, pools of {options.pool}, --max-macs 10e6:")
    columns = ["proposals", "feasible", "per_cpu_second", "per_wall_second"]
    print(frame.groupby(["space", "task"])[columns].median().round(0).astype(int).to_string())
    print("\nMicroseconds of CPU per proposal and step (28x28x1):")
    table = pd.DataFrame({space: steps(space, TASKS["28x28x1"], 1000) for space in ("residual", "mobile")})
    print(table.round(0).astype(int).T.to_string())
    pools = (500, 2000, 8000)
    memory = {pool: peak_memory("residual", TASKS["28x28x1"], pool) for pool in pools}
    print("\nPeak memory, MiB, by pool: " + ", ".join(f"{pool:,}: {mib:.1f}" for pool, mib in memory.items()))
    folder = Path(__file__).parent / "rows"
    folder.mkdir(exist_ok=True)
    extra = pd.DataFrame(
        [{"space": "residual", "task": "28x28x1", "pool": p, "peak_mib": m} for p, m in memory.items()]
    )
    pd.concat([frame, extra]).to_csv(folder / "screening.csv", index=False)


if __name__ == "__main__":
    main()
