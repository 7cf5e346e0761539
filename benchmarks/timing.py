"""CPU times of alternatives, measured in turns because machines are shared."""

from __future__ import annotations

import time
from collections.abc import Callable


def best_times(ways: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """The minimum CPU time of each function, in ms, over at least three runs.

    After one warm-up run each, the functions take turns until the seconds are over.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for run in ways.values():
        run()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times[next(iter(ways))]) < 3:
        for name, run in ways.items():
            start = time.process_time()
            run()
            times[name].append(1e3 * (time.process_time() - start))
    return {name: min(runs) for name, runs in times.items()}
