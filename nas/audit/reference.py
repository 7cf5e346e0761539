"""The audit's reference sample, and scores of architectures by proxy, kept beside a study's files.

A thousand architectures cost a second or two to draw and a dear proxy a tenth of a second each to score, so what was
worked out is kept as JSON, by the architecture's key. It is good for the code that made it: when that of the framework,
of a space or of a proxy changes, it is worked out anew. Nothing but time is lost with the file.
"""

from __future__ import annotations

import inspect
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from nas.audit.statistics import Floats, sizes_of
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

FILE = "scores.json"
ATTEMPTS = 12  # random proposals for each architecture of the reference sample that is wanted
_SAMPLED_BY = ("spaces", "seed", "points", "max_macs", "max_params", "low", "rule")

ArchitectureOf = Callable[[str], Architecture]


class Scorebook:
    """Draws the reference sample of a study and scores architectures, each once.

    folder: the study's files; where they cannot be written, nothing is kept. config: with the study's lower budget.
    problems: by proxy, what the first architecture that it could not score got in place of a score.
    """

    def __init__(self, folder: Path, config: Config, task: Task, spaces: Mapping[str, SearchSpace]) -> None:
        self.problems: dict[str, str] = {}
        self._config, self._task, self._spaces = config, task, spaces
        self._path = folder / FILE
        self._drawn: dict[str, Architecture] = {}
        about = {name: getattr(config, name) for name in _SAMPLED_BY} | {"task": repr(task)}
        self._version = _digest(json.dumps(about, sort_keys=True), _framework(), *map(_source, spaces.values()))
        self._kept = self._read()
        self._changed = False

    def reference(self, count: int) -> list[str]:
        """Keys of the first ``count`` random feasible architectures of the study's spaces, the same at every call.

        Fewer where feasible ones are rare. A network that comes up twice is there twice.
        """
        if len(self._kept["keys"]) < count and self._kept["attempts"] < ATTEMPTS * count:
            self._draw(count)
        keys: list[str] = self._kept["keys"][:count]
        return keys

    def drawn(self, key: str) -> Architecture:
        """An architecture of the reference sample."""
        if key not in self._drawn:
            self._draw(len(self._kept["keys"]))
        return self._drawn[key]

    def sizes(self, keys: Sequence[str], architecture_of: ArchitectureOf) -> Floats:
        """Sizes as the audit takes them, shape (N, 3)."""
        kept = self._kept["sizes"]
        for key in keys:
            if key not in kept:
                kept[key] = list(sizes_of(architecture_of(key)))
                self._changed = True
        return np.array([kept[key] for key in keys], dtype=float).reshape(-1, 3)

    def scores(
        self,
        name: str,
        proxy: Proxy,
        keys: Sequence[str],
        architecture_of: ArchitectureOf,
        tell: Callable[[int], None] = lambda done: None,
    ) -> Floats:
        """Scores by a proxy, shape (N,); NaN where it fails, which :attr:`problems` tells. tell: after each, how many
        are done.
        """
        kept = self._kept["scores"].setdefault(f"{name} {_digest(_source(proxy))}", {})
        scores = []
        for done, key in enumerate(keys, start=1):
            score = kept.get(key, math.nan)
            if math.isnan(score):
                try:
                    score = kept[key] = evaluate(architecture_of(key), {name: proxy})[name]
                    self._changed = True
                except PluginError as error:
                    self.problems.setdefault(name, str(error))
            scores.append(score)
            tell(done)
        return np.array(scores, dtype=float)

    def save(self) -> None:
        """Keep what was worked out since the last time, if it can be written."""
        if not self._changed:
            return
        partial = self._path.with_name(f"{FILE}.{os.getpid()}.partial")
        with suppress(OSError):
            partial.write_text(json.dumps({"version": self._version} | self._kept), encoding="utf-8")
            os.replace(partial, self._path)
            self._changed = False

    def _draw(self, count: int) -> None:
        """Draw the sample from its beginning: it is a function of the study's seed alone."""
        screener = screener_of(replace(self._config, proxy="macs"), self._task, self._spaces)
        decide = at_random(np.random.default_rng(seed(self._config.seed, "reference")))
        keys: list[str] = []
        attempts = 0
        while len(keys) < count and attempts < ATTEMPTS * count:
            attempts += 1
            proposal = screener.propose(decide)
            if isinstance(proposal, Proposal):
                keys.append(proposal.key)
                self._drawn[proposal.key] = proposal.architecture
        if len(keys) > len(self._kept["keys"]) or attempts > self._kept["attempts"]:
            self._kept |= {"keys": keys, "attempts": attempts}
            self._changed = True

    def _read(self) -> dict[str, Any]:
        """What was kept of the same study by the same code; nothing where that is not to be read."""
        empty: dict[str, Any] = {"keys": [], "attempts": 0, "sizes": {}, "scores": {}}
        with suppress(OSError, ValueError):
            found = json.loads(self._path.read_text(encoding="utf-8"))
            if isinstance(found, dict) and found.pop("version", None) == self._version:
                return empty | found
        return empty


def _digest(*parts: str | bytes) -> str:
    digest = sha256()
    for part in parts:
        digest.update(sha256(part.encode() if isinstance(part, str) else part).digest())
    return digest.hexdigest()[:16]


@cache
def _framework() -> bytes:
    """All that costs, scores and proposals are made of."""
    return b"".join(path.read_bytes() for path in sorted(Path(__file__).parents[1].rglob("*.py")))


def _source(thing: Any) -> bytes:
    """The file that a plug-in comes from; nothing where there is none, as at a prompt."""
    made = thing if inspect.isfunction(thing) or isinstance(thing, type) else type(thing)
    with suppress(OSError, TypeError):
        if file := inspect.getsourcefile(made):
            return Path(file).read_bytes()
    return b""
