"""The program ``nas``: its exit statuses and shared options.

Exit status 0 on success, 2 on a user's mistake or a fault of the environment, with one clear line; after a stop by a
signal 128 + its number: 130 by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP.
"""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
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


def _print_version(wanted: bool) -> None:
    if wanted:
        import platform
        from importlib.metadata import version

        parts = ", ".join(f"{name} {version(name)}" for name in ("torch", "optuna", "ray", "pandas"))
        print(f"anytime-nas {version('anytime-nas')} (Python {platform.python_version()}, {parts})")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Neural architecture search for anytime networks: one set of weights, several operating points."""
