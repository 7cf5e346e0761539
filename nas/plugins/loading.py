"""Discovery and loading of plug-ins: by the name of an entry point, or as `path/file.py:Name` without packaging.

Groups: `nas.search_spaces`, `nas.evaluators`, `nas.data`, `nas.strategies`, `nas.proxies`, `nas.training_rules`,
`nas.kinds`. In a checkout, the entry points of its pyproject.toml count as installed, also if nothing is installed or
the metadata of the installation are older.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
import tomllib
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.metadata import EntryPoint, entry_points
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any

from nas.errors import PluginError, last_line, unknown_name
from nas.files import absolute
from nas.plugins.consent import ALL, check_consent, consent, digest, record
from nas.plugins.copies import is_copied, present_file

DISTRIBUTION = "anytime-nas"
_SINGULAR = {"nas.strategies": "strategy", "nas.proxies": "proxy", "nas.data": "data set", "nas.search_spaces": "space"}
_loaded_files: dict[str, ModuleType] = {}


def installed(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name, sorted. Nothing is imported."""
    return {name: entries[0] for name, entries in sorted(_candidates(group).items())}


def load_plugin(group: str, spec: str) -> Any:
    """Import the object behind a name or a `path/file.py:Name`: a class or a function, see the contract of the group.

    A file is imported once, under its own module name, with the user's consent (:mod:`nas.plugins.consent`). The same
    spec gives the same object until the file changes.

    Parameters
    ----------
    group
        Entry point group in which names are looked up.
    spec
        Name of an entry point, or a Python file and a name in it. Relative paths start at the working directory.

    Returns
    -------
    object
        The plug-in.

    Raises
    ------
    PluginError
        The name is unknown or two installed distributions claim it; the file or the name in it does not exist; or the
        import fails (the cause is chained).
    """
    if _is_file(spec):
        path, name = _split(spec)
        module = _module_of(path, name)
        try:
            return getattr(module, name)
        except AttributeError:
            raise PluginError(unknown_name(f"name in {path}:", name, _public_names(module))) from None
    candidates = _candidates(group)
    if spec not in candidates:
        raise _unknown_plugin(group, spec, candidates)
    entry, *rivals = candidates[spec]
    if rivals:
        claims = ", ".join(f"{one.value} ({one.dist.name if one.dist else '?'})" for one in (entry, *rivals))
        raise PluginError(
            f"A {_kind_of(group)} name must be unique. Got {spec!r} from {claims}. Uninstall one of them."
        )
    try:
        return entry.load()
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"The {_kind_of(group)} {spec!r} ({entry.value}) does not import: {last_line(error)}"
        ) from error


def trust(*files: str | PathLike[str]) -> None:
    """Consent to run plug-ins from files in their present version, for example if a store of somebody else names them.

    A file that you name yourself, as an argument, needs no further consent. The consent is remembered for this account,
    and ends when the file changes.

    Parameters
    ----------
    *files : str or path
        Python files; ``file.py:Name`` consents to this name in the file only.

    Raises
    ------
    PluginError
        If a file does not exist, or if the consent cannot be remembered.
    """
    for file in files:
        text = os.fspath(file)
        path, name = _split(text) if ".py:" in text else (_existing_file(text, text), ALL)
        try:
            consent(path, path.read_bytes(), name)
        except OSError as error:
            raise PluginError(
                f"The folder {record().parent} must be writable to remember your consent to run {path}. Got {error}. "
                "Name another folder in XDG_STATE_HOME."
            ) from error


def trust_named(*specs: str) -> None:
    """Consent to the files among plug-ins that the user, or the code that runs, has named. Nothing is imported."""
    for spec in specs:
        if _is_file(spec):
            path, name = _split(spec)
            with suppress(OSError):  # it holds for this process
                consent(path, present_file(path).read_bytes(), name)


def identity(group: str, spec: str) -> str:
    """The version of a plug-in: the content hash of its file; distribution and version if it is installed.

    An installed plug-in that can be edited in place also has the content hash of its module.

    Raises
    ------
    PluginError
        The plug-in does not exist. Nothing is imported but parent packages of an installed one.
    """
    if _is_file(spec):
        return f"sha256 {digest(present_file(_split(spec)[0]).read_bytes())}"
    if spec not in (names := installed(group)):
        raise _unknown_plugin(group, spec, names)
    distribution = names[spec].dist
    if distribution is None:
        return f"{DISTRIBUTION} {_checkout().get('version')}"
    version = f"{distribution.name} {distribution.version}"
    if '"editable": true' not in (distribution.read_text("direct_url.json") or ""):
        return version
    try:
        module = importlib.util.find_spec(names[spec].module)
    except ImportError:
        module = None
    if module is None or module.origin is None:
        return version
    return f"{version}, sha256 {digest(Path(module.origin).read_bytes())}"


