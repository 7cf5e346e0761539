"""The command line: ``nas search | resume | status | front | show | report | select | throttle | delete | spaces |
data``.

Exit status 0 on success, 2 on a user's mistake with one clear line, 130 after a clean stop by Ctrl-C.
"""

from __future__ import annotations

import io
import json
import math
import os
import signal
import sys
import time
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from nas.errors import UserError, unknown_name

app = typer.Typer(
    help="Neural architecture search for anytime networks: one set of weights, several operating points.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

STORE = "sqlite:///nas.db"
STOPS = (signal.SIGINT, signal.SIGTERM)
"""Clusters send SIGTERM; a shell's background jobs ignore SIGINT unless told not to."""
Store = Annotated[
    str, typer.Option("--store", help="Results store: path or URL (sqlite, postgresql).", envvar="NAS_STORE")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the result.")]
TrainedKey = Annotated[
    str, typer.Argument(help="Key of a trained candidate, the beginning of it, or a network's folder.")
]
Seed = Annotated[int, typer.Option(help="Of everything random.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, …")]
Threads = Annotated[int, typer.Option(help="Threads of torch.")]
Train = Annotated[int | None, typer.Option(help="Limit: candidates to train in all.")]
Generations = Annotated[int | None, typer.Option(help="Limit: generations.")]
Hours = Annotated[float | None, typer.Option(help="Limit: wall-clock hours, full training of the finalists included.")]
Workers = Annotated[int | None, typer.Option(help="Trainings side by side. Default: cores / threads.")]


def main() -> None:
    """Entry point of the program ``nas``: a user's mistake is one line and exit status 2."""
    from results import StoreError

    wrong_usage: Any = typer.BadParameter.__base__  # whatever is wrong with the options; typer exports no name for it
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every terminal knows × and τ
    try:
        status = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except (UserError, StoreError, OSError) as error:
        status = _mistake(str(error))
    except typer.Abort:
        status = _mistake("Not confirmed. Nothing was done.")
    except wrong_usage as error:
        status = _mistake(error.format_message())
    sys.exit(status)


def _mistake(text: str) -> int:
    print(f"nas: {' '.join(text.split())}", file=sys.stderr)
    return 2


@app.command()
def search(
    study: Annotated[str | None, typer.Argument(help="Name of the study. Default: that of the data.")] = None,
    space: Annotated[
        list[str] | None, typer.Option(help="Search space: a name or file.py:Name; may be repeated.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Data specification, see `nas data`. Default: digits.")] = None,
    max_macs: Annotated[float | None, typer.Option(help="Most multiply-accumulates of the largest point.")] = None,
    max_params: Annotated[float | None, typer.Option(help="Most parameters of the largest point.")] = None,
    max_latency_ms: Annotated[
        float | None, typer.Option(help="Most milliseconds of any point, as the final search measures them.")
    ] = None,
    low: Annotated[float | None, typer.Option(help="Lowest budget, in MACs, that a network must answer under.")] = None,
    points: Annotated[int | None, typer.Option(help="Operating points per network. Default: 4.")] = None,
    strategy: Annotated[str | None, typer.Option(help="tpe, nsga2, random, guided or a plug-in. Default: tpe.")] = None,
    proxy: Annotated[str | None, typer.Option(help="What orders the training. Default: dtmc.")] = None,
    evaluator: Annotated[str | None, typer.Option(help="What trains and measures. Default: training.")] = None,
    rule: Annotated[
        str | None, typer.Option(help="Training rule, such as joint or sandwich:soft=true. Default: the space's own.")
    ] = None,
    pool: Annotated[int | None, typer.Option(help="Proposals screened per generation. Default: 500.")] = None,
    generation: Annotated[int | None, typer.Option(help="Candidates trained per generation. Default: 9.")] = None,
    train: Train = None,
    generations: Generations = None,
    hours: Hours = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of partial training. Default: 9, small data 21.")] = None,
    images: Annotated[
        int | None, typer.Option(help="Training images used in partial training. Default: 10000.")
    ] = None,
    finalists: Annotated[int | None, typer.Option(help="Candidates trained in full at the end. Default: 4.")] = None,
    final_epochs: Annotated[
        int | None, typer.Option(help="Most epochs of full training. Default: 20, small data 42.")
    ] = None,
    final_search: Annotated[
        int | None,
        typer.Option(help="Subnetworks measured to choose a finalist's points. Default: 192 if the rule samples them."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Repeats of full training, for error bars. Default: 1.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random. Default: 0.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, … Default: auto.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of one training. Default: 1.")] = None,
    workers: Workers = None,
    layout: Annotated[str | None, typer.Option(help="Axes of the images where their shape leaves it open.")] = None,
    hierarchy: Annotated[
        str | None,
        typer.Option(help="JSON file, class to coarse label: small points answer coarsely, large ones finely."),
    ] = None,
    validation: Annotated[
        float | None, typer.Option(help="Share of training images to choose by. Default: 0.15; small data up to 0.3.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per training step. Default: by their number.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate. Default: by batch size.")] = None,
    augment: Annotated[str | None, typer.Option(help="auto, none, crop, flip, crop+flip. Default: auto.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="Of training: auto, float32, bfloat16. Default: auto, bfloat16 on a GPU.")
    ] = None,
    optuna: Annotated[str | None, typer.Option(help="Copy trained candidates to this Optuna storage.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with the same settings; options win.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, show what would be searched, stop.")
    ] = False,
    store: Store = STORE,
    quiet: Quiet = False,
) -> None:
    """Search for anytime networks, or continue the study of this name.

    With no arguments: a search of a few minutes on the embedded digits.
    """
    options = {
        k: v for k, v in locals().items() if k not in ("config", "dry_run", "store", "quiet", "space") and v is not None
    }
    settings = _from_file(config) | options
    if space:
        settings["spaces"] = tuple(space)
    from nas.config import Config
    from nas.launch import preview, run

    made = Config(**({"study": _name_of(str(settings.get("data", "digits")))} | settings))
    if dry_run:
        print(preview(made))
    else:
        _search(lambda progress: run(made, store=store, progress=progress), made.study, store, quiet)


@app.command()
def resume(
    study: Annotated[str, typer.Argument(help="Name of the study.")],
    train: Train = None,
    generations: Generations = None,
    hours: Hours = None,
    workers: Workers = None,
    store: Store = STORE,
    quiet: Quiet = False,
) -> None:
    """Continue a study where it stands; limits may be given anew."""
    from nas.launch import resume as go_on

    given = {"train": train, "generations": generations, "hours": hours, "workers": workers}
    limits: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    _search(lambda progress: go_on(study, store=store, progress=progress, **limits), study, store, quiet)


def _search(start: Any, study: str, store: str, quiet: bool) -> None:
    """Run a search under a progress bar; say how to go on when it is stopped, and what was found when it ends."""
    from nas.progress import Live
    from nas.reporting.console import summary

    stop = _Stop()
    for number in STOPS:
        signal.signal(number, stop)
    try:
        with Live(lines=not quiet) as progress:
            found = start(progress)
    except KeyboardInterrupt:
        for number in STOPS:
            signal.signal(number, signal.SIG_IGN)
        print(f"\nStopped. {_how_to_go_on(study, store)}", file=sys.stderr)
        sys.exit(130)
    print(summary(found))


class _Stop:
    """A signal handler: a clean stop, which the impatient do not disturb within the seconds that it takes."""

    seconds = 5.0

    def __init__(self) -> None:
        self._last = -math.inf

    def __call__(self, number: int, frame: object) -> None:
        before, self._last = self._last, time.monotonic()
        if self._last - before > self.seconds:
            raise KeyboardInterrupt


def _how_to_go_on(study: str, store: str) -> str:
    import results

    try:
        begun = results.open(store).holds(study)
    except results.StoreError:
        begun = False
    where = "" if store == STORE else f" --store {store}"
    if not begun:
        return "Nothing was stored yet."
    return f"What was done is stored; continue with: nas resume {study}{where}"


@app.command()
def status(
    study: Annotated[str | None, typer.Argument(help="Name of a study. Default: list all.")] = None,
    store: Store = STORE,
) -> None:
    """What the store holds: all studies, or how far one has come."""
    import results
    from nas.reporting.console import studies_table, study_status

    opened = results.open(store)
    print(study_status(opened, study) if study else studies_table(opened))


@app.command()
def front(
    study: Annotated[list[str], typer.Argument(help="One study or more.")],
    csv: Annotated[Path | None, typer.Option(help="Write the front to this CSV file.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write the front to this Parquet file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw front and candidates: .png, .svg or .pdf.")] = None,
    cost: Annotated[str, typer.Option(help="macs, params or latency_ms.")] = "macs",
    max_macs: Annotated[float | None, typer.Option(help="Only points within this many MACs.")] = None,
    max_params: Annotated[float | None, typer.Option(help="Only points within this many parameters.")] = None,
    store: Store = STORE,
) -> None:
    """The Pareto front of one study or several: accuracy against cost."""
    import results
    from nas.reporting.console import front_table, write_frame

    opened = results.open(store)
    frame = opened.front(study, cost=cost, max_macs=max_macs, max_params=max_params)
    for path in (csv, parquet):
        if path is not None:
            write_frame(frame, path, "parquet" if path is parquet else "csv")
    if plot is not None:
        from results.plots import plot_front

        score = opened.score(study[0]) if len(study) == 1 else None
        plot_front(opened.points(study), frame, plot, score=score, cost=cost, policies=opened.policies(study))
    print(front_table(frame))


@app.command()
def show(
    key: Annotated[str, typer.Argument(help="Key of a candidate, or the beginning of it.")],
    as_json: Annotated[bool, typer.Option("--json", help="The architecture as JSON, as training left it.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw topology and importance: .png, .svg or .pdf.")] = None,
    store: Store = STORE,
) -> None:
    """One candidate: choices, results, topology."""
    import results
    from nas.reporting.console import candidate_text

    opened = results.open(store)
    if plot is not None:
        from nas.reporting.topology.plot import draw_topology
        from nas.representation.architecture import Architecture

        draw_topology(Architecture.from_json(opened.architecture(opened.realised(key))), plot)
    print(json.dumps(opened.architecture(opened.realised(key)), indent=1) if as_json else candidate_text(opened, key))


@app.command()
def report(
    study: Annotated[list[str], typer.Argument(help="One study or more.")],
    out: Annotated[Path | None, typer.Option(help="The file to write. Default: STUDY.html.")] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="Audited beside the study's own and the sizes: a name, file.py:Name or all; may be repeated. "
            "Default: all."
        ),
    ] = None,
    store: Store = STORE,
    quiet: Quiet = False,
) -> None:
    """One HTML file: front, funnel, progress, proxy audit, topologies. Proxies are computed once and kept."""
    from nas.progress import Live
    from nas.reporting.html_report import write_report
    from nas.study import Study

    names = list(dict.fromkeys(study))
    studies = [Study(name, store=store) for name in names]
    path = out or Path(f"{'+'.join(names)[:100]}.html")
    try:
        with Live(lines=not quiet) as progress:
            write_report(studies, path, proxies=proxy or ("all",), progress=progress)
    except KeyboardInterrupt:
        print("\nStopped. No report was written; scores computed so far are kept.", file=sys.stderr)
        sys.exit(130)
    if not quiet:
        print(path)


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


@app.command()
def delete(
    study: Annotated[str, typer.Argument(help="Name of the study.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: Store = STORE,
) -> None:
    """Remove a study, its weights included."""
    import results

    opened = results.open(store)
    opened.settings(study)
    if not yes:
        typer.confirm(f"Delete study {study!r} and its trained weights from {store}?", abort=True)
    opened.delete(study)


@app.command()
def spaces() -> None:
    """The search spaces that are installed."""
    _list("nas.search_spaces")
    print(f"{'file.py:NAME':24} Your own: a class with a method architecture(choose, task, *, points).")


@app.command()
def data() -> None:
    """The data that can be searched on."""
    from evaluators.data.datasets import FORMS

    _list("nas.data")
    for form, text in FORMS.items():
        print(f"{form:24} {text}")


def _list(group: str) -> None:
    from nas.plugins import describe

    for name, text in describe(group).items():
        print(f"{name:24} {text}")


def _name_of(data: str) -> str:
    """A study's default name: that of its data."""
    kind, _, rest = data.partition(":")
    stem = (
        Path(rest or kind).stem
        if kind in ("npz", "npy")
        else Path(kind).stem
        if kind.endswith(".py")
        else (rest or kind)
    )
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in stem).strip("-.")[:100] or "search"


def _from_file(path: Path | None) -> dict[str, Any]:
    """Settings of a TOML file, named as in Config (or with dashes)."""
    from nas.config import Config

    if path is None:
        return {}
    try:
        given = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"--config must be a readable TOML file. Got {path}: {error}.") from error
    settings = {name.replace("-", "_"): value for name, value in given.items()}
    if "space" in settings:
        settings["spaces"] = settings.pop("space")
    valid = {f.name for f in fields(Config)}
    for name in settings:
        if name not in valid:
            raise UserError(f"{path}: " + unknown_name("setting", name, valid))
    spaces = settings.get("spaces")
    if isinstance(spaces, str | list):
        settings["spaces"] = (spaces,) if isinstance(spaces, str) else tuple(spaces)
    return settings
