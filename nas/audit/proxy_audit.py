"""Audits of proxies on a study's trained candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from nas.audit.audit import AuditRow, Sample, audit
from nas.audit.reference import ArchitectureOf, ReferenceScores
from nas.audit.statistics import Floats
from nas.proxies.contract import Proxy, load_proxy
from nas.proxies.sizes import SIZE_PROXIES

OnProgress = Callable[[str, int, int], None]
"""Called with the name of a proxy, the number of scored architectures, and their total number."""

Scores = tuple[Floats, Floats]  # of trained candidates (N,), and of the reference (R,); NaN if the proxy failed


def audit_proxies(
    reference: ReferenceScores,
    proxies: Mapping[str, Proxy],
    keys: Sequence[str],
    architecture_of: ArchitectureOf,
    accuracy: ArrayLike,
    *,
    references: Callable[[Proxy], int],
    rng_seed: int,
    on_progress: OnProgress = lambda name, done, total: None,
) -> list[AuditRow]:
    """Audit proxies on a study's trained candidates.

    Parameters
    ----------
    reference : ReferenceScores
        Of the study. Its ``problems`` has an error for each proxy that failed on an architecture; the audit of this
        proxy leaves the architecture out.
    proxies : mapping of str to Proxy
        By name.
    keys : sequence of str
        Keys of the N trained candidates, all different.
    architecture_of : callable
        From a key of a candidate to its architecture; called for candidates without a stored score.
    accuracy : array_like, shape (N,)
        Their accuracies.
    references : callable
        The number of reference architectures for a proxy: fewer for an expensive one.
    rng_seed : int
        Seed of the bootstrap.
    on_progress : callable
        See ``OnProgress``.

    Returns
    -------
    list of AuditRow
        A row for every proxy that scored at least one candidate and one reference, in the order of ``proxies``. No row
        depends on the other proxies; the sizes are always rivals.
    """
    accuracy_N = np.asarray(accuracy, dtype=float)
    with_sizes = dict(proxies) | {name: load_proxy(name) for name in SIZE_PROXIES}
    counts = {name: references(proxy) for name, proxy in with_sizes.items()}
    sample = reference.sample(max(counts.values()))
    scores: dict[str, Scores] = {}
    try:
        for name, proxy in with_sizes.items():
            scores[name] = _scores(
                reference, name, proxy, keys, architecture_of, sample[: counts[name]], on_progress=on_progress
            )
        sizes_NS = reference.sizes(keys, architecture_of)
        sizes_RS = reference.sizes(sample, reference.architecture)
    finally:
        reference.save()
    rows: dict[str, AuditRow] = {}
    for names in _grouped_by_failures({name: scores[name] for name in proxies}):
        use_N, use_R = (np.flatnonzero(np.isfinite(values)) for values in scores[names[0]])
        if use_N.size and use_R.size:
            with_rivals = dict.fromkeys((*names, *SIZE_PROXIES))
            trained = Sample(proxies={n: scores[n][0][use_N] for n in with_rivals}, sizes=sizes_NS[use_N])
            random = Sample(proxies={n: scores[n][1][use_R] for n in with_rivals}, sizes=sizes_RS[use_R])
            audited = audit(trained, accuracy_N[use_N], random, rng=np.random.default_rng(rng_seed))
            rows |= {row.proxy: row for row in audited if row.proxy in names}
    return [rows[name] for name in proxies if name in rows]


def _scores(
    reference: ReferenceScores,
    name: str,
    proxy: Proxy,
    keys: Sequence[str],
    architecture_of: ArchitectureOf,
    sample: Sequence[str],
    *,
    on_progress: OnProgress,
) -> Scores:
    """Scores of the trained candidates and of a reference sample by one proxy."""
    first, total = len(keys), len(keys) + len(sample)
    return (
        reference.scores(name, proxy, keys, architecture_of, lambda done: on_progress(name, done, total)),
        reference.scores(
            name, proxy, sample, reference.architecture, lambda done: on_progress(name, first + done, total)
        ),
    )


def _grouped_by_failures(scores: Mapping[str, Scores]) -> list[list[str]]:
    """Groups of proxies that scored the same candidates and references, because these share a fit."""
    groups: dict[tuple[bytes, ...], list[str]] = {}
    for name, both in scores.items():
        groups.setdefault(tuple(np.isfinite(values).tobytes() for values in both), []).append(name)
    return list(groups.values())
