"""Answers from small to large, each by the extra work alone: what every step has to do, and doing it.

Steps are planned once: which channels of a map are new; what the rows of the operations that write them read for the
first time; and what of it is kept, as rows of later steps read it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nas.execution.layers import BATCH_NORM_EPS, Channels, Layer, Moves, Norm, activate, place
from nas.execution.plan import Step, make_plan
from nas.representation.architecture import Architecture
from nas.representation.kinds import kind
from nas.representation.reuse import accumulating_maps
from nas.representation.wiring import active_mask, alignment, channel_mask

if TYPE_CHECKING:
    from nas.execution.network import AnytimeNetwork


@dataclass(frozen=True, slots=True)
class Read:
    """Channels of a piece, which some step has computed, and what they are in their map."""

    piece: int
    within: Channels
    channels: Channels


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a weight that read the same: which, the columns, and where these are in what has arrived."""

    rows: Channels
    columns: Channels
    arrived: Channels
    groups: int


@dataclass(frozen=True, slots=True)
class Part:
    """What an operation does in a step.

    reads: what it reads for the first time. keep: rows of later steps read again what has arrived.
    rows: of a learned operation. moves: of another.
    """

    operation: int
    reads: tuple[Read, ...]
    keep: bool
    rows: tuple[Rows, ...]
    moves: Moves | None
    bias: bool


@dataclass(frozen=True, slots=True)
class Growth:
    """New channels of a map, or what is added to all of them.

    piece: the name of the value. adds: to what it has been. shape: of one example.
    """

    piece: int
    adds: bool
    channels: Channels
    shape: tuple[int, ...]
    parts: tuple[Part, ...]
    activation: str
    factor: float


@dataclass(frozen=True, slots=True)
class RefineStep:
    """From an operating point to the next.

    macs: of one example. answer: the pieces that are the logits. done: those that no later step reads.
    """

    growths: tuple[Growth, ...]
    macs: int
    answer: tuple[int, ...]
    done: tuple[int, ...] = ()


def plan_refinement(architecture: Architecture, device: torch.device) -> tuple[RefineStep, ...]:
    """The steps of an architecture, one for each operating point.

    Raises UserError where results cannot be reused exactly.
    """
    gains = _gains(architecture)
    planner = _Planner(architecture, device, gains)
    found = [planner.step(level, gains[level]) for level in range(len(gains))]
    last: dict[int, int] = {}
    for number, step in enumerate(found):
        made = [growth.piece for growth in step.growths]
        read = [r.piece for growth in step.growths for part in growth.parts for r in part.reads]
        last |= dict.fromkeys((*made, *read, *step.answer), number)
    done = [tuple(piece for piece, at in last.items() if at == number) for number in range(len(found))]
    return tuple(replace(step, done=pieces) for step, pieces in zip(found, done))


class Refiner:
    """The steps of a network, with copies of its weights cut to what each of them needs. Those of an architecture with
    a single operating point are that point's answer, run as fast as can be.

    architecture: the network's, or one with some of its operating points. row: of the norms' statistics, for the first
        of these points; those of the others follow.

    A norm right after a learned operation is folded into its copy, also where it belongs to the only reader of what the
    operation writes: at batch 1, small layers cost what it costs to start them. Where the network has come to hold
    other weights, copies are made anew; statistics that a batch norm moves do not count as a change for torch, so
    whoever trains must say :meth:`forget`.
    """

    def __init__(self, architecture: Architecture, device: torch.device, *, row: int = 0):
        self.architecture, self.row = architecture, row
        self.steps = plan_refinement(architecture, device)
        self._bound: list[list[_BoundGrowth]] = []
        self._seen: list[tuple[dict[str, Any], str, tuple[int, float]]] = []

    def run(self, network: AnytimeNetwork, x: Tensor) -> Iterator[Tensor]:
        """Logits of shape (N, classes) after each of the steps, for x of shape (N, \\*input_shape)."""
        if not self._bound or any(_state(held.get(name)) != state for held, name, state in self._seen):
            self._bind(network)
        return _run(self.steps, self._bound, x)

    def forget(self) -> None:
        """Make copies anew before the next run."""
        self._bound = []

    @torch.no_grad()
    def _bind(self, network: AnytimeNetwork) -> None:
        folds = _folds(self.architecture, self.steps)
        self._bound = [
            [_BoundGrowth(growth, network.operation_layers, row, folds) for growth in step.growths]
            for row, step in enumerate(self.steps, start=self.row)
        ]
        self._seen = [
            (held, name, _state(tensor))
            for module in network.modules()
            for held in (module._parameters, module._buffers)
            for name, tensor in held.items()
            if tensor is not None
        ]


