"""The command line `nas`: one module for each group of commands, and the entry point of the program."""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Entry point of the program ``nas``: run the command of the arguments, and exit with its status."""
    from nas.cli.stopping import Stop

    stop = Stop()
    stop.install()  # before imports that take long
    try:
        from nas.cli.commands import run

        status = run()
    except BaseException:
        if not stop.requested:
            raise
        status = 0  # whatever a signal interrupts may raise another exception
    if stop.requested:
        status = stop.report()
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():  # of a lost cluster, for whose end Ray would wait and then crash
        sys.stdout.flush()
        os._exit(status)
    sys.exit(status)
