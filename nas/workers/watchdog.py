"""A watchdog over the processes of a worker: it kills all of them when the driver dies.

It is a process of its own, because a thread of the worker cannot run while a plug-in holds the interpreter lock. It
belongs to the worker's process group, so it ends with the group.
"""

from __future__ import annotations

import os
import select
import signal


def start_watchdog(pipe: int) -> None:
    """Start a process that kills this process group as soon as nobody can write to a pipe any more.

    Parameters
    ----------
    pipe
        File descriptor of the reading end. Nothing is read from it.

    Notes
    -----
    To be called by the leader of the group, before it starts a thread. Child processes of plug-ins are in the group
    too, unless they leave it. The watchdog is no child of the caller, so plug-ins that wait for all of their children
    do not wait for it.
    """
    if os.getpgrp() != os.getpid():
        return
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    elif os.fork():
        os._exit(0)
    else:
        _watch(pipe)


def _watch(pipe: int) -> None:
    """Wait until the pipe is closed at its other end, then kill the group, this process included."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        _close_files(keep=pipe)
        closed = select.poll()
        closed.register(pipe, 0)  # no events but the closing of the other end
        closed.poll()
        os.killpg(0, signal.SIGKILL)
    finally:
        os._exit(0)


def _close_files(*, keep: int) -> None:
    """Close all files but one: the output of the worker must end when the worker dies."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in {0, 1, 2} - {keep}:
        os.dup2(nothing, standard)
    os.closerange(3, keep)
    os.closerange(max(3, keep + 1), 256)
