"""Commands on plug-ins: spaces, references, data, trust."""

from __future__ import annotations

import math
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
def references(
    spaces: Annotated[
        list[str] | None, typer.Argument(help="Search spaces: names or file.py:Name.", show_default="all installed")
    ] = None,
    data: Annotated[str, typer.Option(help="Data that the networks are for, see `nas data`.")] = "digits",
    max_macs: Annotated[
        float | None, typer.Option(help="Upper limit on the MACs of the largest operating point.")
    ] = None,
    points: Annotated[int, typer.Option(help="Operating points per network.", min=1)] = 4,
) -> None:
    """List the reference architectures of search spaces: known good designs, in several sizes."""
    from evaluators.data.loading import load
    from nas.errors import UserError
    from nas.plugins import installed, trust_named
    from nas.spaces.loading import load_spaces
    from nas.spaces.references import built_references

    if max_macs is not None and not max_macs > 0:
        raise UserError(f"max_macs must be positive. Got {max_macs}.")
    task = load(data).task
    trust_named(*(spaces or ()))
    lines = []
    for name, space in load_spaces(spaces or sorted(installed("nas.search_spaces")), {}).items():
        try:
            built = built_references(space, task, max_macs or math.inf, points=points)
        except UserError as error:
            if spaces:
                raise
            print(f"{name}: {error}")
            continue
        for one in built:
            macs = ", ".join(f"{cost / 1e6:.3g}" for cost in one.architecture.costs)
            reference, training = one.reference, one.architecture.training
            lines.append((name, reference.name, f"{macs} M MACs", training.rule, reference.origin))
    if not lines:
        print("No references. Spaces name them in a method references(task, max_macs, *, points).")
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(line, widths)).rstrip())


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