def canonical_spec(group: str, spec: str) -> str:
    """The spec with an absolute path, as stored with a study, so that it can be resumed from any directory.

    Raises
    ------
    PluginError
        The file or the name does not exist. Nothing is imported.
    """
    if _is_file(spec):
        path, name = _split(spec)
        return f"{path}:{name}"
    names = installed(group)
    if spec not in names:
        raise _unknown_plugin(group, spec, names)
    return spec


def describe(group: str) -> dict[str, str]:
    """The first line of the docstring of each installed plug-in, by name; the error, if it does not load."""
    lines = {}
    for name in installed(group):
        try:
            text = inspect.cleandoc(load_plugin(group, name).__doc__ or "")
            lines[name] = text.partition("\n")[0]
        except PluginError as error:
            lines[name] = f"broken: {error}"
    return lines


def _candidates(group: str) -> dict[str, list[EntryPoint]]:
    """The entry points that claim each name; more than one only if distributions disagree."""
    candidates: dict[str, list[EntryPoint]] = {entry.name: [entry] for entry in _checkout_entry_points(group)}
    in_checkout = bool(checkout_tables())
    for entry in _installed_entry_points(entry_points, tuple(sys.path), group):
        if in_checkout and entry.dist is not None and entry.dist.name == DISTRIBUTION:
            continue  # metadata of an installation, which may be older than the checkout
        claims = candidates.setdefault(entry.name, [])
        if entry.value not in {one.value for one in claims}:
            claims.append(entry)
    return candidates


@cache
def _installed_entry_points(
    read: Callable[..., Iterable[EntryPoint]], _path: tuple[str, ...], group: str
) -> tuple[EntryPoint, ...]:
    """The entry points of installed distributions, read once: it takes 10 ms, and a search asks a hundred times."""
    return tuple(sorted(read(group=group), key=lambda one: (one.dist.name if one.dist else "", one.value)))


def _checkout_entry_points(group: str) -> Iterable[EntryPoint]:
    return (EntryPoint(name, value, group) for name, value in checkout_tables().get(group, {}).items())


@cache
def _checkout() -> dict[str, Any]:
    """`[project]` of the pyproject.toml beside the package; empty outside a checkout."""
    file = Path(__file__).resolve().parents[2] / "pyproject.toml"
    try:
        project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
    except (OSError, tomllib.TOMLDecodeError):
        return {}
    return project if project.get("name") == DISTRIBUTION else {}


def checkout_tables() -> dict[str, dict[str, str]]:
    """`[project.entry-points]` of a checkout; empty outside a checkout."""
    tables: dict[str, dict[str, str]] = _checkout().get("entry-points", {})
    return tables


def file_of(spec: str) -> tuple[Path, str] | None:
    """The absolute path of a plug-in's file and the name in it; None for an installed plug-in. Raises PluginError."""
    return _split(spec) if _is_file(spec) else None


def _is_file(spec: str) -> bool:
    return ".py:" in spec or spec.endswith(".py")


def _split(spec: str) -> tuple[Path, str]:
    """The resolved path of an existing file, and the name after the colon."""
    text, _, name = (spec, "", "") if spec.endswith(".py") else spec.rpartition(":")
    path = _existing_file(text, spec)
    if not name.isidentifier():
        raise PluginError(f"A file needs the name of the object in it: {text}:Name. Got {spec!r}.")
    return path, name


def _existing_file(text: str, spec: str) -> Path:
    if is_copied(text):
        return Path(text)
    path = absolute(text)
    if not path.is_file():
        raise PluginError(f"A plug-in's file must exist. Got {spec!r}, which is {path}.")
    return path


def _module_of(path: Path, used: str) -> ModuleType:
    """The file as a module; in `sys.modules` while and after it runs, which dataclasses and pickle rely on.

    used: the name in it that will be used. Raises PluginError without the user's consent to it.
    """
    file = present_file(path)
    source = file.read_bytes()
    check_consent(path, source, used)
    # Named by path and content: unique in this process, and equal in all processes that load the file.
    name = f"nas_plugin_{path.stem}_{sha256(str(path).encode() + source).hexdigest()[:12]}"
    if name in _loaded_files:
        return _loaded_files[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        # Not through the loader: its bytecode cache distinguishes versions by size and time only.
        exec(compile(source, file, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise PluginError(f"The plug-in {path} does not import: {last_line(error)}") from error
    _loaded_files[name] = module
    return module


def _public_names(module: ModuleType) -> list[str]:
    """`__all__`, or the public classes and functions that the module defines."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def _unknown_plugin(group: str, spec: str, names: Iterable[str]) -> PluginError:
    return PluginError(f"{unknown_name(_kind_of(group), spec, names)} A file works too: path/file.py:Name.")


def _kind_of(group: str) -> str:
    return _SINGULAR.get(group) or group.removeprefix("nas.").replace("_", " ").removesuffix("s")
