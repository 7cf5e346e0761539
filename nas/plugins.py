"""Plug-ins: found by the name of an entry point, or as `path/file.py:Name` with no packaging at all.

Groups: `nas.search_spaces`, `nas.evaluators`, `nas.data`, `nas.strategies`, `nas.proxies`, `nas.training_rules`,
`nas.kinds`. In a checkout, the entry points of its own pyproject.toml count as installed, whatever the metadata of an
(older) install say.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
import tomllib
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from nas.errors import PluginError, unknown_name

_DISTRIBUTION = "anytime-nas"
_SINGULAR = {"nas.strategies": "strategy", "nas.proxies": "proxy", "nas.data": "data set", "nas.search_spaces": "space"}
_loaded_files: dict[str, ModuleType] = {}


def installed(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name, sorted. Nothing is imported."""
    return {name: entries[0] for name, entries in sorted(_candidates(group).items())}


def load_plugin(group: str, spec: str) -> Any:
    """The object that a name or a `path/file.py:Name` stands for: a class or a function, as its group's contract has
    it.

    A file is imported once under a module name of its own; the same spec gives the same object until the file changes,
    and a new one after that. Objects of the old one live on.

    Parameters
    ----------
    group: the entry point group that names are looked up in.
    spec: the name of an entry point, or a Python file and a name in it. A relative path counts from the working
      directory.

    Raises
    ------
    PluginError
        No such name (lists the valid ones), no such file, no such name in the file (lists the public ones), an import
        that raises (its last line; the cause is chained), or a name that two installed distributions claim.
    """
    if _is_file(spec):
        path, name = _split(spec)
        module = _module_of(path)
        try:
            return getattr(module, name)
        except AttributeError:
            raise PluginError(unknown_name(f"name in {path}:", name, _public_names(module))) from None
    candidates = _candidates(group)
    if spec not in candidates:
        raise PluginError(f"{unknown_name(_what(group), spec, candidates)} A file works too: path/file.py:Name.")
    entry, *rivals = candidates[spec]
    if rivals:
        claims = ", ".join(f"{one.value} ({one.dist.name if one.dist else '?'})" for one in (entry, *rivals))
        raise PluginError(f"A {_what(group)} name must be unique. Got {spec!r} from {claims}. Uninstall one of them.")
    try:
        return entry.load()
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"The {_what(group)} {spec!r} ({entry.value}) does not import: {_last_line(error)}"
        ) from error


def canonical_spec(group: str, spec: str) -> str:
    """The spec as it is stored with a study: a file's path becomes absolute, so that any directory will do for
    resuming.

    Raises
    ------
    PluginError
        When a file or a name does not exist. Nothing is imported.
    """
    if _is_file(spec):
        path, name = _split(spec)
        return f"{path}:{name}"
    names = installed(group)
    if spec not in names:
        raise PluginError(f"{unknown_name(_what(group), spec, names)} A file works too: path/file.py:Name.")
    return spec


def describe(group: str) -> dict[str, str]:
    """The first line of every installed plug-in's docstring, by name; what is wrong with it, if it does not load."""
    lines = {}
    for name in installed(group):
        try:
            text = inspect.cleandoc(load_plugin(group, name).__doc__ or "")
            lines[name] = text.partition("\n")[0]
        except PluginError as error:
            lines[name] = f"broken: {error}"
    return lines


def _candidates(group: str) -> dict[str, list[EntryPoint]]:
    """By name, the entry points that claim it; more than one only where distributions differ about it."""
    found: dict[str, list[EntryPoint]] = {entry.name: [entry] for entry in _checkout_entry_points(group)}
    ours = set(found)
    for entry in sorted(entry_points(group=group), key=lambda one: (one.dist.name if one.dist else "", one.value)):
        stale = entry.name in ours and entry.dist is not None and entry.dist.name == _DISTRIBUTION
        claims = found.setdefault(entry.name, [])
        if not stale and entry.value not in {one.value for one in claims}:
            claims.append(entry)
    return found


def _checkout_entry_points(group: str) -> Iterable[EntryPoint]:
    return (EntryPoint(name, value, group) for name, value in _checkout_tables().get(group, {}).items())


@cache
def _checkout_tables() -> dict[str, dict[str, str]]:
    """`[project.entry-points]` of the pyproject.toml beside the package; empty where this is no checkout."""
    file = Path(__file__).resolve().parent.parent / "pyproject.toml"
    try:
        project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
    except (OSError, tomllib.TOMLDecodeError):
        return {}
    return project.get("entry-points", {}) if project.get("name") == _DISTRIBUTION else {}


def _is_file(spec: str) -> bool:
    return ".py:" in spec or spec.endswith(".py")


def _split(spec: str) -> tuple[Path, str]:
    """The resolved path of an existing file, and the name after the colon."""
    text, _, name = (spec, "", "") if spec.endswith(".py") else spec.rpartition(":")
    path = Path(text).expanduser().resolve()
    if not path.is_file():
        raise PluginError(f"A plug-in's file must exist. Got {spec!r}, which is {path}.")
    if not name.isidentifier():
        raise PluginError(f"A file must come with the name of the object in it: {text}:Name. Got {spec!r}.")
    return path, name


def _module_of(path: Path) -> ModuleType:
    """The file as a module; in `sys.modules` while and after it runs, which dataclasses and pickle rely on."""
    source = path.read_bytes()
    # Named by path and content: unique here, and the same in another process that loads the same file.
    name = f"nas_plugin_{path.stem}_{sha256(str(path).encode() + source).hexdigest()[:12]}"
    if name in _loaded_files:
        return _loaded_files[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        # Not through the loader: its bytecode cache tells versions apart by size and time only.
        exec(compile(source, path, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise PluginError(f"The plug-in {path} does not import: {_last_line(error)}") from error
    _loaded_files[name] = module
    return module


def _public_names(module: ModuleType) -> list[str]:
    """What the module offers: `__all__`, or the public classes and functions that it defines itself."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def _what(group: str) -> str:
    return _SINGULAR.get(group) or group.removeprefix("nas.").replace("_", " ").removesuffix("s")


def _last_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[-1]
