"""Commands that train: search and resume. Their options are made from the settings in :mod:`nas.config`."""

from __future__ import annotations

import inspect
import math
import signal
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from nas.cli.app import Quiet, Store, app
from nas.config import STORE, Config, RunSettings, default_of, description_of, settings_of, study_name
from nas.errors import UserError, unknown_name

STOPS = (signal.SIGINT, signal.SIGTERM)
"""Signals of a clean stop. Clusters send SIGTERM; background jobs of a shell ignore SIGINT by default."""
ARGUMENTS = {"study": None, "spaces": "--space"}
"""Settings whose form on the command line differs: the study is an argument, the space may be repeated."""


def _options_of(definition: type[RunSettings]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each setting of a dataclass; options that are not given are None."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        explicit = [
            p for p in inspect.signature(command, eval_str=True).parameters.values() if p.kind is not p.VAR_KEYWORD
        ]
        names = {p.name for p in explicit}
        added = [
            inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(each))
            for each in settings_of(definition)
            if each.name not in names
        ]
        parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in explicit]
        first = [p for p in parameters if p.name in ARGUMENTS]
        rest = [p for p in parameters if p.name not in ARGUMENTS]
        command.__signature__ = inspect.Signature([*first, *added, *rest])  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in (*parameters, *added)}
        return command

    return decorate


def _annotation(each: Any) -> Any:
    default = default_of(each)
    text = description_of(each).help + (f" Default: {default}." if default else "")
    if each.name == "spaces":
        return Annotated[list[str] | None, typer.Option("--space", help=text)]
    type_ = {"str": str, "int": int, "float": float}[each.type.removesuffix(" | None")]
    return Annotated[type_ | None, typer.Option(help=text)]


@app.command()
@_options_of(Config)
def search(
    study: Annotated[str | None, typer.Argument(help="Name of the study. Default: the name of the data.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with the same settings; options win.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check settings, plug-ins and data, show the search, and stop. The store is not opened."
        ),
    ] = False,
    store: Store = STORE,
    quiet: Quiet = False,
    **options: Any,
) -> None:
    """Search for anytime networks, or continue the study of this name.

    With no arguments: a search of a few minutes on the embedded digits.
    """
    from nas.launch import preview, run

    from_options = {name: value for name, value in {"study": study, **options}.items() if value is not None}
    if "spaces" in from_options:
        from_options["spaces"] = tuple(from_options["spaces"])
    settings = (settings_from_file(config) if config else {}) | from_options
    resolved = Config(**{"study": study_name(settings.get("data", "digits")), **settings})
    if dry_run:
        print(preview(resolved))
    else:
        _search(lambda progress: run(resolved, store=store, progress=progress), resolved.study, store, quiet)


@app.command()
@_options_of(RunSettings)
def resume(
    study: Annotated[str, typer.Argument(help="Name of the study.")],
    store: Store = STORE,
    quiet: Quiet = False,
    **options: Any,
) -> None:
    """Continue a study where it stands; limits may be changed."""
    from nas.launch import resume as continue_study

    limits = {name: value for name, value in options.items() if value is not None}
    _search(lambda progress: continue_study(study, store=store, progress=progress, **limits), study, store, quiet)


def _search(start: Callable[[Any], Any], study: str, store: str, quiet: bool) -> None:
    """Run a search under a progress bar; report how to continue if it is stopped, and the result if it ends."""
    from nas.progress import Live
    from nas.reporting.console import summary

    stop = _Stop()
    for number in STOPS:
        signal.signal(number, stop)
    try:
        with Live(lines=not quiet) as progress:
            result = start(progress)
    except KeyboardInterrupt:
        for number in STOPS:
            signal.signal(number, signal.SIG_IGN)
        print(f"\nStopped. {_how_to_continue(study, store)}", file=sys.stderr)
        sys.exit(130)
    print(summary(result))


class _Stop:
    """A signal handler for a clean stop; further signals within the seconds that it takes are ignored."""

    seconds = 5.0

    def __init__(self) -> None:
        self._last = -math.inf

    def __call__(self, number: int, frame: object) -> None:
        before, self._last = self._last, time.monotonic()
        if self._last - before > self.seconds:
            raise KeyboardInterrupt


def _how_to_continue(study: str, store: str) -> str:
    import results

    try:
        started = results.open(store).holds(study)
    except results.StoreError:
        started = False
    if not started:
        return "Nothing was stored yet."
    suffix = "" if store == STORE else f" --store {store}"
    return f"All results so far are stored; continue with: nas resume {study}{suffix}"


def settings_from_file(path: Path) -> dict[str, Any]:
    """Settings of a TOML file, with the names of :class:`nas.config.Config`, with underscores or dashes."""
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"--config must be a readable TOML file. Got {path}: {error}.") from error
    settings = {name.replace("-", "_"): value for name, value in content.items()}
    if "space" in settings:
        settings["spaces"] = settings.pop("space")
    valid = {each.name for each in settings_of(Config)}
    for name in settings:
        if name not in valid:
            raise UserError(f"{path}: " + unknown_name("setting", name, valid - {"spaces"} | {"space"}))
    spaces = settings.get("spaces")
    if isinstance(spaces, str | list):
        settings["spaces"] = (spaces,) if isinstance(spaces, str) else tuple(spaces)
    return settings
