"""The reference sample of a study, and scores of architectures by proxies, stored beside the study's files.

It takes one or two seconds to draw 1,000 architectures, and an expensive proxy takes 0.1 s for each. So scores and
sizes are stored as JSON, by the key of the architecture. They are valid for one version of the code: after a change of
the framework, a space or a proxy they are computed again. The file only saves time and may be deleted.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from nas.audit.audit import sizes_of
from nas.audit.statistics import Floats
from nas.config import Config
from nas.errors import PluginError
from nas.proxies.contract import Proxy, evaluate
from nas.representation.architecture import Architecture
from nas.representation.elements import Task
from nas.screening.proposals import Proposal
from nas.screening.screener import screener_of
from nas.seeds import seed
from nas.spaces.choices import at_random
from nas.spaces.contract import SearchSpace
from results.errors import StoreError
from results.files.places import Place, replace_text

FILE = "scores.json"
ATTEMPTS = 12  # at most, random proposals per architecture of the reference sample
_SAMPLED_BY = ("spaces", "seed", "points", "max_macs", "max_params", "low", "rule")

ArchitectureOf = Callable[[str], Architecture]
"""From the key of an architecture to the architecture."""


class ReferenceScores:
    """Draws the reference sample of a study, and computes the scores and sizes of architectures, each once.

    Parameters
    ----------
    folder : Path or RemotePath
        The study's files. If the folder cannot be written, nothing is stored.
    config : Config
        The study's settings, with its lower budget.
    task : Task
        The study's task.
    spaces : mapping of str to SearchSpace
        The study's spaces by name.
    code : bytes, optional
        The version of the framework's code; by default the content of its files.

    Attributes
    ----------
    problems : dict of str to str
        By proxy, the error for the first architecture that it could not score.
    """

    def __init__(
        self,
        folder: Place,
        config: Config,
        task: Task,
        spaces: Mapping[str, SearchSpace],
        *,
        code: bytes | None = None,
    ) -> None:
        self.problems: dict[str, str] = {}
        self._config, self._task, self._spaces = config, task, spaces
        self._path = folder / FILE
        self._architectures: dict[str, Architecture] = {}
        sampled_by = {name: getattr(config, name) for name in _SAMPLED_BY} | {"task": repr(task)}
        code = _framework() if code is None else code
        self._version = _digest(json.dumps(sampled_by, sort_keys=True), code, *map(_source, spaces.values()))
        self._stored = self._read()
        self._labels: dict[str, str] = {}
        self._changed = False  # whether the file lacks anything

    def sample(self, count: int) -> list[str]:
        """Keys of the first ``count`` random feasible architectures of the study's spaces, the same at every call.

        Fewer if feasible architectures are rare. A key is repeated if its architecture is drawn again.
        """
        if len(self._stored["keys"]) < count and self._stored["attempts"] < ATTEMPTS * count:
            self._draw(count)
        keys: list[str] = self._stored["keys"][:count]
        return keys

    def architecture(self, key: str) -> Architecture:
        """An architecture of the reference sample."""
        if key not in self._architectures:
            self._draw(len(self._stored["keys"]))
        return self._architectures[key]

    def sizes(self, keys: Sequence[str], architecture_of: ArchitectureOf) -> Floats:
        """Sizes of architectures as the audit defines them, shape (N, 3)."""
        sizes = self._stored["sizes"]
        for key in keys:
            if key not in sizes:
                sizes[key] = list(sizes_of(architecture_of(key)))
                self._changed = True
        return np.array([sizes[key] for key in keys], dtype=float).reshape(-1, 3)

    def scores(
        self,
        name: str,
        proxy: Proxy,
        keys: Sequence[str],
        architecture_of: ArchitectureOf,
        on_progress: Callable[[int], None] = lambda done: None,
    ) -> Floats:
        """Scores of architectures by a proxy.

        Parameters
        ----------
        name : str
            The name of the proxy.
        proxy : Proxy
            Called for architectures without a stored score.
        keys : sequence of str
            Keys of N architectures.
        architecture_of : callable
            From a key to its architecture; called for architectures without a stored score.
        on_progress : callable
            Called after each architecture with the number of scored architectures.

        Returns
        -------
        ndarray, shape (N,)
            NaN if the proxy fails; :attr:`problems` has the first error.
        """
        stored = self._scores_by(name, proxy)
        scores = []
        for done, key in enumerate(keys, start=1):
            score = stored.get(key, math.nan)
            if math.isnan(score):
                try:
                    score = stored[key] = evaluate(architecture_of(key), {name: proxy})[name]
                    self._changed = True
                except PluginError as error:
                    self.problems.setdefault(name, str(error))
            scores.append(score)
            on_progress(done)
        return np.array(scores, dtype=float)

    def save(self) -> None:
        """Write the file, if there is anything new and the folder can be written."""
        if not self._changed:
            return
        with suppress(OSError, StoreError):
            replace_text(self._path, json.dumps({"version": self._version} | self._stored))
            self._changed = False

    def _scores_by(self, name: str, proxy: Proxy) -> dict[str, float]:
        """Stored scores by a proxy: key → score."""
        if name not in self._labels:
            self._labels[name] = f"{name} {_digest(_source(proxy))}"
        scores: dict[str, float] = self._stored["scores"].setdefault(self._labels[name], {})
        return scores

    def _draw(self, count: int) -> None:
        """Draw the sample from its beginning, as a function of the study's seed."""
        screener = screener_of(replace(self._config, proxy="macs"), self._task, self._spaces)
        decide = at_random(np.random.default_rng(seed(self._config.seed, "reference")))
        keys: list[str] = []
        attempts = 0
        while len(keys) < count and attempts < ATTEMPTS * count:
            attempts += 1
            proposal = screener.propose(decide)
            if isinstance(proposal, Proposal):
                keys.append(proposal.key)
                self._architectures[proposal.key] = proposal.architecture
        if len(keys) > len(self._stored["keys"]) or attempts > self._stored["attempts"]:
            self._stored |= {"keys": keys, "attempts": attempts}
            self._changed = True

    def _read(self) -> dict[str, Any]:
        """The content of the file; empty if it is missing or broken, or from another study or version of the code."""
        empty: dict[str, Any] = {"keys": [], "attempts": 0, "sizes": {}, "scores": {}}
        with suppress(OSError, ValueError):
            content = json.loads(self._path.read_text(encoding="utf-8"))
            if isinstance(content, dict) and content.pop("version", None) == self._version:
                return empty | content
        return empty


def _digest(*parts: str | bytes) -> str:
    digest = sha256()
    for part in parts:
        digest.update(sha256(part.encode() if isinstance(part, str) else part).digest())
    return digest.hexdigest()[:16]


@cache
def _framework() -> bytes:
    """The code on which costs, scores and proposals depend: all files of the package ``nas``."""
    return b"".join(path.read_bytes() for path in sorted(Path(__file__).parents[1].rglob("*.py")))


def _source(plugin: Any) -> bytes:
    """The content of the file that a plug-in comes from; empty if there is none, as in an interactive session."""
    defined = plugin if inspect.isfunction(plugin) or isinstance(plugin, type) else type(plugin)
    with suppress(OSError, TypeError):
        if file := inspect.getsourcefile(defined):
            return Path(file).read_bytes()
    return b""
