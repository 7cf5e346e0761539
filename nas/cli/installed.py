"""Commands that list installed plug-ins: spaces and data."""

from __future__ import annotations

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


def _print(descriptions: dict[str, str]) -> None:
    for name, text in descriptions.items():
        print(f"{name:24} {text}")
