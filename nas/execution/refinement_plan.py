"""Refinement plans: the additional work of each operating point, given the results of the smaller ones.

A plan lists, for each step, which channels of a map are new; which inputs the operations that write them read for the
first time; and which inputs must be kept because rows of later steps read them again. Plain data, made once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

from nas.execution.plan import Channels, Moves, Step, make_plan
from nas.representation.architecture import Architecture
from nas.representation.kinds import kind
from nas.representation.reuse import accumulating_maps
from nas.representation.wiring import active_mask, alignment, channel_mask


@dataclass(frozen=True, slots=True)
class Read:
    """Channels to read from a piece of a map.

    piece: number of the piece. within: the channels in the piece. channels: the same channels in the map.
    """

    piece: int
    within: Channels
    channels: Channels


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a weight that read the same columns.

    rows, columns: of the weight. arrived: positions of these columns among the channels that have arrived so far.
    groups: active groups.
    """

    rows: Channels
    columns: Channels
    arrived: Channels
    groups: int


@dataclass(frozen=True, slots=True)
class Part:
    """The work of one operation in one step.

    reads: inputs read for the first time. keep: keep all inputs, because rows of later steps read them again.
    rows: of a learned operation. moves: of an operation without weights. bias: add the bias.
    """

    operation: int
    reads: tuple[Read, ...]
    keep: bool
    rows: tuple[Rows, ...]
    moves: Moves | None
    bias: bool


