"""The folder of a job in a worker: its own, or a local copy if the job's folder has a URL (`--files`).

A local copy begins with the files at the URL. The worker sends the files that it has changed: during the training now
and then, because an epoch may be shorter than a transfer, and all of them at the end.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import file_digest
from pathlib import Path
from typing import TypeVar

from nas.errors import EnvironmentFault
from nas.evaluation.evaluator import Evaluator
from nas.evaluation.jobs import Job
from nas.files import MANIFEST, listed, manifest_text
from results.files.places import OWNER, FilesUnreachable, RemotePath, is_url, place
from results.files.scratch import scratch_folder

SECONDS = 10.0
"""Least time between two checkpoints that are sent during a training."""
SHARE = 20
"""Sending takes at most one of so many seconds of a training."""
PAUSES = (2.0, 10.0)
"""Seconds before a transfer is tried again that must succeed."""

T = TypeVar("T")


@contextmanager
def job_folder(job: Job, checkpoint: str) -> Iterator[JobFolder]:
    """The folder in which a job is run. checkpoint: name of its checkpoint.

    Raises StoreError if the job's folder has a URL that cannot be read.
    """
    if not is_url(job.folder):
        yield JobFolder(job)
        return
    with scratch_folder() as scratch:
        folder = CopiedFolder(job, scratch, checkpoint)
        _patiently(folder.fetch)
        yield folder


def check_shared(folder: str) -> None:
    """Raise EnvironmentFault unless this machine sees the study's folder, in which the driver has written a file.

    folder: of a job.
    """
    if not is_url(folder) and not any((parent / OWNER).exists() for parent in Path(folder).parents):
        raise EnvironmentFault(
            f"--files must be a URL or a folder that all nodes share. {Path(folder).parents[2]} is not on "
            f"{platform.node()}: mount it there, or use a URL such as s3://."
        )


class JobFolder:
    """The folder of a job. job: with a local folder."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def reported(self) -> None:
        """Called after every report: the checkpoint is on disk."""

    def finish(self) -> None:
        """Called before the outcome is sent to the driver."""


class CopiedFolder(JobFolder):
    """A local copy of a folder with a URL.

    job: with the URL. local: an empty folder. checkpoint: name of the job's checkpoint.
    """

    def __init__(self, job: Job, local: Path, checkpoint: str) -> None:
        super().__init__(replace(job, folder=str(local)))
        self._remote, self._local, self._checkpoint = RemotePath(job.folder), local, checkpoint
        self._sent: dict[str, tuple[int, int]] = {}
        self._due = time.monotonic() + SECONDS

    def fetch(self) -> None:
        """Copy the files at the URL."""
        for name in self._remote.names():
            (self._local / name).parent.mkdir(parents=True, exist_ok=True)
            (self._remote / name).fetch(self._local / name)
        self._sent = self._state()

    def reported(self) -> None:
        if time.monotonic() < self._due:
            return
        started = time.monotonic()
        try:
            self._send()
        except FilesUnreachable as error:  # the end of the job decides
            print(f"A checkpoint waits for the next transfer: {error}", file=sys.stderr)
        now = time.monotonic()
        self._due = now + max(SECONDS, SHARE * (now - started))

    def finish(self) -> None:
        _patiently(self._send)

    def _send(self) -> None:
        """Send the changed files; a reader finds a network whose manifest is not finished, or a complete one.

        The checkpoint is last, because it may contain the outcome, after which the network is not written again.
        """
        state = self._state()
        changed = {name for name, about in state.items() if self._sent.get(name) != about}
        removed = self._sent.keys() - state.keys()
        networks = listed(self._local)
        if (changed | removed) & {*networks, MANIFEST} and networks:
            (self._remote / MANIFEST).write_text(manifest_text([*networks, *removed], {}))
            changed.add(MANIFEST)
        for name in removed:
            (self._remote / name).unlink(missing_ok=True)
            del self._sent[name]
        for name in sorted(changed, key=lambda name: (name == self._checkpoint, name == MANIFEST, name)):
            if name == MANIFEST and networks:
                (self._remote / name).write_text(manifest_text(networks, _hashes(self._local, networks)))
            else:
                (self._remote / name).send(self._local / name)
            self._sent[name] = state[name]

    def _state(self) -> dict[str, tuple[int, int]]:
        """Time and size of every file, by relative name."""
        paths = [path for path in self._local.rglob("*") if path.is_file()]
        stats = {str(path.relative_to(self._local)): path.stat() for path in paths}
        return {name: (stat.st_mtime_ns, stat.st_size) for name, stat in stats.items()}


def hand_over(checkpoint: str, source: str, target: str) -> None:
    """Copy the checkpoint of a folder into another one, in which a training continues; both paths or both URLs.

    checkpoint: name of the file. Nothing is done if the target has it, or if the source has none: the training then
    begins anew, with equal results.

    Raises FilesUnreachable if a place does not answer.
    """
    files, copies = place(source), place(target)
    if (copies / checkpoint).exists() or not (files / checkpoint).exists():
        return
    copies.mkdir(parents=True, exist_ok=True)
    if isinstance(files, RemotePath) or isinstance(copies, RemotePath):
        with scratch_folder() as scratch:
            RemotePath(f"{source}/{checkpoint}").fetch(scratch / checkpoint)
            RemotePath(f"{target}/{checkpoint}").send(scratch / checkpoint)
    else:
        shutil.copyfile(files / checkpoint, copies / f"{checkpoint}.tmp")
        os.replace(copies / f"{checkpoint}.tmp", copies / checkpoint)


def discard(evaluator: Evaluator, folder: str) -> None:
    """Delete the checkpoint of a job, also of a folder with a URL; there, the evaluator sees empty files.

    A place that does not answer keeps the checkpoint.
    """
    if not is_url(folder):
        evaluator.discard(folder)
        return
    remote = RemotePath(folder)
    try:
        names = remote.names()
        if not names:
            return
        with scratch_folder() as scratch:
            for name in names:
                (scratch / name).parent.mkdir(parents=True, exist_ok=True)
                (scratch / name).touch()
            evaluator.discard(scratch)
            for name in names:
                if not (scratch / name).exists():
                    (remote / name).unlink(missing_ok=True)
    except FilesUnreachable:
        return


def _hashes(folder: Path, names: list[str]) -> dict[str, str]:
    hashes = {}
    for name in names:
        if name != MANIFEST:
            with open(folder / name, "rb") as file:
                hashes[name] = file_digest(file, "sha256").hexdigest()
    return hashes


def _patiently(transfer: Callable[[], T]) -> T:
    """Make a transfer, and try again if its place does not answer."""
    for pause in PAUSES:
        try:
            return transfer()
        except FilesUnreachable as error:
            print(f"A transfer is tried again in {pause:.0f} s: {error}", file=sys.stderr)
            time.sleep(pause)
    return transfer()
