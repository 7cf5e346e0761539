"""Search spaces of a study: names, ``file.py:Name``, classes or objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nas.errors import PluginError, UserError
from nas.plugins import load_plugin
from nas.spaces.contract import SearchSpace

Spaces = str | type | SearchSpace | Sequence[str | type | SearchSpace]


def named_spaces(space: Spaces) -> tuple[tuple[str, ...], dict[str, SearchSpace]]:
    """The names of one or more spaces, and by name the classes and objects among them.

    Raises UserError for anything else than names, classes and objects with a method ``architecture``.
    """
    single = isinstance(space, str | type) or hasattr(space, "architecture")
    items: Any = [space] if single else space
    if not isinstance(items, Sequence):
        raise UserError(f"space must be one or more names, classes or objects. Got {space!r}.")
    names: list[str] = []
    objects: dict[str, SearchSpace] = {}
    for item in items:
        if isinstance(item, str):
            names.append(item)
        else:
            name = (item if isinstance(item, type) else type(item)).__name__
            names.append(name)
            objects[name] = item
    return tuple(names), objects


def load_spaces(names: Sequence[str], objects: Mapping[str, SearchSpace]) -> dict[str, Any]:
    """Search spaces by their short name: a plug-in's name, or ``Name`` of ``file.py:Name``.

    Parameters
    ----------
    names
        Of plug-ins, or keys of ``objects``.
    objects
        Classes and objects that are no plug-ins, by name. A class is constructed without arguments.

    Raises
    ------
    PluginError
        If a space cannot be loaded or constructed, or has no method ``architecture``.
    UserError
        If two spaces have the same short name.
    """
    spaces: dict[str, Any] = {}
    for name in names:
        space = objects[name] if name in objects else load_plugin("nas.search_spaces", name)
        if isinstance(space, type):
            try:
                space = space()
            except Exception as error:
                raise PluginError(
                    f"The space {name!r} must be made without arguments. Got {type(error).__name__}: {error}"
                ) from error
        if not callable(getattr(space, "architecture", None)):
            raise PluginError(
                f"A space must have a method architecture(choose, task, *, points). Got {space!r} from {name!r}."
            )
        short_name = name.rpartition(":")[2]
        if short_name in spaces:
            raise UserError(f"Two spaces must not have the same name. Got {short_name!r} twice; rename one.")
        spaces[short_name] = space
    return spaces
