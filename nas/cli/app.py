"""The program ``nas``: its exit statuses and shared options.

Exit status 0 on success, 2 on a user's mistake or a fault of the environment, with one clear line; after a stop by a
signal 128 + its number: 130 by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP.
"""

from __future__ import annotations

from typing import Annotated

import typer

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
Study = Annotated[
    str | None, typer.Option("--study", help="Study of the key; needed if several studies have this key.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the result.")]
