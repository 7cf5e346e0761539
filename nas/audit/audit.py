"""The audit of proxies: whether a score knows more about accuracy than size.

A large network is both more accurate and scored higher by anything that grows with size, so a raw rank correlation
proves little. The part that size explains is removed by local-linear regression on (log MACs of the smallest point, log
MACs of the largest point, depth), fitted on a fixed reference sample of random architectures of the space. The rank
correlation of a proxy that is nothing but size is then undefined.

References
----------
White et al., A Deeper Look at Zero-Cost Proxies for Lightweight NAS, ICLR blog track 2022 (size as the rival).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from nas.audit.statistics import (
    UNDEFINED,
    Floats,
    kendall_tau,
    local_linear,
    percentile_interval,
    resample_counts,
    resampled_taus,
    size_residuals,
    tau_within_bins,
)
from nas.errors import UserError
from nas.proxies.sizes import SIZE_PROXIES, depth
from nas.representation.architecture import Architecture
from nas.representation.cost import subnetwork_macs

Verdict = Literal["earned", "undecided", "worthless"]

TRIVIAL_TAU = 0.1  # a proxy is worthless if the interval of its size-removed τ lies below this
FEW = 20  # with fewer candidates, or reference architectures, every verdict is "undecided"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """Scores and sizes of N architectures.

    Attributes
    ----------
    proxies : mapping of str to ndarray, shape (N,)
        Scores by the name of the proxy.
    sizes : ndarray, shape (N, 3)
        Log MACs of the smallest point, log MACs of the largest point, depth; see :func:`sizes_of`.
    """

    proxies: Mapping[str, Floats]
    sizes: Floats

    def __post_init__(self) -> None:
        for name, values in self.proxies.items():
            if np.shape(values) != (len(self.sizes),):
                raise UserError(f"Every architecture must have a score. Got {np.shape(values)} for {name!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """The audit of one proxy. Intervals cover 95 %; NaN means unknown or undefined.

    Attributes
    ----------
    proxy : str
        Its name.
    n, references : int
        Number of trained candidates, and of architectures that the effect of size was fitted on. Intervals are NaN if
        either is below ``FEW``.
    tau, tau_low, tau_high : float
        Kendall's τ-b between score and accuracy, with its interval.
    tau_size_removed, size_removed_low, size_removed_high : float
        τ-b between the residuals of score and accuracy after size is removed, with its interval.
    tau_within_bins : float
        τ-b over pairs of candidates with similar MACs.
    behind : str or None
        The rival whose size-removed τ is larger with 95 % confidence.
    verdict : {"earned", "undecided", "worthless"}
        See :func:`audit`.
    """

    proxy: str
    n: int
    references: int
    tau: float
    tau_low: float
    tau_high: float
    tau_size_removed: float
    size_removed_low: float
    size_removed_high: float
    tau_within_bins: float
    behind: str | None
    verdict: Verdict


def sizes_of(architecture: Architecture) -> tuple[float, float, float]:
    """The sizes that the audit removes: log MACs of the smallest point, log MACs of the largest point, and depth."""
    small, large = (subnetwork_macs(architecture.topology, architecture.points[i]) for i in (0, -1))
    return math.log(max(1, small)), math.log(max(1, large)), depth(architecture)


def audit(
    trained: Sample,
    accuracy: ArrayLike,
    reference: Sample,
    *,
    rng: np.random.Generator,
    resamples: int = 1000,
    rivals: Sequence[str] = SIZE_PROXIES,
) -> list[AuditRow]:
    """Audit proxies on trained candidates.

    Parameters
    ----------
    trained : Sample
        The trained candidates, ranked ones and random controls, without failed ones.
    accuracy : array_like, shape (N,)
        Their accuracy: the study's score or any other.
    reference : Sample
        Random architectures of the space, drawn once per study (1,000 are enough).
    rng : numpy.random.Generator
        Draws the resamples of the bootstrap.
    resamples : int
        Number of resamples.
    rivals : sequence of str
        Proxies that a better proxy must not be behind. Rivals that are nothing but size do not count.

    Returns
    -------
    list of AuditRow
        One row for each proxy that both samples have, in the order of ``trained``.

    Raises
    ------
    UserError
        If an accuracy is missing or not finite.

    Notes
    -----
    The verdicts:

    - *earned*: the interval of the size-removed τ lies above 0 (the proxy knows something that size does not), and the
      proxy is not behind the best other rival: the interval of the difference of their size-removed τ, by a paired
      bootstrap, does not lie below 0. The raw τ has no influence: a score that is independent of size need not beat
      size, because the order of training trades it against MACs.
    - *worthless*: the proxy is nothing but size, or the interval of its size-removed τ lies below ``TRIVIAL_TAU``.
    - *undecided*: otherwise, and always with fewer than ``FEW`` candidates or reference architectures.

    Accuracy has no reference sample: its dependence on size is fitted on the trained candidates. All proxies share the
    resamples and one local fit: 0.1 s for 8 proxies, 200 candidates and 1,000 reference architectures.
    """
    accuracy_N = np.asarray(accuracy, dtype=float)
    if accuracy_N.shape != (len(trained.sizes),) or not np.isfinite(accuracy_N).all():
        raise UserError(f"Every trained candidate must have a finite accuracy. Got shape {accuracy_N.shape}.")
    names = [name for name in trained.proxies if name in reference.proxies]
    if not names:
        return []
    values_NP, residual_NP, left_N = _size_removed(trained, accuracy_N, reference, names)
    counts_BN = resample_counts(len(accuracy_N), resamples, rng)
    removed = {name: kendall_tau(residual_NP[:, p], left_N) for p, name in enumerate(names)}
    removed_B = {name: resampled_taus(residual_NP[:, p], left_N, counts_BN) for p, name in enumerate(names)}
    few = min(len(accuracy_N), len(reference.sizes)) < FEW
    rows = []
    for p, name in enumerate(names):
        behind = None if few else _better_rival(name, rivals, removed, removed_B)
        low, high = UNDEFINED if few else percentile_interval(removed_B[name])
        tau_low, tau_high = (
            UNDEFINED if few else percentile_interval(resampled_taus(values_NP[:, p], accuracy_N, counts_BN))
        )
        only_size = not residual_NP[:, p].any()
        rows.append(
            AuditRow(
                proxy=name,
                n=len(accuracy_N),
                references=len(reference.sizes),
                tau=kendall_tau(values_NP[:, p], accuracy_N),
                tau_low=tau_low,
                tau_high=tau_high,
                tau_size_removed=removed[name],
                size_removed_low=low,
                size_removed_high=high,
                tau_within_bins=tau_within_bins(values_NP[:, p], accuracy_N, trained.sizes[:, 1]),
                behind=behind,
                verdict="undecided" if few else _verdict(low, high, behind, only_size=only_size),
            )
        )
    return rows


def _size_removed(
    trained: Sample, accuracy_N: Floats, reference: Sample, names: Sequence[str]
) -> tuple[Floats, Floats, Floats]:
    """Scores and their residuals after size is removed, both of shape (N, P), and the residuals of accuracy, (N,)."""
    values_NP, reference_RP = (np.column_stack([s.proxies[name] for name in names]) for s in (trained, reference))
    residual_NP = size_residuals(values_NP, trained.sizes, reference_RP, reference.sizes)
    fitted_N = local_linear(trained.sizes, trained.sizes, accuracy_N[:, None])[:, 0]
    return values_NP, residual_NP, accuracy_N - fitted_N


def _better_rival(
    name: str, rivals: Sequence[str], taus: Mapping[str, float], resampled: Mapping[str, Floats]
) -> str | None:
    """The best of the other rivals if its size-removed τ is larger than the proxy's with 95 % confidence."""
    candidates = [rival for rival in rivals if rival != name and not math.isnan(taus.get(rival, math.nan))]
    if not candidates:
        return None
    best = max(candidates, key=taus.__getitem__)
    return best if percentile_interval(resampled[name] - resampled[best])[1] < 0 else None


def _verdict(low: float, high: float, behind: str | None, *, only_size: bool) -> Verdict:
    if only_size or high < TRIVIAL_TAU:
        return "worthless"
    return "earned" if low > 0 and behind is None else "undecided"
