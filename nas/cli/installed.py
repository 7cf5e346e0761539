"""Commands on plug-ins: spaces, data, trust."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.app import app


@app.command()
def spaces() -> None:
    """List the installed search spaces."""
    from nas.plugins import describe

    _print(describe("nas.search_spaces"))
    print(f"{'file.py:NAME':24} Your own: a class with a method architecture(choose, task, *, points).")


@app.command()
def data() -> None:
    """List the forms of data specifications."""
    from evaluators.data.loading import forms

    _print(forms())


@app.command()
def trust(
    files: Annotated[list[Path], typer.Argument(help="Python files of plug-ins, also as file.py:Name.")],
) -> None:
    """Consent to run plug-ins from files that a store or a network of somebody else names."""
    from nas.plugins import trust as trust_files

    trust_files(*files)


def _print(descriptions: dict[str, str]) -> None:
    for name, text in descriptions.items():
        print(f"{name:24} {text}")
