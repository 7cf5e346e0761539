"""The user's code for machines that lack it: files of plug-ins, and the user's own modules that they import.

The user's consent to a plug-in (:mod:`nas.plugins.consent`) travels with its file.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from nas.errors import EnvironmentFault, UserError
from nas.plugins.consent import check_consent, consent_here
from nas.plugins.copies import use_copy
from nas.plugins.imports import imported_files, module_files
from nas.plugins.loading import DISTRIBUTION, file_of, installed

LARGEST_MB = 64
"""Most megabytes of code that are sent to another machine."""

Plugin = tuple[str, str]
"""The entry point group of a plug-in, and its name or ``file.py:Name``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Files of code.

    plugins: content by the absolute path that names them on the driver's machine. modules: content by path below a
    folder of ``sys.path``. consents: path of a plug-in's file, and a name in it that may run.
    """

    plugins: Mapping[str, bytes] = field(default_factory=dict)
    modules: Mapping[str, bytes] = field(default_factory=dict)
    consents: tuple[tuple[str, str], ...] = ()

    def with_new(self, other: Code) -> Code:
        """Both together; of files in both, the content of this one, because it may be in use."""
        return Code(
            plugins={**other.plugins, **self.plugins},
            modules={**other.modules, **self.modules},
            consents=tuple(sorted({*self.consents, *other.consents})),
        )

    def install(self) -> None:
        """Write the files on this node, and use them in this process and its children.

        Raises
        ------
        EnvironmentFault
            If the folder for them belongs to somebody else.
        """
        folder = _own_folder() / self._digest()
        modules = folder / "modules"
        for path, content in self.modules.items():
            _write(modules / path, content)
        for path, content in self.plugins.items():
            copy = folder / "plugins" / sha256(path.encode(errors="surrogateescape")).hexdigest()[:12] / Path(path).name
            _write(copy, content)
            use_copy(path, copy)
        for path, name in self.consents:
            consent_here(self.plugins[path], name)
        if self.modules:
            sys.path.insert(0, str(modules))
            before = os.environ.get("PYTHONPATH")
            os.environ["PYTHONPATH"] = os.pathsep.join([str(modules), *([before] if before else [])])
            importlib.invalidate_caches()

    def _digest(self) -> str:
        digest = sha256()
        for path, content in sorted({**self.plugins, **self.modules}.items()):
            digest.update(f"{path}\0{len(content)}\0".encode(errors="surrogateescape") + content)
        return digest.hexdigest()[:16]


def code_of(plugins: Iterable[Plugin]) -> Code:
    """The files of plug-ins that are not part of this project, with the modules that they import.

    Raises
    ------
    UserError
        If the code is too large. PluginError: a file does not exist, or the user has not consented to run it.
    """
    files: dict[str, Path] = {}
    modules: dict[str, Path] = {}
    metadata: dict[str, bytes] = {}
    consents: set[tuple[str, str]] = set()
    for group, spec in sorted(plugins):
        found = file_of(spec)
        if found is not None:
            path, name = found
            check_consent(path, path.read_bytes(), name)
            files[str(path)] = path
            consents.add((str(path), name))
            continue
        entry = installed(group).get(spec)
        if entry is None or entry.dist is None or entry.dist.name == DISTRIBUTION:
            continue
        modules |= module_files(entry.module.partition(".")[0])
        folder = f"{entry.dist.name.replace('-', '_')}-{entry.dist.version}.dist-info"
        for part in ("METADATA", "entry_points.txt"):
            metadata[f"{folder}/{part}"] = (entry.dist.read_text(part) or "").encode()
    modules |= imported_files([*files.values(), *(path for path in modules.values() if path.suffix == ".py")])
    _check_size(modules)
    return Code(
        plugins={path: file.read_bytes() for path, file in files.items()},
        modules={name: path.read_bytes() for name, path in modules.items()} | metadata,
        consents=tuple(sorted(consents)),
    )


def _check_size(modules: Mapping[str, Path]) -> None:
    """Raise UserError if modules are too large to be sent."""
    sizes: dict[str, int] = {}
    for name, path in modules.items():
        top = name.partition("/")[0]
        sizes[top] = sizes.get(top, 0) + path.stat().st_size
    if sum(sizes.values()) > LARGEST_MB * 2**20:
        largest = max(sizes, key=lambda top: sizes[top])
        raise UserError(
            f"The modules that plug-ins import are sent to the nodes, at most {LARGEST_MB} MB. Got "
            f"{sizes[largest] / 2**20:,.0f} MB in {largest!r}. Move its data elsewhere, or install it on the nodes and "
            "on this machine, not editable."
        )


def _own_folder() -> Path:
    """A folder of this node to which no other user can write."""
    folder = Path(tempfile.gettempdir(), f"nas-code-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    state = folder.lstat()
    if state.st_uid != os.getuid() or state.st_mode & 0o077 or folder.is_symlink():
        raise EnvironmentFault(
            f"The folder for code on this node must be writable by its owner only. Got {folder}, owned by user "
            f"{state.st_uid} with mode {state.st_mode & 0o777:o}. Remove it, or set TMPDIR."
        )
    return folder


def _write(path: Path, content: bytes) -> None:
    """Write a file, unless it has this content. Several workers may do so at once."""
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    os.replace(partial, path)
