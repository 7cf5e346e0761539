"""The files of the user's own modules that plug-ins import, for machines on which they are not installed."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

_SEARCH = ("nas", "evaluators", "search_spaces", "results", "torch", "numpy", "ray")
EVERYWHERE = frozenset((*sys.stdlib_module_names, *_SEARCH))
"""Names of modules that every machine of a search has."""
_INSTALLED = {"site-packages", "dist-packages"}


def imported_files(sources: Iterable[Path]) -> dict[str, Path]:
    """The modules that Python files import, directly or through each other, as far as they are the user's own.

    Own modules lie outside of the folders of installed packages: in the working directory, on ``PYTHONPATH``, in a
    project that is installed to be edited. Imports inside functions count.

    Parameters
    ----------
    sources
        Python files.

    Returns
    -------
    dict of str to Path
        By path below a folder of ``sys.path``, such as ``package/module.py``. Of packages all files, also data.
    """
    found: dict[str, Path] = {}
    seen = set(EVERYWHERE)
    queue = list(sources)
    while queue:
        for name in imported_names(queue.pop()) - seen:
            seen.add(name)
            files = {} if is_installed(name) else module_files(name)
            found |= files
            queue += [path for path in files.values() if path.suffix == ".py"]
    return found


def imported_names(path: Path) -> set[str]:
    """Top-level names of the modules that a file imports; none if it is not valid."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


def is_installed(name: str) -> bool:
    """Whether a top-level module is in a folder of installed packages or belongs to Python; also if there is none."""
    places = _places(_spec(name))
    standard = {Path(sysconfig.get_path(key)) for key in ("stdlib", "platstdlib")}
    return not any(not _INSTALLED.intersection(place.parts) and standard.isdisjoint(place.parents) for place in places)


def module_files(name: str) -> dict[str, Path]:
    """The files of a top-level module or package, by path below a folder of ``sys.path``."""
    return {
        path.relative_to(place.parent).as_posix(): path
        for place in _places(_spec(name))
        for path in (_files_in(place) if place.is_dir() else [place])
    }


def _spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):  # a module without a specification, such as __main__
        return None


def _places(spec: ModuleSpec | None) -> list[Path]:
    """The file of a module, or the folders of a package."""
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(place) for place in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec.has_location and spec.origin else []


def _files_in(folder: Path) -> Iterator[Path]:
    """The files of a package, without hidden ones and bytecode."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__" and not name.startswith(".")]
        yield from (Path(place, name) for name in names if not name.startswith(".") and not name.endswith(".pyc"))
