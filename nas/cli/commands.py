"""All commands, and running one: a user's mistake is one line and exit status 2."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import typer

# in the order of `nas --help`
# isort: off
from nas.cli import search, results, tables, deploy, installed  # noqa: F401
from nas.cli.app import app

# isort: on
from nas.errors import UserError
from results.errors import StoreError


def run() -> int:
    """Run the command of the arguments. Returns the exit status."""
    wrong_usage: Any = typer.BadParameter.__base__  # whatever is wrong with the options; typer exports no name for it
    _open_standard_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every terminal knows × and τ
    try:
        status = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except (UserError, StoreError, OSError) as error:
        status = _mistake(str(error))
    except typer.Abort:
        status = _mistake("Not confirmed. Nothing was deleted.")
    except wrong_usage as error:
        status = _mistake(error.format_message())
    return status or 0


def _open_standard_streams() -> None:
    """Replace standard streams that are closed: a file that is opened later must not get their numbers."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - open as long as the process


def _mistake(text: str) -> int:
    print(f"nas: {' '.join(text.split())}", file=sys.stderr)
    return 2