def _folds(architecture: Architecture, steps: Sequence[RefineStep]) -> dict[int, int]:
    """Learned operations whose weights take up the norm that follows, each with the operation that this belongs to:
    itself, or the only reader of the map that it alone writes.
    """
    topology, found = architecture.topology, {}
    answers = {point.output for point in architecture.points}
    growths = [growth for step in steps for growth in step.growths]
    bare = {p.operation for g in growths for p in g.parts if not all(rows.columns.count for rows in p.rows)}
    for o, operation in enumerate(topology.operations):
        target = topology.maps[operation.target]
        readers = [r for r, other in enumerate(topology.operations) if other.source == operation.target]
        if not kind(operation.kind).learned or o in bare:  # rows that read nothing have no weights to fold into
            continue
        if operation.after[:1] == ("norm",):
            found[o] = o
        elif (
            not operation.after
            and len(readers) == len(topology.incoming[operation.target]) == 1
            and topology.operations[readers[0]].before[:1] == ("norm",)
            and target.activation == target.scale == "none"
            and target.merge == "sum"
            and operation.target not in answers
        ):
            found[o] = readers[0]
    return found


def _state(tensor: Tensor | None) -> tuple[int, float]:
    """What tells whether a tensor has changed: where it lies, and how often it was written to. Those of inference mode
    do not count that: never equal to what it was.
    """
    if tensor is None:
        return -1, 0
    return tensor.data_ptr(), float("nan") if tensor.is_inference() else tensor._version  # no two of these are equal


@torch.no_grad()
def _run(steps: Sequence[RefineStep], bound: Sequence[Sequence[_BoundGrowth]], x: Tensor) -> Iterator[Tensor]:
    pieces = {0: x.clone(memory_format=torch.channels_last if x.dim() == 4 else torch.contiguous_format)}
    kept: dict[int, Tensor] = {}
    empty = x[:, :0]
    for step, growths in zip(steps, bound):
        for growth in growths:
            growth(pieces, kept, empty)
        logits = _joined([pieces[piece] for piece in step.answer]).flatten(1).clone()  # later ones may add to it
        for piece in step.done:
            del pieces[piece]
        yield logits


class _BoundGrowth:
    """A growth that can be run."""

    def __init__(self, growth: Growth, layers: Sequence[Layer], row: int, folds: dict[int, int]):
        self.growth = growth
        self.parts = [_BoundPart(part, layers, growth, row, folds) for part in growth.parts]

    def __call__(self, pieces: dict[int, Tensor], kept: dict[int, Tensor], empty: Tensor) -> None:
        growth = self.growth
        value = pieces[growth.piece] if growth.adds else None
        for part in self.parts:
            arrived = part(pieces, kept, empty)
            value = arrived if value is None else value + arrived
        if value is None:
            value = empty.new_zeros(len(empty), *growth.shape)
        value = activate(value, growth.activation)
        pieces[growth.piece] = value if growth.factor == 1 else value * growth.factor


class _BoundPart:
    """A part with its weights; returns what it adds to the new channels of its target, (N, new channels, \\*size)."""

    def __init__(self, part: Part, layers: Sequence[Layer], growth: Growth, row: int, folds: dict[int, int]):
        layer, number = layers[part.operation], part.operation
        self.part, self.shape, self.operation, self.kind = part, growth.shape, layer.operation, layer.kind
        before, after, owner, norm = layer.operation.before, layer.operation.after, folds.get(number), None
        if owner is not None:
            norm, after = (layer.after, after[1:]) if owner == number else (layers[owner].before, after)
        if any(reader == number != writer for writer, reader in folds.items()):
            before = before[1:]
        self.reads = [(r.piece, r.within, _steps(before, layer.before, r.channels, row)) for r in part.reads]
        self.after = _steps(after, layer.after, growth.channels, row)
        self.rows = [(rows, *_cut(layer, rows, part.bias, norm, row)) for rows in part.rows]

    def __call__(self, pieces: dict[int, Tensor], kept: dict[int, Tensor], empty: Tensor) -> Tensor:
        part, read = self.part, []
        for piece, within, steps in self.reads:
            x = within.take(pieces[piece], dim=1)
            for step in steps:
                x = step(x)
            read.append(x)
        if part.keep:
            if part.operation in kept:
                read.insert(0, kept[part.operation])
            kept[part.operation] = x = _joined(read)
        else:
            x = _joined(read) if read else empty
        if part.rows:
            run, operation = self.kind.apply, self.operation
            out = _joined([run(operation, rows.arrived.take(x, dim=1), w, b, rows.groups) for rows, w, b in self.rows])
        elif read:
            out = place(self.kind.apply(self.operation, x, None, None, 1), self.shape[0], part.moves)
        else:
            out = empty.new_zeros(len(empty), *self.shape)
        for step in self.after:
            out = step(out)
        return out


