"""A worker process: reads jobs as lines of JSON, trains, writes what happens as lines of JSON.

Started by :mod:`nas.workers.local` as ``python -m nas.workers.worker``, so it imports nothing of the program that
searches. Standard output carries the protocol alone: what plug-ins print goes to standard error. When the driver dies,
standard input ends, and so does the worker, at once, with all processes that it started.
"""

from __future__ import annotations

import json
import math
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.evaluation.jobs import Job, Outcome
    from results.measures import Measure


def main() -> None:
    """Serve jobs until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides when we stop
    protocol = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    made = json.loads(lines.get())

    def tell(**message: Any) -> None:
        protocol.write(json.dumps(message) + "\n")

    from nas.evaluation.jobs import Diverged, Job
    from nas.plugins import load_plugin

    evaluator = None
    while True:
        job = Job(**json.loads(lines.get()))
        try:
            if evaluator is None:
                evaluator = load_plugin("nas.evaluators", made["evaluator"])(made["data"], **made["settings"])
            outcome = evaluator.evaluate(job, lambda epoch: tell(epoch=int(epoch)))
            tell(outcome=checked(job, outcome, evaluator.measures).to_json())
        except BaseException as error:  # whatever a plug-in raises is the candidate's failure, with its traceback
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            tell(failure=reason, diverged=isinstance(error, Diverged), traceback=traceback.format_exc())


def checked(job: Job, outcome: Any, measures: Sequence[Measure]) -> Outcome:
    """What an evaluator returned, once it is known to be what the store can hold of this job.

    Raises TypeError or ValueError, which say what must hold.
    """
    from nas.evaluation.jobs import Outcome, architecture_of
    from nas.representation.architecture import Architecture

    if not isinstance(outcome, Outcome):
        raise TypeError(f"An evaluator must return an Outcome. Got {type(outcome).__name__}.")
    proposed = architecture_of(job)
    levels = len(proposed.points)
    if outcome.realised is not None:
        realised = Architecture.from_json(outcome.realised)
        if realised.task != proposed.task or len(realised.points) != levels:
            raise ValueError(f"A realised architecture must be for the same task, with the same {levels} points.")
    points: Any = outcome.points
    if not (isinstance(points, list) and all(isinstance(point, dict) for point in points)):
        raise TypeError(f"Outcome.points must be a list of dicts. Got {points!s:.200}")
    if (found := [point.get("level") for point in points]) != list(range(levels)):
        raise ValueError(f"Outcome.points must be of the levels 0 to {levels - 1}, in order. Got levels {found}.")
    for point in outcome.points:
        _check_point(point, measures, test=job.test)
    if not (_whole(outcome.epochs) and _whole(outcome.images) and _real(outcome.seconds) and outcome.seconds >= 0):
        raise ValueError(
            "Outcome must tell whole epochs and images, and seconds. "
            f"Got {outcome.epochs!r}, {outcome.images!r} and {outcome.seconds!r}."
        )
    return outcome


def _check_point(point: dict[str, Any], measures: Sequence[Measure], *, test: bool) -> None:
    """Raise TypeError or ValueError unless a point holds the measures that its evaluator declares."""
    always = ["level", "macs", "params"]
    required = always + [m.name for m in measures if m.required and (test or not m.needs_test)]
    optional = [m.name for m in measures if m.name not in required]
    missing = [name for name in required if name not in point]
    unknown = [name for name in point if name not in (*required, *optional)]
    if missing or unknown:
        raise ValueError(
            f"A point must have {', '.join(required)}{', and may have ' * bool(optional)}{', '.join(optional)}, as the "
            f"evaluator's measures declare. Got unknown {unknown}, missing {missing}."
        )
    if not (_whole(point["macs"]) and _whole(point["params"]) and point["macs"] > 0 and point["params"] >= 0):
        raise ValueError(f"macs and params must be whole and positive. Got {point['macs']!r} and {point['params']!r}.")
    for measure in measures:
        if measure.name not in point:
            continue
        value = point[measure.name]
        if not _real(value):
            raise TypeError(f"{measure.name} must be a number. Got {value!s:.200}")
        if measure.unit == "fraction" and not (math.isnan(value) or 0 <= value <= 1):
            raise ValueError(f"{measure.name} must be a fraction between 0 and 1. Got {value}.")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read(lines: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    main()
