"""What trained candidates say of proxies, and whether a search goes on relying on its own.

A proxy that is no better than size costs a search: it screens hundreds of proposals for an order that is worth nothing,
or worse. So the driver audits it before every generation, on what has been trained by then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nas.audit.reference import ArchitectureOf, Scorebook
from nas.audit.statistics import FEW, AuditRow, Floats, Sample, audit
from nas.audit.wording import numbers
from nas.proxies.contract import Proxy, load_proxy
from nas.proxies.sizes import SIZE_PROXIES

REFERENCES = 300  # architectures that size is fitted on between generations; the audit at the end takes more

Tell = Callable[[str, int, int], None]
Scores = tuple[Floats, Floats]  # of trained candidates (N,), and of the reference (R,); NaN where a proxy failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliance:
    """Whether the order of a generation's training is by the study's proxy, and why. trained: what is known by then."""

    relied: bool
    trained: int
    reason: str


def decide(
    book: Scorebook,
    proxy: tuple[str, Proxy],
    keys: Sequence[str],
    architecture_of: ArchitectureOf,
    accuracy: ArrayLike,
    *,
    rng_seed: int,
) -> Reliance:
    """Whether to rely on a proxy, from the trained candidates and their accuracy at one fidelity.

    It is relied on until there are ``FEW`` of them, and from then on unless it is worthless beyond size, or surely
    behind one of the sizes: see :func:`nas.audit.statistics.audit`. A function of the arguments and of the reference
    sample.
    """
    if len(keys) < FEW:
        return Reliance(relied=True, trained=len(keys), reason=f"fewer than {FEW} candidates were trained")
    name, score_of = proxy
    rows = audited(
        book, {name: score_of}, keys, architecture_of, accuracy, references=lambda _: REFERENCES, rng_seed=rng_seed
    )
    if not rows:
        return Reliance(relied=True, trained=len(keys), reason="it cannot be audited")
    (row,) = rows
    ahead = f"surely behind {row.behind} with size removed; " if row.behind else ""
    relied = row.verdict != "worthless" and not row.behind
    return Reliance(relied=relied, trained=len(keys), reason=f"{ahead}{numbers(row)}")


def audited(
    book: Scorebook,
    proxies: Mapping[str, Proxy],
    keys: Sequence[str],
    architecture_of: ArchitectureOf,
    accuracy: ArrayLike,
    *,
    references: Callable[[Proxy], int],
    rng_seed: int,
    tell: Tell = lambda name, done, total: None,
) -> list[AuditRow]:
    """A row of the audit for every proxy that could score candidates, in the order of ``proxies``.

    keys: of the trained candidates, different; architecture_of: theirs, called at need. accuracy: theirs, shape (N,).
    references: how many random architectures a proxy is worth. tell: what is being scored, how many are done, of how
    many.

    What a proxy cannot score is left out for it, and told by ``book.problems``. No row depends on which other proxies
    are asked for; the sizes are rivals whether they are or not.
    """
    asked = dict(proxies) | {name: load_proxy(name) for name in SIZE_PROXIES}
    accuracy_N = np.asarray(accuracy, dtype=float)
    counts = {name: references(proxy) for name, proxy in asked.items()}
    reference = book.reference(max(counts.values()))
    scores: dict[str, Scores] = {}
    try:
        for name, proxy in asked.items():
            sample = reference[: counts[name]]
            told = partial(_told, tell, name, len(keys) + len(sample))
            scores_N = book.scores(name, proxy, keys, architecture_of, told)
            scores[name] = scores_N, book.scores(name, proxy, sample, book.drawn, partial(told, before=len(keys)))
        sizes_NS, sizes_RS = book.sizes(keys, architecture_of), book.sizes(reference, book.drawn)
    finally:
        book.save()
    rows: dict[str, AuditRow] = {}
    for names in _alike({name: scores[name] for name in proxies}):
        use_N, use_R = (np.flatnonzero(np.isfinite(values)) for values in scores[names[0]])
        if use_N.size and use_R.size:
            together = dict.fromkeys((*names, *SIZE_PROXIES))
            trained = Sample(proxies={n: scores[n][0][use_N] for n in together}, sizes=sizes_NS[use_N])
            random = Sample(proxies={n: scores[n][1][use_R] for n in together}, sizes=sizes_RS[use_R])
            found = audit(trained, accuracy_N[use_N], random, rng=np.random.default_rng(rng_seed))
            rows |= {row.proxy: row for row in found if row.proxy in names}
    return [rows[name] for name in proxies if name in rows]


def _told(tell: Tell, name: str, total: int, done: int, before: int = 0) -> None:
    tell(name, before + done, total)


def _alike(scores: Mapping[str, Scores]) -> list[list[str]]:
    """The names of proxies, those together that scored the same candidates and references: they share a fit."""
    groups: dict[tuple[bytes, ...], list[str]] = {}
    for name, both in scores.items():
        groups.setdefault(tuple(np.isfinite(values).tobytes() for values in both), []).append(name)
    return list(groups.values())


def relied_on(decisions: Mapping[str, Any], generation: int) -> bool:
    """Whether a generation, counted from 0, was ordered by the proxy, from what the driver keeps in the memo."""
    about = decisions.get(str(generation))
    return about is None or bool(about["relied"])