def _cut(layer: Layer, rows: Rows, bias: bool, norm: Norm | None, row: int) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of some rows, with the norm of what they write folded in where one is given."""
    assert layer.weight is not None
    added = rows.rows.take(layer.bias) if bias and layer.bias is not None else None
    cut = rows.columns.take(rows.rows.take(layer.weight), dim=1)
    if norm is not None:
        precise = torch.promote_types(cut.dtype, torch.float32)
        weight, shift, mean, var = (t.to(precise) for t in norm.cut(rows.rows, row))
        scale = weight / (var + BATCH_NORM_EPS).sqrt()
        shift = shift + (-mean if added is None else added - mean) * scale
        cut, added = (cut * scale.reshape(-1, *[1] * (cut.dim() - 1))).to(cut.dtype), shift.to(cut.dtype)
    return cut.contiguous(memory_format=torch.channels_last if cut.dim() == 4 else torch.contiguous_format), added


def _steps(names: tuple[str, ...], norm: Norm | None, channels: Channels, row: int) -> list[Callable[[Tensor], Tensor]]:
    found: list[Callable[[Tensor], Tensor]] = []
    for name in names:
        if name == "norm" and norm is not None:
            weight, bias, mean, var = norm.cut(channels, row)
            found.append(
                partial(F.batch_norm, running_mean=mean, running_var=var, weight=weight, bias=bias, eps=BATCH_NORM_EPS)
            )
        else:
            found.append(partial(activate, name=name))
    return found


def _joined(values: list[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.cat(values, dim=1)


@dataclass(frozen=True, slots=True)
class _Gain:
    """How a map grows in a step, channel by channel.

    new: its channels to compute, or to add to, ascending. reads: of each operation that writes them, which source
    channel feeds which of them, (new, source channels), without what has been added already.
    """

    target: int
    new: np.ndarray
    adds: bool
    reads: dict[int, np.ndarray]


def _gains(architecture: Architecture) -> list[list[_Gain]]:
    """For every operating point, what it has more than those before it, in topological order."""
    topology, accumulating = architecture.topology, accumulating_maps(architecture)
    known = [np.zeros(m.channels, dtype=bool) for m in topology.maps]
    added = [np.zeros(topology.maps[o.source].channels, dtype=bool) for o in topology.operations]
    found: list[list[_Gain]] = []
    for point in architecture.points:
        live, gains = set(point.operations), []
        for index in range(1, len(topology.maps)):
            incoming = [o for o in topology.incoming[index] if o in live]
            active, adds = active_mask(topology, point, index), index in accumulating and bool(known[index].any())
            new = active if adds else active & ~known[index]
            if not (incoming and new.any()):
                continue
            known[index] |= new
            reads = {}
            for o in incoming:
                columns = active_mask(topology, point, topology.operations[o].source)
                reads[o] = channel_mask(topology, o)[new] & columns
                if index in accumulating:
                    reads[o] &= ~added[o]
                    added[o] |= columns
            gains.append(_Gain(index, np.flatnonzero(new), adds, reads))
        found.append(gains)
    return found


class _Planner:
    """What there is, from step to step.

    pieces: of each map, as (piece, first channel, channel after the last). arrived: of each operation, the source
    channels that it holds, in the order in which it has read them. again: operations of which rows read what rows of an
    earlier step have read. begun: operations that have run.
    """

    def __init__(self, architecture: Architecture, device: torch.device, gains: list[list[_Gain]]):
        self.architecture, self.topology, self.device = architecture, architecture.topology, device
        self.pieces = {0: [(0, 0, self.topology.maps[0].channels)]}
        self.num_pieces = 1
        self.arrived: dict[int, list[int]] = {}
        self.begun: set[int] = set()
        self.again: set[int] = set()
        seen: dict[int, np.ndarray] = {}
        for o, reads in (item for level in gains for gain in level for item in gain.reads.items()):
            columns = reads.any(axis=0)
            before = seen.get(o, np.zeros_like(columns))
            if (before & columns).any():
                self.again.add(o)
            seen[o] = before | columns

    def step(self, level: int, gains: list[_Gain]) -> RefineStep:
        point = self.architecture.points[level]
        steps = {step.target: step for step in make_plan(self.topology, point, self.device).steps}
        growths = tuple(growth for gain in gains for growth in self._growths(gain, steps[gain.target]))
        each = self.topology.macs_per_pair
        macs = sum(
            rows.rows.count * rows.columns.count * each[part.operation]
            for growth in growths
            for part in growth.parts
            for rows in part.rows
        )
        return RefineStep(growths, macs, tuple(piece for piece, _, _ in sorted(self.pieces[point.output], key=_first)))

    def _growths(self, gain: _Gain, step: Step) -> Iterator[Growth]:
        """One; for a concat, one for every piece of what it is a view of."""
        parts = [part for o, reads in gain.reads.items() for part in self._parts(o, gain, reads)]
        if not step.concat:
            yield self._growth(gain, step, int(gain.new[0]), int(gain.new[-1]) + 1, tuple(parts))
            return
        for part in parts:
            at = alignment(self.topology, part.operation)
            for read in part.reads:
                start = int(at[read.channels.start])
                yield self._growth(
                    gain, step, start, start + read.channels.count, (replace(part, reads=(read,), moves=None),)
                )

    def _growth(self, gain: _Gain, step: Step, start: int, stop: int, parts: tuple[Part, ...]) -> Growth:
        pieces = self.pieces.setdefault(gain.target, [])
        if not gain.adds:
            pieces.append((self.num_pieces, start, stop))
            self.num_pieces += 1
        return Growth(
            piece=pieces[-1][0],
            adds=gain.adds,
            channels=Channels(stop - start, start=start),
            shape=(stop - start, *self.topology.maps[gain.target].size),
            parts=parts,
            activation=step.activation,
            factor=step.factor,
        )

    def _parts(self, o: int, gain: _Gain, reads: np.ndarray) -> Iterator[Part]:
        """What an operation does for the new channels of its target, if anything."""
        operation = self.topology.operations[o]
        columns = np.flatnonzero(reads.any(axis=0)).tolist()
        if not columns and "norm" not in operation.after:
            return
        arrived = self.arrived.get(o, []) if o in self.again else []
        fresh = [c for c in columns if c not in arrived]
        self.arrived[o] = [*arrived, *fresh]
        yield Part(
            operation=o,
            reads=tuple(self._reads(operation.source, fresh)),
            keep=o in self.again,
            rows=tuple(self._rows(o, gain.new, reads)) if kind(operation.kind).learned else (),
            moves=self._moves(o, gain.new, fresh),
            bias=operation.bias and not (gain.adds and o in self.begun),
        )
        self.begun.add(o)

    def _reads(self, source: int, channels: list[int]) -> Iterator[Read]:
        """Where some channels of a map, ascending, are to be found."""
        for piece, start, stop in sorted(self.pieces[source], key=_first):
            inside = [c for c in channels if start <= c < stop]
            for first, last in _runs(inside):
                count = last - first
                yield Read(piece, Channels(count, start=first - start), Channels(count, start=first))

    def _rows(self, o: int, new: np.ndarray, reads: np.ndarray) -> Iterator[Rows]:
        operation, place_of = self.topology.operations[o], {c: at for at, c in enumerate(self.arrived[o])}
        first, groups = int(new[0]), operation.groups
        if groups > 1:
            columns = np.flatnonzero(reads.any(axis=0))
            each = self.topology.maps[operation.source].channels // groups
            arrived = self._channels([place_of[c] for c in columns.tolist()])
            yield Rows(Channels(len(new), start=first), Channels(each), arrived, len(columns) // each)
            return
        starts = [0, *(np.flatnonzero((reads[1:] != reads[:-1]).any(axis=1)) + 1).tolist(), len(reads)]
        for start, stop in pairwise(starts):
            read = sorted(np.flatnonzero(reads[start]).tolist(), key=place_of.__getitem__)
            arrived = self._channels([place_of[c] for c in read])
            yield Rows(Channels(stop - start, start=first + start), self._channels(read), arrived, 1)

    def _moves(self, o: int, new: np.ndarray, fresh: list[int]) -> Moves | None:
        if kind(self.topology.operations[o].kind).mixing:
            return None
        return Moves.of((alignment(self.topology, o)[fresh] - new[0]).tolist(), len(new))

    def _channels(self, places: list[int]) -> Channels:
        runs = _runs(places)
        return Channels(len(places), start=runs[0][0]) if len(runs) == 1 else Channels.of(runs, self.device)


def _first(piece: tuple[int, int, int]) -> int:
    return piece[1]


def _runs(places: Sequence[int]) -> list[tuple[int, int]]:
    """Consecutive numbers as ranges (start, stop), in order."""
    out: list[tuple[int, int]] = []
    for place_ in places:
        if out and out[-1][1] == place_:
            out[-1] = (out[-1][0], place_ + 1)
        else:
            out.append((place_, place_ + 1))
    return out
