"""Commands on a trained network: select and throttle."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from nas.cli.app import STORE, Quiet, Store, app
from nas.errors import UserError

TrainedKey = Annotated[
    str, typer.Argument(help="Key of a trained candidate, the beginning of it, or a network's folder.")
]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.")]
Device = Annotated[str, typer.Option(help="Device: auto, cpu, cuda, …")]
Threads = Annotated[int, typer.Option(help="Threads of torch.")]


@app.command()
def select(
    key: TrainedKey,
    folder: Annotated[Path, typer.Argument(help="Where the network with its new operating points is saved.")],
    max_macs: Annotated[float | None, typer.Option(help="Most multiply-accumulates of any point.")] = None,
    max_params: Annotated[float | None, typer.Option(help="Most parameters of any point.")] = None,
    max_latency_ms: Annotated[float | None, typer.Option(help="Most milliseconds of any point, here.")] = None,
    points: Annotated[int | None, typer.Option(help="Operating points. Default: as many as it has.")] = None,
    evaluations: Annotated[int | None, typer.Option(help="Subnetworks to measure. Default: 192.")] = None,
    low: Annotated[float | None, typer.Option(help="Lowest budget, in MACs. Default: the study's.")] = None,
    data: Annotated[str | None, typer.Option(help="Data to choose by. Default: those of its study.")] = None,
    hierarchy: Annotated[str | None, typer.Option(help="Label hierarchy of these data, as for search.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write all subnetworks that were measured to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw them, and what was chosen: .png, .svg or .pdf.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = 1,
    store: Store = STORE,
    quiet: Quiet = False,
) -> None:
    """Choose other operating points for a trained network: a front over its subnetworks, under limits."""
    from nas.deploy.select import select as choose
    from nas.progress import Live
    from nas.reporting.console import select_text, write_frame

    limits = {"max_macs": max_macs, "max_params": max_params, "max_latency_ms": max_latency_ms, "low": low}
    _check_targets(folder, *filter(None, (csv, plot)))
    try:
        with Live(lines=not quiet) as progress:
            found = choose(
                key,
                data=data,
                hierarchy=hierarchy,
                store=store,
                points=points,
                evaluations=evaluations,
                seed=seed,
                device=device,
                threads=threads,
                progress=progress,
                **limits,
            )
    except KeyboardInterrupt:
        print("\nStopped. Nothing was saved.", file=sys.stderr)
        sys.exit(130)
    found.network.save(folder)
    print(select_text(found, folder))
    if csv is not None:
        write_frame(found.measured, csv, "csv")
    if plot is not None:
        found.plot(plot)


@app.command()
def throttle(
    key: TrainedKey,
    folder: Annotated[Path, typer.Argument(help="Where the network with its controllers is saved.")],
    penalty: Annotated[
        list[float] | None,
        typer.Option(help="What all MACs cost in accuracy; a controller each. Default: 0.01, 0.03, 0.1, 0.3, 1."),
    ] = None,
    learner: Annotated[str | None, typer.Option(help="expected, reinforce or gates. Default: expected.")] = None,
    sees: Annotated[
        str | None, typer.Option(help="What a controller sees: answer (the smallest) or input. Default: answer.")
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="Penalty of a gate policy: linear, hinge or distance. Default: hinge.")
    ] = None,
    power: Annotated[float | None, typer.Option(help="To which power it goes. Default: 1.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over what controllers learn from. Default: 40.")] = None,
    width: Annotated[int | None, typer.Option(help="Channels of a controller's first layer. Default: 8.")] = None,
    data: Annotated[str | None, typer.Option(help="Data to learn from. Default: those of its study.")] = None,
    hierarchy: Annotated[str | None, typer.Option(help="Label hierarchy of these data, as for search.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write what controllers reach to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it beside the fixed points: .png, .svg or .pdf.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = 1,
    store: Store = STORE,
    quiet: Quiet = False,
) -> None:
    """Train controllers that throttle a trained network input by input: mean MACs against accuracy."""
    from nas.deploy.controllers import throttle as control
    from nas.progress import Live
    from nas.reporting.console import throttle_text, write_frame

    if learner != "gates" and (shape, power) != (None, None):
        raise UserError("--shape and --power are of the penalty of gate policies: add --learner gates.")
    given = {"learner": learner, "sees": sees, "epochs": epochs, "width": width, "shape": shape, "power": power}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if penalty:
        options["penalties"] = sorted(penalty)
    _check_targets(folder, *filter(None, (csv, plot)))
    try:
        with Live(lines=not quiet) as progress:
            found = control(
                key,
                data=data,
                hierarchy=hierarchy,
                store=store,
                seed=seed,
                folder=folder,
                device=device,
                threads=threads,
                progress=progress,
                **options,
            )
    except KeyboardInterrupt:
        print("\nStopped. Nothing was saved.", file=sys.stderr)
        sys.exit(130)
    print(throttle_text(found, folder))
    if csv is not None:
        write_frame(found.policies, csv, "csv")
    if plot is not None:
        found.plot(plot)


def _check_targets(folder: Path, *files: Path) -> None:
    """Raise UserError, before any work is done, for what could not be written at the end."""
    from results.plots import ENDINGS

    for above in (folder, *folder.parents):
        if above.exists() and not above.is_dir():
            raise UserError(f"The network is saved in a folder, and {above} is a file. Name another.")
    for file in files:
        if not file.resolve().parent.is_dir():
            raise UserError(f"{file} must be in a folder that exists, and {file.resolve().parent} does not. Make it.")
        if file.suffix.lower() not in (*ENDINGS, ".csv"):
            raise UserError(f"A figure's file must end in {', '.join(ENDINGS)}, a table's in .csv. Got {file.name!r}.")
