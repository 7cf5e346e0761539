"""A surrogate of training: ridge regression on the operations of a network, refitted on all trained candidates.

The features of an architecture come in blocks: sizes (log MACs and parameters of the smallest and largest point,
depth), their squares, because the best size may lie between the extremes, counts of kinds of operation, counts of pairs
of consecutive operations, and blocks that the caller adds, such as a proxy's score. Columns are standardised, then
every block is scaled to a total variance of one. So all blocks have the same prior variance, whatever their number of
columns, and a block of one column is not dominated by one of hundreds. Where the results follow size, counts of
operations hide it in the first trials: their blocks can be shrunk, if this lowers the leave-one-out error.

The strength of the ridge minimises the leave-one-out error, in closed form. Predictions have the standard deviation of
the posterior, calibrated so that it agrees with the size of the leave-one-out errors.

References
----------
Hoerl & Kennard, Ridge Regression: Biased Estimation for Nonorthogonal Problems, Technometrics 1970.
Allen, The Relationship between Variable Selection and Data Augmentation and a Method for Prediction, Technometrics
    1974 (leave-one-out error in closed form, PRESS).
Bishop, Pattern Recognition and Machine Learning, 2006, section 3.3 (the posterior).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.errors import UserError
from nas.representation.architecture import Architecture
from nas.representation.cost import subnetwork_depth, subnetwork_macs, subnetwork_params
from nas.representation.elements import Size
from nas.representation.topology import Topology

Floats = NDArray[np.float64]
Blocks = Mapping[str, Mapping[Hashable, float]]
"""Features by block and name; missing features are 0."""

STRENGTHS = np.geomspace(1e-3, 1e5, 33)
"""Strengths of the ridge that are compared."""

COUNTS = ("operations", "pairs")
"""The blocks of counts."""

SHRUNK = 0.1
"""The scale of shrunk blocks."""

_RANK = 1e-12  # eigenvalues below this share of the largest one are rounding errors


def features(architecture: Architecture, macs: Sequence[int] | None = None) -> dict[str, dict[Hashable, float]]:
    """The features of an architecture: the blocks "sizes", "squares" (of the sizes), "operations" and "pairs".

    Parameters
    ----------
    architecture : Architecture
        Any architecture.
    macs : sequence of int, optional
        MACs of every level, if they are known.

    Returns
    -------
    dict of str to dict
        Values by block and name. An operation counts by the share of the operating points at which it is live. So does
        a pair, which is an operation and another one that reads the map that it writes. Operations have a label of
        kind, kernel, stride, groups and wiring.

    Notes
    -----
    O(operations + pairs). About 70 µs for 27 operations, 50 µs with given MACs; half of it for MACs and parameters.

    Examples
    --------
    >>> from nas import Task
    >>> from nas.representation.builder import Builder
    >>> builder = Builder(Task(input_shape=(3, 8, 8), num_classes=10))
    >>> x = builder.conv(builder.input, (4, 8), kernel=3)
    >>> output = builder.head(builder.depthwise(x, kernel=3, stride=2))
    >>> blocks = features(builder.architecture(2))
    >>> blocks["operations"]
    {'conv 3x3': 1.0, 'depthwise conv 3x3 /2x2': 1.0, 'global_avg_pool': 1.0, 'linear': 1.0}
    >>> blocks["pairs"]["conv 3x3", "depthwise conv 3x3 /2x2"]
    1.0
    """
    topology, points = architecture.topology, architecture.points
    smallest, largest = points[0], points[-1]
    ends = (macs[0], macs[-1]) if macs is not None else tuple(subnetwork_macs(topology, p) for p in (smallest, largest))
    sizes: dict[Hashable, float] = {
        "log smallest macs": math.log(max(1, ends[0])),
        "log largest macs": math.log(max(1, ends[1])),
        "log smallest params": math.log(max(1, subnetwork_params(topology, smallest))),
        "log largest params": math.log(max(1, subnetwork_params(topology, largest))),
        "depth": float(subnetwork_depth(architecture.topology, architecture.points[-1])),
    }
    labels = _labels(topology)
    shares: dict[tuple[int, ...], float] = {}  # points mostly run the same operations at different widths
    for point in points:
        shares[point.operations] = shares.get(point.operations, 0.0) + 1 / len(points)
    operations: dict[Hashable, float] = {}
    pairs: dict[Hashable, float] = {}
    sources = [operation.source for operation in topology.operations]
    targets = [operation.target for operation in topology.operations]
    for live, share in shares.items():
        writers: dict[int, list[str]] = {}
        for o in live:
            label = labels[o]
            operations[label] = operations.get(label, 0.0) + share
            writers.setdefault(targets[o], []).append(label)
        for o in live:
            label = labels[o]
            for before in writers.get(sources[o], ()):
                pair = before, label
                pairs[pair] = pairs.get(pair, 0.0) + share
    squares: dict[Hashable, float] = {name: value**2 for name, value in sizes.items()}
    return {"sizes": sizes, "squares": squares, "operations": operations, "pairs": pairs}


def _labels(topology: Topology) -> list[str]:
    maps = topology.maps
    return [
        _label(o.kind, o.kernel, o.stride, 1 if o.groups == 1 else 2 + (o.groups == maps[o.source].channels), o.wiring)
        for o in topology.operations
    ]


@lru_cache(maxsize=4096)
def _label(kind: str, kernel: Size, stride: Size, grouped: int, wiring: str) -> str:
    """The label of an operation. grouped: 1 no, 2 yes, 3 depthwise."""
    parts = [("", "", "grouped", "depthwise")[grouped], "causal" if wiring == "causal" else "", kind]
    parts.append("x".join(map(str, kernel)))
    parts.append("/" + "x".join(map(str, stride)) if stride and max(stride) > 1 else "")
    return " ".join(filter(None, parts))


@dataclass(frozen=True, eq=False, kw_only=True)
class Ridge:
    """A fitted ridge regression with an intercept that is not penalised.

    Attributes
    ----------
    centre : ndarray, shape (P,)
        Mean of the columns.
    intercept : float
        Mean of the values.
    weights : ndarray, shape (P,)
        Of the columns.
    directions : ndarray, shape (P, R)
        Orthonormal directions in which the columns vary.
    spread : ndarray, shape (R,)
        Their squared singular values.
    strength : float
        The penalty on the sum of squared weights.
    count : int
        Number of rows of the fit.
    noise : float
        Variance of a value around the prediction.
    left_out : ndarray, shape (N,)
        Prediction of each row by a fit on the other rows.
    """

    centre: Floats
    intercept: float
    weights: Floats
    directions: Floats
    spread: Floats
    strength: float
    count: int
    noise: float
    left_out: Floats

    def predict(self, columns: ArrayLike, *, unseen: ArrayLike = 0.0) -> tuple[Floats, Floats]:
        """Predict values, without the noise.

        Parameters
        ----------
        columns : array_like, shape (N, P)
            The rows to predict.
        unseen : array_like, shape (N,) or ()
            Squared length of the rows in columns that the fit did not have; their weights have the prior's mean of 0
            and its variance.

        Returns
        -------
        (ndarray, ndarray), shape (N,)
            Mean and standard deviation.

        Notes
        -----
        Posterior variance: noise · (1/n + xᵀ(XᵀX + λ)⁻¹x).
        """
        centred_NP = np.asarray(columns, dtype=float) - self.centre
        along_NR = centred_NP @ self.directions
        outside_N = np.maximum(0.0, (centred_NP**2).sum(axis=1) - (along_NR**2).sum(axis=1)) + unseen
        share_N = (along_NR**2 / (self.spread + self.strength)).sum(axis=1) + outside_N / self.strength
        return self.intercept + centred_NP @ self.weights, np.sqrt(self.noise * (1 / self.count + share_N))


def fit_ridge(columns: ArrayLike, values: ArrayLike, strengths: ArrayLike = STRENGTHS) -> Ridge:
    """Fit a ridge regression with the strength of the smallest leave-one-out error.

    Parameters
    ----------
    columns : array_like, shape (N, P)
        At least two rows, finite.
    values : array_like, shape (N,)
        Finite.
    strengths : array_like
        Positive strengths to choose from.

    Returns
    -------
    Ridge
        Its noise makes the squared leave-one-out errors equal to the predictive variances, on average.

    Raises
    ------
    UserError
        If an argument has another shape or other values.

    Notes
    -----
    One eigen-decomposition of the smaller Gram matrix, O(N P min(N, P)), serves all strengths. With the hat matrix
    H = 1/n + X (XᵀX + λ)⁻¹ Xᵀ of centred columns, the leave-one-out error of row i is (y − Hy)ᵢ / (1 − Hᵢᵢ).
    """
    columns_NP, values_N = np.asarray(columns, dtype=float), np.asarray(values, dtype=float)
    strengths_S = np.asarray(strengths, dtype=float)
    if columns_NP.ndim != 2 or values_N.shape != columns_NP.shape[:1] or len(values_N) < 2:
        raise UserError(
            "A ridge must have two rows or more, and a value of each. "
            f"Got columns of shape {columns_NP.shape} and values of shape {values_N.shape}."
        )
    if not (np.isfinite(columns_NP).all() and np.isfinite(values_N).all()):
        raise UserError("Columns and values of a ridge must be finite. Leave out the other rows.")
    if strengths_S.ndim != 1 or not strengths_S.size or not (strengths_S > 0).all():
        raise UserError(f"The strengths of a ridge must be positive. Got {strengths_S.tolist()}.")
    count = len(values_N)
    centre_P, intercept = columns_NP.mean(axis=0), float(values_N.mean())
    centred_NP, residual_N = columns_NP - centre_P, values_N - intercept
    rows_NR, directions_PR, spread_R = _decomposed(centred_NP)
    shrunk_RS = spread_R[:, None] / (spread_R[:, None] + strengths_S)
    along_R = rows_NR.T @ residual_N
    missed_NS = residual_N[:, None] - rows_NR @ (shrunk_RS * along_R[:, None])
    free_NS = 1 - 1 / count - rows_NR**2 @ shrunk_RS
    error_NS = missed_NS / free_NS
    best = int(np.argmin((error_NS**2).mean(axis=0)))
    strength = float(strengths_S[best])
    return Ridge(
        centre=centre_P,
        intercept=intercept,
        weights=directions_PR @ (np.sqrt(spread_R) / (spread_R + strength) * along_R),
        directions=directions_PR,
        spread=spread_R,
        strength=strength,
        count=count,
        noise=float((error_NS[:, best] ** 2 * free_NS[:, best]).mean()),
        left_out=values_N - error_NS[:, best],
    )


def _decomposed(matrix_NP: Floats) -> tuple[Floats, Floats, Floats]:
    """Left and right singular vectors, (N, R) and (P, R), and squared singular values (R,), for values other than 0."""
    wide = matrix_NP.shape[0] < matrix_NP.shape[1]
    gram = matrix_NP @ matrix_NP.T if wide else matrix_NP.T @ matrix_NP
    spread, vectors = np.linalg.eigh(gram)
    positive = spread > max(_RANK * spread[-1], 0.0) if spread.size else np.zeros(0, dtype=bool)
    spread, vectors = spread[positive], vectors[:, positive]
    conjugate = (matrix_NP.T if wide else matrix_NP) @ vectors / np.sqrt(spread)
    return (vectors, conjugate, spread) if wide else (conjugate, vectors, spread)


class Surrogate:
    """A ridge regression on blocks of features, with the scales that the module describes.

    Parameters
    ----------
    rows : sequence of mapping
        The features of N ≥ 2 trained candidates, all with the same blocks.
    values : sequence of float
        Their anytime accuracies, losses, or other values.
    may_shrink : sequence of str
        Blocks that are scaled by ``SHRUNK``, all or none, whichever has the smaller leave-one-out error.

    Raises
    ------
    UserError
        As :func:`fit_ridge`.

    Notes
    -----
    Equal rows and values in equal order give equal predictions. With 300 rows of 27 operations, about 6 ms to fit,
    7 if blocks may shrink, and 20 µs per single prediction.
    """

    def __init__(self, rows: Sequence[Blocks], values: Sequence[float], *, may_shrink: Sequence[str] = ()) -> None:
        names = sorted({(block, name) for row in rows for block, named in row.items() for name in named}, key=repr)
        self._place: dict[str, dict[Hashable, int]] = {block: {} for block in (rows[0] if rows else ())}
        for place, (block, name) in enumerate(names):
            self._place.setdefault(block, {})[name] = place
        self._width = len(names)
        self._scale_P, self._unit = np.ones(self._width), dict.fromkeys(self._place, 1.0)
        raw_NP = np.array([self._columns(row)[0] for row in rows]).reshape(len(rows), self._width)
        deviation_P = raw_NP.std(axis=0) if len(rows) else self._scale_P
        varies_P = deviation_P > 1e-9 * np.maximum(1.0, np.abs(raw_NP).max(axis=0, initial=0.0))
        for block, places in self._place.items():
            of_block = list(places.values())
            self._unit[block] = 1 / math.sqrt(max(1, int(varies_P[of_block].sum())))
            self._scale_P[of_block] = self._unit[block]
        # A constant column has no scale of its own; it matters for candidates with another value, like an unseen one.
        self._scale_P = self._scale_P / np.where(varies_P, deviation_P, 1.0)
        self.ridge = fit_ridge(raw_NP * self._scale_P, values)
        if may_shrink:
            self._shrink(may_shrink, raw_NP, np.asarray(values, dtype=float))

    def _shrink(self, blocks: Sequence[str], raw_NP: Floats, values_N: Floats) -> None:
        """Shrink blocks if the leave-one-out error falls."""
        scale_P = self._scale_P.copy()
        for block in blocks:
            scale_P[list(self._place[block].values())] *= SHRUNK
        ridge = fit_ridge(raw_NP * scale_P, values_N)
        if ((ridge.left_out - values_N) ** 2).mean() < ((self.ridge.left_out - values_N) ** 2).mean():
            self.ridge, self._scale_P = ridge, scale_P
            self._unit |= {block: SHRUNK * self._unit[block] for block in blocks}

    def predict(self, rows: Sequence[Blocks]) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the values of candidates, shapes (N,), without the noise of training.

        Raises UserError if a row has a block that the fit did not have.
        """
        pairs = [self._columns(row) for row in rows]
        columns_NP = np.array([columns for columns, _ in pairs]).reshape(len(pairs), self._width)
        return self.ridge.predict(columns_NP * self._scale_P, unseen=np.array([unseen for _, unseen in pairs]))

    def _columns(self, row: Blocks) -> tuple[list[float], float]:
        """The unscaled columns of a candidate, and the squared length of its features that no trained candidate has."""
        columns, unseen = [0.0] * self._width, 0.0
        for block, values in row.items():
            places = self._place.get(block)
            if places is None:
                raise UserError(f"A row must have the blocks of the fit, {', '.join(self._place)}. Got {block!r}.")
            for name, value in values.items():
                place = places.get(name)
                if place is None:
                    unseen += (value * self._unit[block]) ** 2
                else:
                    columns[place] = value
        return columns, unseen
