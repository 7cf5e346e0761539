"""The program ``nas``: its entry point, exit statuses and shared options.

Exit status 0 on success, 2 on a user's mistake or a fault of the environment, with one clear line; after a stop by a
signal 128 + its number: 130 by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated, Any

import typer

from nas.errors import UserError

app = typer.Typer(
    help="Neural architecture search for anytime networks: one set of weights, several operating points.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Store = Annotated[
    str, typer.Option("--store", help="Results store: path or URL (sqlite, postgresql).", envvar="NAS_STORE")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the result.")]


def main() -> None:
    """Entry point of the program ``nas``: a user's mistake is one line and exit status 2."""
    from results import StoreError

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
    sys.exit(status)


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
