"""Consent to run a plug-in's file: by its content, for this process, its children and later runs of this account.

A store, and the file of a network, name plug-ins as ``file.py:Name``. Whoever wrote the store chose the names, so a
file runs only if the user named it on the command line, in a call or in a space's code, or with ``nas trust``. Naming
``file.py:Name`` is consent to this name only: a store could call another function that the file defines or imports.
The record is a text file in ``$XDG_STATE_HOME`` with a line for each consent: content hash, name, path.
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

from nas.errors import PluginError

VARIABLE = "NAS_TRUSTED_PLUGINS"
"""Environment variable with the consents of this process, which its children inherit, such as workers."""
ALL = "*"
"""In place of a name: every name in the file."""


def record() -> Path:
    """The file that remembers the consent of this account."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(state, "nas", "trusted-plugins")


def digest(source: bytes) -> str:
    """The content hash of a file."""
    return sha256(source).hexdigest()


def consented(source: bytes, name: str) -> bool:
    """Whether the user has consented to run this content for this name in it."""
    accepted = {f"{digest(source)}:{each}" for each in (name, ALL)}
    return not accepted.isdisjoint(_of_process()) or not accepted.isdisjoint(_remembered())


def consent(path: Path, source: bytes, name: str = ALL) -> None:
    """Remember that the user consents to run this content. Raises OSError if it holds for this process only."""
    wanted = consent_here(source, name)
    if wanted in _remembered():
        return
    file = record()
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "a", encoding="utf-8", errors="surrogateescape") as opened:
        opened.write(f"{wanted} {str(path)!r}\n")


def consent_here(source: bytes, name: str = ALL) -> str:
    """Accept content for this process and its children only. Returns the consent as text."""
    wanted = f"{digest(source)}:{name}"
    if wanted not in _of_process():
        os.environ[VARIABLE] = " ".join([*_of_process(), wanted])
    return wanted


def check_consent(path: Path, source: bytes, name: str) -> None:
    """Raise PluginError unless the user has consented to run this content of a file for this name in it."""
    if not consented(source, name):
        raise PluginError(
            f"A plug-in's file runs only with your consent. Got {path}:{name}, which this account has not used in the "
            f"file's present version. Read it, then: nas trust {path}:{name}"
        )


def _of_process() -> list[str]:
    return os.environ.get(VARIABLE, "").split()


def _remembered() -> set[str]:
    try:
        lines = record().read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return set()
    return {line.partition(" ")[0] for line in lines}
