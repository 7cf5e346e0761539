"""Commands on plug-ins: spaces, references, data, trust."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.app import app
from nas.cli.output import AsJson, Csv, Parquet, emit


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
    csv: Csv = None,
    parquet: Parquet = None,
    as_json: AsJson = False,
) -> None:
    """List the reference architectures of search spaces: known good designs, in several sizes."""
    import pandas as pd

    from evaluators.data.loading import load
    from nas.errors import UserError
    from nas.plugins import installed, trust_named
    from nas.spaces.loading import load_spaces
    from nas.spaces.references import built_references

    if max_macs is not None and not max_macs > 0:
        raise UserError(f"max_macs must be positive. Got {max_macs}.")
    task = load(data).task
    trust_named(*(spaces or ()))
    rows = []
    for name, space in load_spaces(spaces or sorted(installed("nas.search_spaces")), {}).items():
        try:
            built = built_references(space, task, max_macs or math.inf, points=points)
        except UserError as error:
            if spaces:
                raise
            print(f"{name}: {error}", file=sys.stderr if as_json else sys.stdout)
            continue
        for one in built:
            reference, training = one.reference, one.architecture.training
            rows.append((name, reference.name, list(one.architecture.costs), training.rule, reference.origin))
    frame = pd.DataFrame(rows, columns=["space", "reference", "macs", "rule", "origin"])
    emit(frame, lambda: _references_text(rows), csv=csv, parquet=parquet, as_json=as_json)


def _references_text(rows: Sequence[tuple[str, str, Sequence[int], str, str]]) -> str:
    """References as aligned lines: space, name, MACs of the points, rule of training, origin."""
    if not rows:
        return "No references. Spaces name them in a method references(task, max_macs, *, points)."
    lines = [
        (space, name, ", ".join(f"{cost / 1e6:.3g}" for cost in macs) + " M MACs", *further)
        for space, name, macs, *further in rows
    ]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(f"{cell:{width}}" for cell, width in zip(line, widths)).rstrip() for line in lines)


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
