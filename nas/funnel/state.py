"""The state of a study in the store besides its candidates: the data that a resumed search needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nas.audit.reliance import Reliance
from nas.funnel.eta import Clock
from nas.funnel.full.plan import FinalsPlan
from nas.screening.rejections import RejectionCounts
from nas.spaces.choices import Domains, Primitive

if TYPE_CHECKING:
    from results.writer import StudyWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyState:
    """The progress of a search.

    generations: completed ones. seconds: wall-clock time, earlier runs included; screening: part of it spent on
    proposing and screening. domains: options of every choice, by name. reliance: by generation, counted from 0: the
    share that the proxy chose. rejections: of the proposals so far. finals: None before full training.
    slowest_epoch: seconds per image and MAC of the slowest training; 0 before the first.
    """

    generations: int = 0
    seconds: float = 0.0
    screening: float = 0.0
    domains: Mapping[str, Sequence[Primitive]] = field(default_factory=dict)
    reliance: Mapping[int, Reliance] = field(default_factory=dict)
    rejections: RejectionCounts = field(default_factory=RejectionCounts)
    finals: FinalsPlan | None = None
    slowest_epoch: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, inverse of :meth:`from_json`; parts that a search has not reached are left out."""
        data: dict[str, Any] = {
            "seconds": self.seconds,
            "domains": {name: list(options) for name, options in self.domains.items()},
        }
        if self.reliance:
            data["screening"] = self.screening
            data["reliance"] = {str(generation): asdict(decision) for generation, decision in self.reliance.items()}
        if self.rejections.proposals:
            data["rejections"] = self.rejections.to_json()
        if self.generations:
            data["generations"] = self.generations
        if self.slowest_epoch:
            data["slowest_epoch"] = self.slowest_epoch
        if self.finals is not None:
            data["finals"] = asdict(self.finals)
        return data

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> StudyState:
        """The state that ``to_json`` wrote; the initial state from empty data."""
        finals = data.get("finals")
        return StudyState(
            generations=int(data.get("generations", 0)),
            seconds=float(data.get("seconds", 0.0)),
            screening=float(data.get("screening", 0.0)),
            domains=data.get("domains", {}),
            reliance={int(g): _reliance(decision) for g, decision in data.get("reliance", {}).items()},
            rejections=RejectionCounts.from_json(data.get("rejections", {})),
            slowest_epoch=float(data.get("slowest_epoch", 0.0)),
            finals=None if finals is None else FinalsPlan.from_json(finals),
        )


def _reliance(data: Mapping[str, Any]) -> Reliance:
    """A decision from JSON data; earlier versions stored whether the proxy ordered all candidates of a generation."""
    if "relied" in data:
        return Reliance(share=float(data["relied"]), trained=int(data["trained"]), reason=str(data["reason"]))
    positions = {name: tuple(data[name]) for name in ("ordered", "own")}
    return Reliance(share=float(data["share"]), trained=int(data["trained"]), reason=str(data["reason"]), **positions)


class StateKeeper:
    """The state of a running search, read from the store at its start and written with every change.

    state: as last written. domains, clock: of this run; their current values are part of every write.
    """

    def __init__(self, writer: StudyWriter) -> None:
        self.state = StudyState.from_json(writer.memo())
        self.domains = Domains(self.state.domains)
        self.clock = Clock(earlier=self.state.seconds)
        self._writer = writer

    def note_epoch(self, seconds: float) -> None:
        """Take the seconds per image and MAC of a training into account; the next :meth:`update` writes them."""
        self.state = replace(self.state, slowest_epoch=max(self.state.slowest_epoch, seconds))

    def update(self, **changes: Any) -> None:
        """Change fields of the state, and write it."""
        self.state = replace(self.state, seconds=self.clock.elapsed(), domains=dict(self.domains.options), **changes)
        self._writer.set_memo(self.state.to_json())
