"""The audit of a study: proxies on its trained candidates, and ranked candidates against random controls."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import TYPE_CHECKING

from nas.audit.audit import AuditRow
from nas.audit.proxy_audit import audit_proxies
from nas.audit.reference import ArchitectureOf, ReferenceScores
from nas.audit.reliance import Reliance
from nas.audit.savings import Comparison, Savings, candidates_saved, control_comparison
from nas.audit.wording import audit_summary, reliance_line
from nas.config import Config
from nas.plugins import canonical_spec, installed
from nas.progress import Progress, Silent, State
from nas.proxies.contract import load_proxy
from nas.proxies.sizes import SIZE_PROXIES
from nas.seeds import seed

if TYPE_CHECKING:
    import pandas as pd

REFERENCE_SAMPLE = 1_000  # random architectures of an audit
EXPENSIVE_SAMPLE = 100  # part of them for proxies that need weights


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditResult:
    """The audit of several proxies.

    Attributes
    ----------
    rows : list of AuditRow
        One for every proxy that scored at least one candidate and one reference.
    problems : dict of str to str
        By the name of a proxy that could not score some candidate: the reason.
    """

    rows: list[AuditRow]
    problems: dict[str, str]

    def frame(self) -> pd.DataFrame:
        """One row per proxy; see :meth:`nas.study.Study.audit` for the columns."""
        import pandas as pd

        audit = pd.DataFrame([asdict(row) for row in self.rows], columns=[f.name for f in fields(AuditRow)])
        failed = pd.DataFrame({"proxy": [name for name in self.problems if name not in set(audit.proxy)]})
        if not failed.empty:
            audit = pd.concat([audit, failed.assign(n=0, references=0)], ignore_index=True)
        return audit.assign(problem=[self.problems.get(name) for name in audit.proxy])


@dataclass(frozen=True, kw_only=True)
class StudyAudit:
    """Audits on the trained candidates of a study.

    Parameters
    ----------
    config
        The settings of the study.
    trained
        The trained candidates, see :meth:`nas.study.Study.first_rung`.
    reference
        Scores of random architectures.
    architecture_of
        From the key of a candidate to its architecture.
    reliance
        By generation, counted from 0: whether the proxy ordered it.
    """

    config: Config
    trained: pd.DataFrame
    reference: ReferenceScores
    architecture_of: ArchitectureOf
    reliance: Mapping[int, Reliance]

    def result(self, *proxies: str, progress: Progress | None = None) -> AuditResult:
        """Audit the study's proxy, the sizes and further proxies; see :meth:`nas.study.Study.audit`."""
        requested = (name for p in proxies for name in (installed("nas.proxies") if p == "all" else [p]))
        specs = (canonical_spec("nas.proxies", name) for name in requested)
        loaded = {name: load_proxy(name) for name in dict.fromkeys((self.config.proxy, *SIZE_PROXIES, *specs))}
        accuracy = self.trained.accuracy
        rows = audit_proxies(
            self.reference,
            loaded,
            list(self.trained.key),
            cache(self.architecture_of),
            accuracy,
            references=lambda proxy: REFERENCE_SAMPLE if proxy.needs == "topology" else EXPENSIVE_SAMPLE,
            rng_seed=seed(self.config.seed, "audit"),
            on_progress=_AuditProgress(progress or Silent(), len(accuracy), float(accuracy.max())),
        )
        return AuditResult(rows=rows, problems=self.reference.problems)

    def comparison(self) -> tuple[Comparison, Savings]:
        """Compare ranked candidates with random controls.

        Returns
        -------
        Comparison
            The difference of their mean accuracies.
        Savings
            The number of candidates that ranking has saved.

        Notes
        -----
        The strategy that proposed the ranked candidates contributes to the difference.
        """
        ranked = self.trained.accuracy[self.trained.ranked]
        controls = self.trained.accuracy[self.trained.control]
        return control_comparison(ranked, controls), candidates_saved(ranked, controls)

    def lines(self) -> str:
        """The audit in two lines of text, and a third if the search stopped relying on its proxy."""
        proxy = self.config.proxy
        summary = audit_summary(self.result().rows, *self.comparison(), proxy=proxy)
        return "\n".join(filter(None, [summary, reliance_line(proxy, self.reliance)]))


class _AuditProgress:
    """Shows the progress of the scoring of proxies."""

    def __init__(self, progress: Progress, trained: int, best: float) -> None:
        self.progress, self.trained, self.best = progress, trained, best
        self._name, self._started = "", 0.0

    def __call__(self, name: str, done: int, total: int) -> None:
        if name != self._name:
            self._name, self._started = name, time.monotonic()
        left = (time.monotonic() - self._started) / done * (total - done)
        stage = f"audit: {name.rpartition(':')[2]}"
        state = State(stage=stage, done=done, total=total, trained=self.trained, best=self.best, seconds_left=left)
        self.progress.show(state)
