"""A worker process: reads jobs as lines of JSON, trains, writes what happens as lines of JSON.

Started by :mod:`nas.runner` as ``python -m nas.worker``, so it imports nothing of the program that searches. Standard
output carries the protocol alone: what plug-ins print goes to standard error. When the driver dies, standard input
ends, and so does the worker, at once.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import traceback
from typing import Any


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

    from nas.evaluation import Job
    from nas.plugins import load_plugin

    evaluator = None
    while True:
        job = Job(**json.loads(lines.get()))
        try:
            if evaluator is None:
                evaluator = load_plugin("nas.evaluators", made["evaluator"])(made["data"], **made["settings"])
            outcome = evaluator.evaluate(job, lambda epoch: tell(epoch=epoch))
            tell(outcome=outcome.to_json())
        except Exception as error:  # whatever a plug-in raises is the candidate's failure, with its traceback
            tell(
                failure=f"{type(error).__name__}: {error}", kind=type(error).__name__, traceback=traceback.format_exc()
            )


def _read(lines: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
