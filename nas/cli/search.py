"""Commands that train: search and resume. Their options are made from the settings in :mod:`nas.config`."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from nas.cli.app import Quiet, Store, app
from nas.cli.options import AcceptPluginChange, RayAddress, chosen_settings, options_of
from nas.cli.stopping import on_stop
from nas.config import KEYWORDS, REPEATED, STORE, Config, RunSettings, option, settings_of, store_option, study_name
from nas.errors import UserError, unknown_name


@app.command()
@options_of(Config)
def search(
    study: Annotated[str | None, typer.Argument(help="Name of the study. Default: the name of the data.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with the same settings; options win.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check settings, plug-ins, data, store and folders, show the search, and stop. Nothing is written.",
        ),
    ] = False,
    ray_address: RayAddress = None,
    accept_plugin_change: AcceptPluginChange = False,
    store: Store = STORE,
    quiet: Quiet = False,
    **options: Any,
) -> None:
    """Search for anytime networks, or continue the study of this name.

    With no arguments: a search of a few minutes on the embedded digits.
    """
    from nas.launch import preview, run

    settings = (settings_from_file(config) if config else {}) | chosen_settings(
        {"study": study, "ray_address": ray_address, **options}
    )
    resolved = Config(**{"study": study_name(settings.get("data", "digits")), **settings})
    if dry_run:
        print(preview(resolved, store=store, accept_plugin_change=accept_plugin_change))
    else:
        _search(
            partial(run, resolved, store=store, accept_plugin_change=accept_plugin_change), resolved.study, store, quiet
        )


@app.command()
@options_of(RunSettings)
def resume(
    study: Annotated[str, typer.Argument(help="Name of the study.")],
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Train candidates again whose training failed.")
    ] = False,
    ray_address: RayAddress = None,
    accept_plugin_change: AcceptPluginChange = False,
    store: Store = STORE,
    quiet: Quiet = False,
    **options: Any,
) -> None:
    """Continue a study where it stands; limits may be changed."""
    from nas.launch import resume as continue_study

    settings = chosen_settings({"ray_address": ray_address, **options}) | {
        "retry_failed": retry_failed,
        "accept_plugin_change": accept_plugin_change,
    }
    _search(partial(continue_study, study, store=store, **settings), study, store, quiet)


def _search(start: Callable[..., Any], study: str, store: str, quiet: bool) -> None:
    """Run a search under a progress bar; print its result. If it is stopped, the program says how to continue."""
    from nas.progress import Live
    from nas.reporting.console import summary
    from results.waiting import patiently

    on_stop(lambda: _how_to_continue(study, store))
    with Live(lines=not quiet) as progress:
        result = start(progress=progress)
    print(patiently(partial(summary, result)))


def _how_to_continue(study: str, store: str) -> str:
    import results

    try:
        opened = results.open(store)
        started = opened.holds(study)
    except results.StoreError:
        started = False
    if not started:
        return "Nothing was stored yet."
    return f"All results so far are stored; continue with: nas resume {study}{store_option(opened.label)}"


def settings_from_file(path: Path) -> dict[str, Any]:
    """Settings of a TOML file, with the names of :class:`nas.config.Config`, with underscores or dashes."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"--config must be a readable TOML file. Got {path}: {error}.") from error
    settings = {name.replace("-", "_"): value for name, value in content.items()}
    fields = {option(name)[2:].replace("-", "_"): name for name in (*REPEATED, *KEYWORDS)}
    settings = {fields.get(name, name): value for name, value in settings.items()}
    valid = {each.name for each in settings_of(Config)}
    for name in settings:
        if name not in valid:
            raise UserError(f"{path}: " + unknown_name("setting", name, valid - {"spaces"} | {"space"}))
    for name in REPEATED.keys() & settings.keys():
        value = settings[name]
        if isinstance(value, str | list):
            settings[name] = (value,) if isinstance(value, str) else tuple(value)
    return settings