@dataclass(frozen=True, slots=True)
class Growth:
    """The work on one map in one step: new channels, or a sum that is added to the existing channels.

    piece: number of the value. adds: whether to add to its previous value. channels: in the map. shape: of one example.
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
    """The work from one operating point to the next.

    macs: multiply-accumulates of one example. answer: pieces that form the logits. done: pieces that no later step
    reads.
    """

    growths: tuple[Growth, ...]
    macs: int
    answer: tuple[int, ...]
    done: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RefinementPlan:
    """One step for each operating point, small to large.

    norm_owners: learned operations into whose weights a norm can be folded, each with the operation that owns the norm:
    the operation itself, or the only reader of a map that only this operation writes.
    """

    steps: tuple[RefineStep, ...]
    norm_owners: dict[int, int]


def plan_refinement(architecture: Architecture, device: torch.device) -> RefinementPlan:
    """Plan the refinement of an architecture over its operating points.

    Raises UserError if results cannot be reused exactly.
    """
    gains = _gains(architecture)
    planner = _Planner(architecture, device, gains)
    steps = [planner.step(level, gains[level]) for level in range(len(gains))]
    last_use: dict[int, int] = {}
    for number, step in enumerate(steps):
        written = [growth.piece for growth in step.growths]
        read = [r.piece for growth in step.growths for part in growth.parts for r in part.reads]
        last_use |= dict.fromkeys((*written, *read, *step.answer), number)
    done = [tuple(piece for piece, last in last_use.items() if last == number) for number in range(len(steps))]
    steps = [replace(step, done=pieces) for step, pieces in zip(steps, done)]
    return RefinementPlan(tuple(steps), _norm_owners(architecture, steps))


def _norm_owners(architecture: Architecture, steps: Sequence[RefineStep]) -> dict[int, int]:
    """See :class:`RefinementPlan`."""
    topology, owners = architecture.topology, dict[int, int]()
    answers = {point.output for point in architecture.points}
    growths = [growth for step in steps for growth in step.growths]
    bare = {p.operation for g in growths for p in g.parts if not all(rows.columns.count for rows in p.rows)}
    for o, operation in enumerate(topology.operations):
        target = topology.maps[operation.target]
        readers = [r for r, other in enumerate(topology.operations) if other.source == operation.target]
        if not kind(operation.kind).learned or o in bare:  # rows without inputs have no weights to fold into
            continue
        if operation.after[:1] == ("norm",):
            owners[o] = o
        elif (
            not operation.after
            and len(readers) == len(topology.incoming[operation.target]) == 1
            and topology.operations[readers[0]].before[:1] == ("norm",)
            and target.activation == target.scale == "none"
            and target.merge == "sum"
            and operation.target not in answers
        ):
            owners[o] = readers[0]
    return owners


@dataclass(frozen=True, slots=True)
class _Gain:
    """The growth of a map in a step, channel by channel.

    new: channels to compute or to add to, ascending. reads: for each operation that writes them, a boolean matrix
    (new, source channels) of the connections that are not yet accounted for.
    """

    target: int
    new: np.ndarray
    adds: bool
    reads: dict[int, np.ndarray]


def _gains(architecture: Architecture) -> list[list[_Gain]]:
    """For every operating point, its growth over the smaller points, in topological order."""
    topology, accumulating = architecture.topology, accumulating_maps(architecture)
    computed = [np.zeros(m.channels, dtype=bool) for m in topology.maps]
    added = [np.zeros(topology.maps[o.source].channels, dtype=bool) for o in topology.operations]
    gains_of_points: list[list[_Gain]] = []
    for point in architecture.points:
        live, gains = set(point.operations), []
        for index in range(1, len(topology.maps)):
            incoming = [o for o in topology.incoming[index] if o in live]
            active, adds = active_mask(topology, point, index), index in accumulating and bool(computed[index].any())
            new = active if adds else active & ~computed[index]
            if not (incoming and new.any()):
                continue
            computed[index] |= new
            reads = {}
            for o in incoming:
                columns = active_mask(topology, point, topology.operations[o].source)
                reads[o] = channel_mask(topology, o)[new] & columns
                if index in accumulating:
                    reads[o] &= ~added[o]
                    added[o] |= columns
            gains.append(_Gain(index, np.flatnonzero(new), adds, reads))
        gains_of_points.append(gains)
    return gains_of_points


class _Planner:
    """The state between steps.

    pieces: of each map, as (piece, first channel, channel after the last). arrived: for each operation, the source
    channels that it keeps, in the order in which it has read them. again: operations with rows that read the inputs of
    an earlier step. begun: operations that have run.
    """

    def __init__(self, architecture: Architecture, device: torch.device, gains: list[list[_Gain]]):
        self.architecture, self.topology, self.device = architecture, architecture.topology, device
        self.pieces = {0: [(0, 0, self.topology.maps[0].channels)]}
        self.num_pieces = 1
        self.arrived: dict[int, list[int]] = {}
        self.begun: set[int] = set()
        self.again: set[int] = set()
        covered: dict[int, np.ndarray] = {}
        for o, reads in (item for level in gains for gain in level for item in gain.reads.items()):
            columns = reads.any(axis=0)
            before = covered.get(o, np.zeros_like(columns))
            if (before & columns).any():
                self.again.add(o)
            covered[o] = before | columns

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
        """One growth; for a concat, one for every piece of its sources."""
        parts = [part for o, reads in gain.reads.items() for part in self._parts(o, gain, reads)]
        if not step.concat:
            yield self._growth(gain, step, int(gain.new[0]), int(gain.new[-1]) + 1, tuple(parts))
            return
        for part in parts:
            aligned = alignment(self.topology, part.operation)
            for read in part.reads:
                start = int(aligned[read.channels.start])
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
        """The work of an operation on the new channels of its target: one part or none."""
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
        """The pieces that hold some channels of a map, which are ascending."""
        for piece, start, stop in sorted(self.pieces[source], key=_first):
            inside = [c for c in channels if start <= c < stop]
            for first, last in _runs(inside):
                count = last - first
                yield Read(piece, Channels(count, start=first - start), Channels(count, start=first))

    def _rows(self, o: int, new: np.ndarray, reads: np.ndarray) -> Iterator[Rows]:
        operation, place_of = self.topology.operations[o], {c: place for place, c in enumerate(self.arrived[o])}
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
    for place in places:
        if out and out[-1][1] == place:
            out[-1] = (out[-1][0], place + 1)
        else:
            out.append((place, place + 1))
    return out
