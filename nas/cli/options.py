"""Options of commands, made from dataclasses of settings; see :mod:`nas.config`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_args

import typer
from typer.models import ArgumentInfo

from nas.config import KEYWORDS, REPEATED, default_of, description_of, option, settings_of
from nas.errors import UserError


def options_of(definition: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each setting of a dataclass; options that are not given are None."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        explicit = [
            p.replace(kind=p.KEYWORD_ONLY)
            for p in inspect.signature(command, eval_str=True).parameters.values()
            if p.kind is not p.VAR_KEYWORD
        ]
        names = {p.name for p in explicit}
        added = [
            inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(each))
            for each in settings_of(definition)
            if each.name not in names
        ]
        arguments = [p for p in explicit if _is_argument(p)]
        options = [p for p in explicit if not _is_argument(p)]
        command.__signature__ = inspect.Signature([*arguments, *added, *options])  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in (*explicit, *added)}
        return command

    return decorate


def chosen_settings(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, with repeated options as tuples; an address of a cluster chooses Ray."""
    address = options.pop("ray_address", None)
    if address is not None:
        if options["ray"] is False:
            raise UserError(f"--no-ray and --ray-address exclude each other. Got both, with {address!r}.")
        options["ray"] = address
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in options.items()
        if value not in (None, [])
    }


RayAddress = Annotated[
    str | None,
    typer.Option("--ray-address", help="Train on this Ray cluster: auto, HOST:PORT or ray://HOST:PORT."),
]
AcceptPluginChange = Annotated[
    bool,
    typer.Option(
        "--accept-plugin-change", help="Continue although plug-ins of the study have changed, and run their files."
    ),
]


def _is_argument(parameter: inspect.Parameter) -> bool:
    return any(isinstance(each, ArgumentInfo) for each in get_args(parameter.annotation))


def _annotation(each: Any) -> Any:
    default = default_of(each)
    text = description_of(each).help + (f" Default: {default}." if default else "")
    name = each.type.removesuffix(" | None").removeprefix("tuple[").removesuffix(", ...]")
    if name.startswith("bool"):
        return Annotated[bool | None, typer.Option(f"{option(each.name)}/--no-{option(each.name)[2:]}", help=text)]
    type_: Any = {"str": str, "int": int, "float": float}[name]
    if each.name in REPEATED:
        return Annotated[list[type_] | None, typer.Option(option(each.name), help=text)]
    if each.name in KEYWORDS:
        return Annotated[type_ | None, typer.Option(option(each.name), help=text)]
    return Annotated[type_ | None, typer.Option(help=text)]
