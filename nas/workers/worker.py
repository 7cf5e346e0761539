"""A worker process: reads jobs as lines of JSON, runs them, and writes events as lines of JSON.

:mod:`nas.workers.local` starts it as ``python -m nas.workers.worker``, so it imports nothing of the program that
searches. Standard input and output carry only the protocol; text that plug-ins print goes to standard error, and they
read nothing. When the driver dies, a watchdog kills the worker with all its child processes.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any

from nas.workers.watchdog import start_watchdog


def main() -> None:
    """Serve jobs until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver stops the workers
    start_watchdog(0)
    orders, events = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)

    def send(message: dict[str, Any]) -> None:
        events.write(json.dumps(message) + "\n")

    from nas.evaluation.jobs import Job
    from nas.workers.session import EvaluatorCall, opened_evaluator, run_job

    evaluator = opened_evaluator(EvaluatorCall.from_json(json.loads(orders.readline())), send)
    if evaluator is not None:
        for line in orders:
            run_job(evaluator, Job(**json.loads(line)), send)


if __name__ == "__main__":
    main()
