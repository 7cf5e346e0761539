"""A worker process: reads jobs as lines of JSON, runs them, and writes events as lines of JSON.

:mod:`nas.workers.local` starts it as ``python -m nas.workers.worker``, so it imports nothing of the program that
searches. Standard input and output carry only the protocol; text that plug-ins print goes to standard error, and they
read nothing. When the driver dies, a watchdog kills the worker with all its child processes.
"""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

from nas.workers.watchdog import start_watchdog

if TYPE_CHECKING:
    from nas.evaluation.evaluator import Evaluator


def main() -> None:
    """Serve jobs until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver stops the workers
    start_watchdog(0)
    orders, events = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)

    def send(**message: Any) -> None:
        events.write(json.dumps(message) + "\n")

    from nas.evaluation.data_identity import DataIdentity, checked_evaluator
    from nas.evaluation.faults import fault_of
    from nas.evaluation.jobs import Job
    from nas.evaluation.loading import load_evaluator
    from nas.workers.outcome_checks import checked_outcome

    greeting = json.loads(orders.readline())

    def load() -> Evaluator:
        return load_evaluator(greeting["evaluator"], greeting["data"], greeting["settings"])

    identity = DataIdentity(**greeting["identity"]) if greeting["identity"] else None
    try:
        evaluator = checked_evaluator(load, greeting["data"], identity)[0] if identity else load()
    except BaseException as error:  # a plug-in may raise anything
        send(fault=fault_of(error, opening=True).to_json())
        return
    send(opened=True)
    for line in orders:
        job = Job(**json.loads(line))
        try:
            outcome = evaluator.evaluate(job, lambda epoch: send(epoch=int(epoch)))
            send(outcome=checked_outcome(job, outcome, evaluator.measures).to_json())
        except BaseException as error:
            send(fault=fault_of(error).to_json())


if __name__ == "__main__":
    main()
