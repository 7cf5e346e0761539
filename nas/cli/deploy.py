"""Commands on a trained network: select and throttle."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from nas.cli.app import Quiet, Store, app
from nas.config import STORE
from nas.errors import UserError

TrainedKey = Annotated[
    str, typer.Argument(help="Key of a trained candidate, an unambiguous prefix, or the folder of a network.")
]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.")]
Device = Annotated[str, typer.Option(help="Device: auto, cpu, cuda, …")]
Threads = Annotated[int, typer.Option(help="Threads of torch.")]


@app.command()
def select(
    key: TrainedKey,
    folder: Annotated[Path, typer.Argument(help="Folder for the network with its new operating points.")],
    max_macs: Annotated[
        float | None, typer.Option(help="Upper limit on the multiply-accumulates of each point.")
    ] = None,
    max_params: Annotated[float | None, typer.Option(help="Upper limit on the parameters of each point.")] = None,
    max_latency_ms: Annotated[
        float | None, typer.Option(help="Upper limit on the milliseconds of each point, on this machine.")
    ] = None,
    points: Annotated[int | None, typer.Option(help="Number of operating points. Default: unchanged.")] = None,
    evaluations: Annotated[int | None, typer.Option(help="Subnetworks to measure. Default: 192.")] = None,
    low: Annotated[float | None, typer.Option(help="Lowest budget in MACs. Default: as in the study.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Data specification for the choice. Default: the data of the study.")
    ] = None,
    hierarchy: Annotated[str | None, typer.Option(help="Label hierarchy of these data, see `nas search`.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write all measured subnetworks to this CSV file.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the measured subnetworks and the chosen points: .png, .svg or .pdf.")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = 1,
    store: Store = STORE,
    quiet: Quiet = False,
) -> None:
    """Choose new operating points for a trained network under limits."""
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
    folder: Annotated[Path, typer.Argument(help="Folder for the network with its controllers.")],
    penalty: Annotated[
        list[float] | None,
        typer.Option(help="Accuracy that all MACs cost; one controller per value. Default: 0.01, 0.03, 0.1, 0.3, 1."),
    ] = None,
    learner: Annotated[
        str | None, typer.Option(help="Learning rule: expected, reinforce or gates. Default: expected.")
    ] = None,
    sees: Annotated[
        str | None,
        typer.Option(help="Input of a controller: answer (of the smallest point) or input."),
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="Penalty of a gate policy: linear, hinge or distance. Default: hinge.")
    ] = None,
    power: Annotated[float | None, typer.Option(help="Power of the penalty. Default: 1.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of the training of controllers. Default: 40.")] = None,
    width: Annotated[int | None, typer.Option(help="Channels of a controller's first layer. Default: 8.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Data specification for the training. Default: the data of the study.")
    ] = None,
    hierarchy: Annotated[str | None, typer.Option(help="Label hierarchy of these data, see `nas search`.")] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Write accuracy and MACs of the controllers to this CSV file.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the controllers beside the fixed points: .png, .svg or .pdf.")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = 1,
    store: Store = STORE,
    quiet: Quiet = False,
) -> None:
    """Train controllers that choose how much of a network runs for each input."""
    from nas.deploy.controllers import throttle as control
    from nas.progress import Live
    from nas.reporting.console import throttle_text, write_frame

    if learner != "gates" and (shape, power) != (None, None):
        raise UserError("--shape and --power need gate policies: add --learner gates.")
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
    """Raise UserError before any work if a result could not be written at the end."""
    from results.plots import ENDINGS

    for above in (folder, *folder.parents):
        if above.exists() and not above.is_dir():
            raise UserError(f"The network needs a folder. Got {above}, which is a file.")
    for file in files:
        if not file.resolve().parent.is_dir():
            raise UserError(f"{file} must be in an existing folder. Make {file.resolve().parent} first.")
        if file.suffix.lower() not in (*ENDINGS, ".csv"):
            raise UserError(f"Files of figures must end in {', '.join(ENDINGS)}, of tables in .csv. Got {file.name!r}.")
