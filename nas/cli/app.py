"""The program ``nas``: its exit statuses and shared options.

Exit status 0 on success, 2 on a user's mistake or a fault of the environment, with one clear line; after a stop by a
signal 128 + its number: 130 by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from nas.config import STORE

if TYPE_CHECKING:
    import results
    from results.reading.stores import Stores as SeveralStores

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Store = Annotated[
    str, typer.Option("--store", help="Results store: path or URL (sqlite, postgresql).", envvar="NAS_STORE")
]
Stores = Annotated[
    list[str] | None,
    typer.Option(
        "--store",
        help="Results store: path or URL (sqlite, postgresql). May be repeated: the studies of these names in all "
        f"of the stores. Default: the environment variable NAS_STORE, or {STORE}.",
    ),
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


def opened(stores: list[str] | None) -> results.Store | SeveralStores:
    """The stores of the option ``--store``, read as one."""
    import results

    first, *more = stores or [os.environ.get("NAS_STORE") or STORE]
    return results.open(first, *more) if more else results.open(first)


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Neural architecture search for anytime networks: one set of weights, several operating points."""
