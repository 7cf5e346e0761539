"""Commands on one network: train, select and throttle. Their options are made from the settings of the evaluators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from nas.cli.app import Quiet, Store, Study, app
from nas.cli.options import AcceptPluginChange, chosen_settings, options_of
from nas.cli.output import AsJson, Parquet, emit
from nas.cli.stopping import on_stop
from nas.config import STORE, TrainingSettings
from nas.errors import UserError
from nas.evaluation.controllers import ControllerSettings
from nas.evaluation.operating_points import SelectionSettings

R = TypeVar("R")

TrainedKey = Annotated[
    str, typer.Argument(help="Key of a trained candidate, an unambiguous prefix, or the folder of a network.")
]
Data = Annotated[str | None, typer.Option(help="Data specification. Default: the data of the study.")]
Hierarchy = Annotated[str | None, typer.Option(help="Label hierarchy of these data, see `nas search`.")]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.")]
Device = Annotated[str, typer.Option(help="Device: auto, cpu, cuda, …")]
Threads = Annotated[int, typer.Option(help="Threads of torch.")]


@app.command()
@options_of(SelectionSettings)
def select(
    key: TrainedKey,
    folder: Annotated[Path, typer.Argument(help="Folder for the network with its new operating points.")],
    study: Study = None,
    data: Data = None,
    hierarchy: Hierarchy = None,
    csv: Annotated[Path | None, typer.Option(help="Write all measured subnetworks to this CSV file.")] = None,
    parquet: Parquet = None,
    as_json: AsJson = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the measured subnetworks and the chosen points: .png, .svg or .pdf.")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = 1,
    accept_plugin_change: AcceptPluginChange = False,
    store: Store = STORE,
    quiet: Quiet = False,
    **options: Any,
) -> None:
    """Choose new operating points for a trained network under limits."""
    from nas.deploy.select import select as select_points
    from nas.reporting.console import select_text

    settings = chosen_settings(options)
    settings |= {"study": study, "data": data, "hierarchy": hierarchy, "seed": seed}
    settings |= {"device": device, "threads": threads, "accept_plugin_change": accept_plugin_change}
    _check_targets(folder, csv=csv, parquet=parquet, plot=plot)
    result = _with_progress(lambda progress: select_points(key, store=store, progress=progress, **settings), quiet)
    result.network.save(folder)
    emit(result.measured, lambda: select_text(result, folder), csv=csv, parquet=parquet, as_json=as_json)
    if plot is not None:
        result.plot(plot)


@app.command()
@options_of(ControllerSettings)
def throttle(
    key: TrainedKey,
    folder: Annotated[Path, typer.Argument(help="Folder for the network with its controllers.")],
    study: Study = None,
    data: Data = None,
    hierarchy: Hierarchy = None,
    csv: Annotated[
        Path | None, typer.Option(help="Write accuracy and MACs of the controllers to this CSV file.")
    ] = None,
    parquet: Parquet = None,
    as_json: AsJson = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the controllers beside the fixed points: .png, .svg or .pdf.")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = 1,
    accept_plugin_change: AcceptPluginChange = False,
    store: Store = STORE,
    quiet: Quiet = False,
    **options: Any,
) -> None:
    """Train controllers that choose how much of a network runs for each input."""
    from nas.deploy.controllers import throttle as train_controllers
    from nas.reporting.console import throttle_text

    settings = chosen_settings(options)
    if "penalties" in settings:
        settings["penalties"] = tuple(sorted(settings["penalties"]))
    settings |= {"study": study, "data": data, "hierarchy": hierarchy, "seed": seed}
    settings |= {"device": device, "threads": threads, "accept_plugin_change": accept_plugin_change}
    _check_targets(folder, csv=csv, parquet=parquet, plot=plot)
    result = _with_progress(
        lambda progress: train_controllers(key, store=store, folder=folder, progress=progress, **settings), quiet
    )
    emit(result.policies, lambda: throttle_text(result, folder), csv=csv, parquet=parquet, as_json=as_json)
    if plot is not None:
        result.plot(plot)


@app.command()
@options_of(TrainingSettings)
def train(
    network: Annotated[
        str,
        typer.Argument(
            help="Key of a candidate, the folder of a network (to train on), or file.py:NAME of an architecture or of "
            "a function of the task that builds one."
        ),
    ],
    folder: Annotated[Path, typer.Argument(help="Folder for the trained network.")],
    study: Study = None,
    data: Data = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Passes over the training images. Default: 20, and up to 60 for small data."),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Start from the weights of this network: a key or a folder.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the operating points to this CSV file.")] = None,
    parquet: Parquet = None,
    as_json: AsJson = False,
    plot: Annotated[Path | None, typer.Option(help="Draw accuracy over MACs: .png, .svg or .pdf.")] = None,
    seed: Seed = 0,
    accept_plugin_change: AcceptPluginChange = False,
    store: Store = STORE,
    quiet: Quiet = False,
    **options: Any,
) -> None:
    """Train one network completely; the same command continues after an interruption."""
    from nas.deploy.train import train as train_network
    from nas.reporting.console import train_text

    settings = chosen_settings(options)
    settings |= {"study": study, "data": data, "epochs": epochs, "weights": weights, "seed": seed}
    settings |= {"accept_plugin_change": accept_plugin_change}
    _check_targets(folder, csv=csv, parquet=parquet, plot=plot)
    result = _with_progress(
        lambda progress: train_network(network, store=store, folder=folder, progress=progress, **settings),
        quiet,
        stopped="The same command continues after the last complete epoch.",
    )
    emit(result.points, lambda: train_text(result, folder), csv=csv, parquet=parquet, as_json=as_json)
    if plot is not None:
        result.plot(plot)


def _with_progress(work: Callable[[Any], R], quiet: bool, *, stopped: str = "Nothing was saved.") -> R:
    """Return the result of work under a progress bar. stopped: what the program says after a stop."""
    from nas.progress import Live

    on_stop(lambda: stopped)
    with Live(lines=not quiet) as progress:
        return work(progress)


def _check_targets(folder: Path, *, csv: Path | None, parquet: Path | None, plot: Path | None) -> None:
    """Raise UserError before any work if a result could not be written at the end."""
    from nas.files import check_folder
    from nas.reporting.console import check_folder_of
    from results.plots import ENDINGS

    check_folder(folder)
    for option, file, endings in (
        ("--csv", csv, (".csv",)),
        ("--parquet", parquet, (".parquet",)),
        ("--plot", plot, ENDINGS),
    ):
        if file is None:
            continue
        check_folder_of(option, file)
        if file.suffix.lower() not in endings:
            raise UserError(f"{option} must end in {', '.join(endings)}. Got {file.name!r}.")
