"""Commands that print tables of studies: their candidates, points, trainings and progress, and studies side by side."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.app import Stores, app, opened
from nas.cli.output import AsJson, Csv, Parquet, emit
from nas.errors import UserError
from results.measures import COSTS


class Table(StrEnum):
    """Tables of a study; names of methods of the store."""

    CANDIDATES = "candidates"
    POINTS = "points"
    EVALUATIONS = "evaluations"
    HISTORY = "history"
    POLICIES = "policies"


Over = StrEnum("Over", ("evaluations", "time", "work"))


@app.command()
def table(
    name: Annotated[Table, typer.Argument(help="The table.")],
    study: Annotated[list[str], typer.Argument(help="One or more studies; one for candidates.")],
    choices: Annotated[
        bool, typer.Option("--choices", help="One column for each choice of the candidates, to group by.")
    ] = False,
    csv: Csv = None,
    parquet: Parquet = None,
    as_json: AsJson = False,
    store: Stores = None,
) -> None:
    """Print a table of studies: candidates, points, evaluations, history or policies."""
    from nas.reporting.console import table_text
    from results.reading.stores import Stores as SeveralStores

    read = opened(store)
    if choices and name is not Table.CANDIDATES:
        raise UserError(f"--choices is for the table candidates. Got the table {name.value}.")
    if name is Table.CANDIDATES:
        if len(study) > 1:
            raise UserError(f"The candidates of one study are printed at a time. Got {', '.join(study)}.")
        if isinstance(read, SeveralStores):
            raise UserError("The candidates of one store are printed at a time. Got several of --store.")
        frame = read.candidates(study[0], choices=choices)
    else:
        frame = getattr(read, name.value)(study)
    emit(frame, lambda: table_text(frame), csv=csv, parquet=parquet, as_json=as_json)


@app.command()
def compare(
    study: Annotated[list[str], typer.Argument(help="Two or more studies of the same data.")],
    cost: Annotated[str, typer.Option(help=f"{', '.join(COSTS)} or a minimised measure of the evaluator.")] = COSTS[0],
    low: Annotated[float | None, typer.Option(help="Least budget. Default: the largest of the studies.")] = None,
    high: Annotated[float | None, typer.Option(help="Largest budget. Default: the smallest of the studies.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the best anytime accuracy so far: .png, .svg or .pdf.")
    ] = None,
    over: Annotated[
        Over, typer.Option(help="Horizontal axis of the plot; work: training time summed over workers.")
    ] = Over.evaluations,
    csv: Csv = None,
    parquet: Parquet = None,
    as_json: AsJson = False,
    store: Stores = None,
) -> None:
    """Compare studies: anytime accuracy on one range of budgets, the best network, and the time spent."""
    from nas.reporting.console import compare_text

    read = opened(store)
    frame = read.compare(study, cost=cost, low=low, high=high)
    if plot is not None:
        read.plot_history(study, plot, over=over.value)
    emit(frame, lambda: compare_text(frame, cost), csv=csv, parquet=parquet, as_json=as_json)
