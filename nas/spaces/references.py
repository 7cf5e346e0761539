"""Reference architectures: known good designs of a search space, in several sizes, as choices of the space."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from nas.errors import InvalidArchitecture, PluginError
from nas.representation.architecture import Architecture
from nas.representation.elements import Task
from nas.spaces.choices import Decide, Domains, Options, Primitive, Recorder, index_of, replay
from nas.spaces.contract import SearchSpace

SIZES = 4
"""Most sizes of one design that :func:`sizes_within` returns."""
RATIO = 1.5
"""Least ratio of MACs between two of these sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A known good design of a space, in one size, as choices of the space.

    Parameters
    ----------
    design : str
        Name of the design in one line without ", ", for example "ResNet-8".
    size : str
        Its size, for example "width 16". Design and size together are distinct within a space.
    origin : str
        Source of the design in one line.
    choices : mapping of str to str, int, float, bool or None
        Exactly the choices that the space makes for this network, by name.
    """

    design: str
    size: str
    origin: str
    choices: Mapping[str, Primitive]

    @property
    def name(self) -> str:
        """Design and size; :func:`design_of` is the way back."""
        return f"{self.design}, {self.size}"


def design_of(name: str) -> str:
    """The design in the name of a reference."""
    return name.partition(", ")[0]


@runtime_checkable
class ReferringSpace(Protocol):
    """A :class:`nas.SearchSpace` with the optional method ``references``."""

    def references(self, task: Task, max_macs: float, *, points: int = 4) -> Sequence[Reference]:
        """Known good designs, each in several sizes, because the best size depends on the time for training.

        Parameters
        ----------
        task : Task
            Input shape and classes.
        max_macs : float
            Most MACs of the largest operating point; infinite if there is no limit.
        points : int
            Number of operating points, at least 1.

        Returns
        -------
        sequence of Reference
            Different networks within the limit; empty if there are none. Equal arguments give equal results.

        Raises
        ------
        UserError
            If the space cannot serve this task or this number of points.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltReference:
    """A reference with its network."""

    reference: Reference
    architecture: Architecture


def built_references(
    space: SearchSpace, task: Task, max_macs: float = math.inf, *, points: int = 4
) -> list[BuiltReference]:
    """The references of a space with their networks; empty if the space has no method ``references``.

    Parameters
    ----------
    space
        Any search space.
    task, max_macs, points
        As for :meth:`ReferringSpace.references`.

    Returns
    -------
    list of BuiltReference
        In the order of the space.

    Raises
    ------
    PluginError
        If a reference breaks the contract: its choices build no network, or some of them are not used, or the network
        exceeds ``max_macs``.
    UserError
        From the space, if it cannot serve the task.
    """
    if not isinstance(space, ReferringSpace):
        return []
    found = space.references(task, max_macs, points=points)
    return [_built(space, reference, task, max_macs, points) for reference in found]


def _built(space: Any, reference: Any, task: Task, max_macs: float, points: int) -> BuiltReference:
    if not isinstance(reference, Reference):
        raise PluginError(f"references(…) must return objects of class nas.Reference. Got {reference!r:.200}.")
    if design_of(reference.name) != reference.design:
        raise PluginError(f"The design of a reference must not contain ', '. Got {reference.design!r}.")
    recorder = Recorder(replay(reference.choices), Domains())
    try:
        architecture = space.architecture(recorder, task, points=points)
    except (InvalidArchitecture, PluginError) as error:
        raise PluginError(f"The choices of a reference must build a network. {reference.name!r}: {error}") from error
    if unused := [name for name in reference.choices if name not in recorder.choices]:
        raise PluginError(f"A reference must have no choices that its network does not need. Got {unused}.")
    if architecture.costs[-1] > max_macs:
        raise PluginError(
            f"A reference must have at most max_macs={max_macs:,.0f} MACs. "
            f"Got {architecture.costs[-1]:,} for {reference.name!r}."
        )
    return BuiltReference(reference=reference, architecture=architecture)


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A design and the answers that build it in every size.

    Parameters
    ----------
    name, origin : str
        As in :class:`Reference`.
    answers : mapping
        Answers that all sizes share, by the name of the choice. The first word of the name may be left out: "kernel"
        answers "0.1 kernel" and "2.0 kernel", unless there is an answer for the whole name.
    size : str
        A format of the answers of a size, such as "width {width}".
    sizes : sequence of mapping
        Further answers of every size.
    """

    name: str
    origin: str
    answers: Mapping[str, Primitive]
    size: str
    sizes: Sequence[Mapping[str, Primitive]] = field(repr=False)


def sizes_within(
    space: SearchSpace, designs: Sequence[Design], task: Task, max_macs: float, *, points: int = 4
) -> list[Reference]:
    """The largest sizes of every design within a limit, small to large.

    At most SIZES of each design, with a ratio of MACs of at least RATIO.

    Parameters
    ----------
    space
        Builds the networks.
    designs
        Known good designs. Sizes without a valid network for the task and number of points are left out: an answer is
        not among the options, or there are too few channels for the points.
    task, max_macs, points
        As for :meth:`ReferringSpace.references`.

    Returns
    -------
    list of Reference
        In the order of the designs, small to large.

    Raises
    ------
    PluginError
        If a design has no answer for a choice.
    UserError
        From the space, if it cannot serve the task.
    """
    references: list[Reference] = []
    keys: set[str] = set()
    for design in designs:
        kept: list[Reference] = []
        limit = max_macs
        for macs, key, reference in sorted(_sizes(space, design, task, points), key=lambda size: -size[0]):
            if macs <= limit and key not in keys and len(kept) < SIZES:
                kept.insert(0, reference)
                keys.add(key)
                limit = macs / RATIO
        references += kept
    return references


def _sizes(space: SearchSpace, design: Design, task: Task, points: int) -> list[tuple[int, str, Reference]]:
    """MACs of the largest point, key and reference of every size with a valid network."""
    sizes = []
    for answers in design.sizes:
        recorder = Recorder(_answering(design.name, {**design.answers, **answers}), Domains())
        try:
            network = space.architecture(recorder, task, points=points)
        except InvalidArchitecture:
            continue
        size = design.size.format(**answers)
        reference = Reference(design=design.name, size=size, origin=design.origin, choices=recorder.choices)
        sizes.append((network.costs[-1], network.key, reference))
    return sizes


def _answering(design: str, answers: Mapping[str, Primitive]) -> Decide:
    """The decision that gives the answers of a design."""

    def decide(name: str, options: Options) -> int:
        key = name if name in answers else name.partition(" ")[2]
        if key not in answers:
            raise PluginError(f"The design {design!r} must answer every choice. Got no answer for {name!r}.")
        if (index := index_of(options, answers[key])) < 0:
            raise InvalidArchitecture(f"The options of {name!r} are {options}. Got {answers[key]!r} for {design!r}.")
        return index

    return decide
