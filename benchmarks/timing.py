"""CPU time of alternatives side by side, as machines are shared."""

from __future__ import annotations

import time
from collections.abc import Callable


def best_times(ways: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """The least CPU time of each way, in ms: after a run each that does not count, they take turns for so many seconds,
    three times at least.
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
    return {name: min(found) for name, found in times.items()}
