"""What a setting is: a field of a dataclass with a description, from which options, signatures and checks are made.

The settings of a search are in :mod:`nas.config.settings`; those of :func:`nas.select` and :func:`nas.throttle` beside
the contract of evaluators.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from functools import cache, reduce
from inspect import get_annotations
from operator import or_
from types import UnionType
from typing import Any, ParamSpec, TypeVar, get_args, get_type_hints

from nas.errors import UserError, unknown_name

P = ParamSpec("P")
R = TypeVar("R")

LARGEST = 2**63 - 1
"""Largest whole number that a database stores."""
REPEATED = {"spaces": "--space", "penalties": "--penalty", "resources": "--resource", "enqueue": "--enqueue"}
"""Settings with several values → the option of the command line, which may be repeated."""
KEYWORDS = {"asynchronous": "--async", "warm_start": "--from"}
"""Settings whose option cannot be a name in Python → the option."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Description of a setting, in the metadata of a field of a dataclass.

    Parameters
    ----------
    help
        One line for the command line and the documentation, without the default.
    default
        The default in words, for defaults that depend on the data; None if the default of the field says it.
    least, most
        Limits of a whole number. Real numbers must be positive and finite.
    valid
        Valid names; empty: any text.
    """

    help: str
    default: str | None = None
    least: int = 1
    most: int = LARGEST
    valid: tuple[str, ...] = ()


def setting(value: Any, help: str, /, **description: Any) -> Any:
    """A field of a dataclass of settings, with its default and the description of a :class:`Setting`."""
    return field(default=value, metadata={"setting": Setting(help=help, **description)})


def settings_of(definition: type[Any]) -> list[Any]:
    """The fields that are settings, in the order of the command line: a class's own come before those of its bases."""
    described = [each for each in fields(definition) if "setting" in each.metadata]
    owned = [get_annotations(each) for each in definition.__mro__]
    return sorted(described, key=lambda each: next(i for i, names in enumerate(owned) if each.name in names))


def description_of(each: Any) -> Setting:
    """The description of a setting."""
    description = each.metadata["setting"]
    assert isinstance(description, Setting)
    return description


def default_of(each: Any) -> str | None:
    """The default of a setting in words, None if there is none."""
    if (text := description_of(each).default) is not None:
        return text
    if each.default is None:
        return None
    return ", ".join(map(str, each.default)) if isinstance(each.default, tuple) else str(each.default)


def option(name: str) -> str:
    """The option of the command line for a setting.

    >>> option("max_macs")
    '--max-macs'
    """
    return (REPEATED | KEYWORDS).get(name, "--" + name.replace("_", "-"))


def takes(definition: Callable[P, object]) -> Callable[[Callable[..., R]], Callable[P, R]]:
    """Give a function the signature of a dataclass: for type checkers, for help() and for the documentation."""

    def decorate(function: Callable[..., R]) -> Callable[P, R]:
        parameters = inspect.signature(function).parameters.values()
        explicit = [p for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]
        names = {p.name for p in explicit}
        kinds = inspect.Parameter
        added = [
            kinds(each.name, kinds.KEYWORD_ONLY, default=each.default, annotation=each.type)
            for each in settings_of(definition)  # type: ignore[arg-type]
            if each.name not in names
        ]
        first = [p for p in explicit if p.kind is not kinds.KEYWORD_ONLY]
        rest = [p for p in explicit if p.kind is kinds.KEYWORD_ONLY]
        function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [*first, *rest, *added], return_annotation=inspect.signature(function).return_annotation
        )
        return function

    return decorate


def check_settings(settings: Any) -> None:
    """Check the settings of a dataclass; None is valid if it is the default.

    Raises UserError for a value of another type or outside of its limits.
    """
    own: Any = type(settings)
    types = _types(own)
    for each in settings_of(own):
        value = getattr(settings, each.name)
        if value is not None or each.default is not None:
            _check(each.name, value, types[each.name], description_of(each))


def check_names(definition: type[Any], names: Iterable[str]) -> None:
    """Raise UserError for a name that is no setting of a dataclass."""
    valid = {each.name for each in settings_of(definition)}
    for name in names:
        if name not in valid:
            raise UserError(unknown_name("setting", name, valid))


@cache
def _types(definition: type) -> dict[str, Any]:
    """The type of each setting, without None."""
    return {name: _without_none(hint) for name, hint in get_type_hints(definition).items()}


def _without_none(hint: Any) -> Any:
    members = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return reduce(or_, [member for member in members if member is not type(None)])


def _check(name: str, value: Any, type_: Any, description: Setting) -> None:
    """Raise UserError unless a value is of the type of its setting and within its limits."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if type_ is str and not (isinstance(value, str) and value):
        raise UserError(f"{option(name)} must be text that is not empty. Got {value!r}.")
    if type_ == (bool | str) and not isinstance(value, bool | str):
        raise UserError(f"{option(name)} must be true, false or an address. Got {value!r}.")
    if type_ is bool and not isinstance(value, bool):
        raise UserError(f"{option(name)} must be true or false. Got {value!r}.")
    if type_ == tuple[str, ...] and not (isinstance(value, tuple) and all(isinstance(each, str) for each in value)):
        raise UserError(f"{option(name)} must be texts. Got {value!r}.")
    if description.valid and value not in description.valid:
        raise UserError(unknown_name(option(name), value, description.valid))
    if type_ is int and not (number and isinstance(value, int) and description.least <= value <= description.most):
        raise UserError(
            f"{option(name)} must be a whole number from {description.least:,} to {description.most:,}. Got {value!r}."
        )
    if type_ is float and not (number and 0 < value < math.inf):
        raise UserError(f"{option(name)} must be a positive, finite number. Got {value!r}.")
