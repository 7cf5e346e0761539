"""A worker process: reads jobs as lines of JSON, runs them, and writes events as lines of JSON.

:mod:`nas.workers.local` starts it as ``python -m nas.workers.worker``, so it imports nothing of the program that
searches. Standard output carries only the protocol; text that plug-ins print goes to standard error. When the driver
dies, standard input ends; the worker then stops at once, with all its child processes.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.evaluation.evaluator import Evaluator


def main() -> None:
    """Serve jobs until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver stops the workers
    protocol = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    greeting = json.loads(lines.get())

    def send(**message: Any) -> None:
        protocol.write(json.dumps(message) + "\n")

    from nas.errors import EnvironmentFault
    from nas.evaluation.data_identity import DataIdentity, checked_evaluator
    from nas.evaluation.jobs import Diverged, Job
    from nas.evaluation.loading import load_evaluator
    from nas.workers.outcome_checks import checked_outcome

    def load() -> Evaluator:
        return load_evaluator(greeting["evaluator"], greeting["data"], greeting["settings"])

    identity = DataIdentity(**greeting["identity"]) if greeting["identity"] else None
    evaluator = None
    while True:
        job = Job(**json.loads(lines.get()))
        try:
            if evaluator is None:
                evaluator = checked_evaluator(load, greeting["data"], identity)[0] if identity else load()
            outcome = evaluator.evaluate(job, lambda epoch: send(epoch=int(epoch)))
            send(outcome=checked_outcome(job, outcome, evaluator.measures).to_json())
        except BaseException as error:  # any exception of a plug-in fails the candidate
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            send(
                failure=reason,
                diverged=isinstance(error, Diverged),
                environment=str(error) if isinstance(error, EnvironmentFault) else None,
                traceback=traceback.format_exc(),
            )


def _read(lines: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    main()
