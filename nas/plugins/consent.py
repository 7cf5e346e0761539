"""Consent to run a plug-in's file: by its content, for this process, its children and later runs of this account.

A store, and the file of a network, name plug-ins as ``file.py:Name``. Whoever wrote the store chose the names, so a
file runs only if the user named it on the command line, in a call or in a space's code, or with ``nas trust``. The
record is a text file as ``sha256sum`` writes it, in ``$XDG_STATE_HOME``.
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

from nas.errors import PluginError

VARIABLE = "NAS_TRUSTED_PLUGINS"
"""Environment variable with the content hashes of this process, which its children inherit, such as workers."""


def record() -> Path:
    """The file that remembers the consent of this account."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(state, "nas", "trusted-plugins")


def digest(source: bytes) -> str:
    """The content hash of a file."""
    return sha256(source).hexdigest()


def consented(source: bytes) -> bool:
    """Whether the user has consented to run this content."""
    wanted = digest(source)
    return wanted in _of_process() or wanted in _remembered()


def consent(path: Path, source: bytes) -> None:
    """Remember that the user consents to run this content. Raises OSError if it holds for this process only."""
    wanted = digest(source)
    if wanted not in _of_process():
        os.environ[VARIABLE] = " ".join([*_of_process(), wanted])
    if wanted in _remembered():
        return
    file = record()
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "a", encoding="utf-8", errors="surrogateescape") as opened:
        opened.write(f"{wanted}  {str(path)!r}\n")


def check_consent(path: Path, source: bytes) -> None:
    """Raise PluginError unless the user has consented to run this content of a file."""
    if not consented(source):
        raise PluginError(
            f"A plug-in's file runs only with your consent. Got {path}, which this account has not run in its present "
            f"version. Read it, then: nas trust {path}"
        )


def _of_process() -> list[str]:
    return os.environ.get(VARIABLE, "").split()


def _remembered() -> set[str]:
    try:
        lines = record().read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return set()
    return {line.partition(" ")[0] for line in lines}
