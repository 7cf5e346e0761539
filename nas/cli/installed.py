"""Commands that list installed plug-ins: spaces and data."""

from __future__ import annotations

from nas.cli.app import app


@app.command()
def spaces() -> None:
    """List the installed search spaces."""
    _list("nas.search_spaces")
    print(f"{'file.py:NAME':24} Your own: a class with a method architecture(choose, task, *, points).")


@app.command()
def data() -> None:
    """List the forms of data specifications."""
    from evaluators.data.loading import FORMS

    _list("nas.data")
    for form, text in FORMS.items():
        print(f"{form:24} {text}")


def _list(group: str) -> None:
    from nas.plugins import describe

    for name, text in describe(group).items():
        print(f"{name:24} {text}")
