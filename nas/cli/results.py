"""Commands that read the store: status, front, show, report; and merge, prune and delete."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.app import Quiet, Store, Stores, Study, app, opened
from nas.cli.output import AsJson, Csv, Parquet, emit
from nas.cli.stopping import on_stop
from nas.config import STORE
from nas.errors import UserError
from results.measures import COSTS
from results.text import json_data


@app.command()
def status(
    study: Annotated[str | None, typer.Argument(help="Name of a study. Default: list all.")] = None,
    csv: Csv = None,
    parquet: Parquet = None,
    as_json: AsJson = False,
    store: Store = STORE,
) -> None:
    """List the studies in the store, or show the progress of one."""
    import results
    from nas.reporting.console import status_data, studies_table, study_status
    from nas.study import Study

    if study is None:
        frame = results.open(store).studies()
        emit(frame, lambda: studies_table(frame), csv=csv, parquet=parquet, as_json=as_json)
        return
    if csv or parquet:
        raise UserError(f"--csv and --parquet are for the list of studies. Got the study {study!r}: print --json.")
    found = Study(study, store=store)
    print(json.dumps(json_data(status_data(found)), indent=1, allow_nan=False) if as_json else study_status(found))


@app.command()
def front(
    study: Annotated[list[str], typer.Argument(help="One or more studies.")],
    csv: Csv = None,
    parquet: Parquet = None,
    as_json: AsJson = False,
    plot: Annotated[Path | None, typer.Option(help="Draw front and candidates: .png, .svg or .pdf.")] = None,
    cost: Annotated[str, typer.Option(help=f"{', '.join(COSTS)} or a minimised measure of the evaluator.")] = COSTS[0],
    max_macs: Annotated[float | None, typer.Option(help="Keep points with at most this number of MACs.")] = None,
    max_params: Annotated[
        float | None, typer.Option(help="Keep points with at most this number of parameters.")
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MEASURE=VALUE",
            help="Keep points with at most this value of a measure, or at least if it is maximised; may be repeated.",
        ),
    ] = None,
    mixed: Annotated[
        bool, typer.Option("--mixed", help="Allow studies with different data or validation splits; adds a column.")
    ] = False,
    store: Stores = None,
) -> None:
    """Show the Pareto front of one or more studies, of one store or several: accuracy against cost."""
    from nas.reporting.console import front_table

    read = opened(store)
    limits = _limits(limit or ())
    frame = read.front(study, cost=cost, max_macs=max_macs, max_params=max_params, limits=limits, mixed=mixed)
    if plot is not None:
        bounds = {"max_macs": max_macs, "max_params": max_params, "limits": limits, "mixed": mixed}
        read.plot_front(study, plot, cost=cost, **bounds)
    emit(frame, lambda: front_table(frame), csv=csv, parquet=parquet, as_json=as_json)


def _limits(texts: Sequence[str]) -> dict[str, float]:
    """Measure → bound, from MEASURE=VALUE."""
    limits: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            limit = float(value)
        except ValueError as error:
            raise UserError(f"--limit must be MEASURE=VALUE, such as latency_ms=2.5. Got {text!r}.") from error
        if name in limits or math.isnan(limit):
            raise UserError(f"--limit must be given once for each measure, with a number. Got {text!r}.")
        limits[name] = limit
    return limits


@app.command()
def show(
    key: Annotated[str, typer.Argument(help="Key of a candidate or an unambiguous prefix.")],
    study: Study = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the architecture after training as JSON.")] = False,
    chain: Annotated[bool, typer.Option("--chain", help="Print the training chain as JSON.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the topology with its training chain: .png, .svg or .pdf.")
    ] = None,
    walk: Annotated[
        str | None,
        typer.Option(
            help="Chain that gives the operations in the drawing their colour: training, flow, paths or undirected. "
            "Default: the one of path sampling, else training."
        ),
    ] = None,
    store: Store = STORE,
) -> None:
    """Show one candidate: choices, results, topology, training chain."""
    import results
    from nas.reporting.console import candidate_text
    from nas.study import stored_architecture

    if as_json and chain:
        raise UserError("nas show prints one JSON document. Got --json and --chain: give one of them.")
    if walk is not None and plot is None:
        raise UserError(f"--walk colours a drawing. Got --walk {walk} without --plot: give a file.")
    opened = results.open(store)
    found = opened.find_candidate(key, study)
    if plot is not None:
        from nas.reporting.topology.plot import draw_topology

        draw_topology(stored_architecture(opened, found.realised), plot, walk=walk)
    if chain:
        from nas.chain.summary import training_summary

        print(json.dumps(training_summary(stored_architecture(opened, found.realised)).to_json(), indent=1))
    else:
        print(json.dumps(opened.architecture(found.realised), indent=1) if as_json else candidate_text(opened, found))


@app.command()
def report(
    study: Annotated[list[str], typer.Argument(help="One or more studies.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The file to write, in place of any other. Default: STUDY.html, replaced if it is a report."),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="Proxy to audit beside the study's proxy and the sizes: a name, file.py:Name or all; may be repeated. "
            "Default: all."
        ),
    ] = None,
    still: Annotated[bool, typer.Option("--still", help="Still pictures only, without scripts: 2 MB less.")] = False,
    store: Store = STORE,
    quiet: Quiet = False,
) -> None:
    """Write one HTML file: front, funnel, progress, proxy audit, topologies. Scores are computed once and kept."""
    from nas.progress import Live
    from nas.reporting.html_report import default_path, write_report
    from nas.study import Study

    names = list(dict.fromkeys(study))
    studies = [Study(name, store=store) for name in names]
    path = out or default_path(names)
    try:
        with Live(lines=not quiet) as progress:
            write_report(studies, path, proxies=proxy or ("all",), progress=progress, interactive=not still)
    except KeyboardInterrupt:
        print("\nStopped. No report was written; scores computed so far are kept.", file=sys.stderr)
        sys.exit(130)
    if not quiet:
        print(path)


@app.command()
def merge(
    other: Annotated[list[str], typer.Argument(help="One or more other stores: paths or URLs.")],
    study: Annotated[
        list[str] | None, typer.Option("--study", help="Merge only this study; may be repeated. Default: all.")
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(metavar="OLD=NEW", help="Give a study a new name in this store; may be repeated."),
    ] = None,
    store: Store = STORE,
) -> None:
    """Copy the studies of other stores into this one, with their trained networks."""
    import results
    from nas.reporting.console import merged_text

    on_stop(lambda: "Studies that were merged are complete; the same command continues.")
    results.open(store).merge(
        *other, study=study or None, rename=_renamed(rename or ()), done=lambda each: print(merged_text(each))
    )


def _renamed(texts: Sequence[str]) -> dict[str, str]:
    """Old name → new name, from OLD=NEW."""
    names: dict[str, str] = {}
    for text in texts:
        old, _, new = text.partition("=")
        if not old or not new or old in names:
            raise UserError(f"--rename must be OLD=NEW, once for each study. Got {text!r}.")
        names[old] = new
    return names


@app.command()
def prune(
    study: Annotated[str, typer.Argument(help="Name of the study.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: Store = STORE,
) -> None:
    """Delete trained networks and checkpoints off the front. All results stay."""
    import results

    opened = results.open(store)
    found = opened.prunable(study)
    kept = f"the front and the best candidate keep {_mebibytes(found.kept_size)}"
    if not found.keys:
        print(f"Nothing to delete: {kept}.")
        return
    print(f"Networks and checkpoints of {len(found.keys):,} other candidates: {_mebibytes(found.size)}; {kept}.")
    if not yes:
        typer.confirm("Delete them?", abort=True)
    print(f"Deleted {_mebibytes(opened.prune(study).size)}.")


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


@app.command()
def delete(
    study: Annotated[str, typer.Argument(help="Name of the study.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: Store = STORE,
) -> None:
    """Delete a study with its weights."""
    import results

    opened = results.open(store)
    opened.settings(study)
    if not yes:
        typer.confirm(f"Delete study {study!r} and its trained weights from {store}?", abort=True)
    opened.delete(study)
