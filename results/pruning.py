"""Files of a study that nobody needs to use its front: networks and checkpoints of the other candidates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from results.files.places import Place, RemotePath, remove_all
from results.schema import candidates, evaluations


@dataclass(frozen=True, slots=True, kw_only=True)
class Prunable:
    """The files of candidates that are neither on the front nor the best.

    Parameters
    ----------
    keys : tuple of str
        Keys of these candidates.
    size : int
        Bytes of their files.
    kept_size : int
        Bytes of the files of the other candidates.
    """

    keys: tuple[str, ...]
    size: int
    kept_size: int


def prunable(folder: Place, needed: Iterable[str]) -> Prunable:
    """The prunable files of a study. folder: of its files. needed: keys of the candidates whose files stay."""
    sizes = {each.name: _size(each) for each in _folders(folder)}
    keys = tuple(sorted(set(sizes) - set(needed)))
    size = sum(sizes[key] for key in keys)
    return Prunable(keys=keys, size=size, kept_size=sum(sizes.values()) - size)


def forget_weights(connection: sa.Connection, study: int, keys: Iterable[str]) -> None:
    """Note that no weights of these candidates are kept. study: number of the study."""
    of_keys = sa.select(candidates.c.id).where(
        candidates.c.study_id == study, candidates.c.key == sa.bindparam("pruned")
    )
    change = sa.update(evaluations).where(evaluations.c.candidate_id.in_(of_keys)).values(weights=None)
    for key in keys:
        connection.execute(change, {"pruned": key})


def remove(folder: Place, keys: Iterable[str]) -> None:
    """Delete the files of candidates. folder: of the study's files."""
    for key in keys:
        remove_all(folder / "candidates" / key)


def _folders(folder: Place) -> list[Place]:
    within = folder / "candidates"
    return [each for each in within.iterdir() if each.is_dir()] if within.is_dir() else []


def _size(folder: Place) -> int:
    if isinstance(folder, RemotePath):
        return folder.size()
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
