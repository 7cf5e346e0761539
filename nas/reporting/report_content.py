"""The data of a report as types, free of markup: `html_report` fills them, ``report.html.jinja`` renders them."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import Any

from nas.audit.audit import AuditRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An SVG document with its alternative text and its caption (plain text)."""

    svg: str
    alt: str
    caption: str = ""

    @property
    def data_uri(self) -> str:
        """The picture as an image of its own, so that its element ids cannot clash with the page's ids."""
        return f"data:image/svg+xml;base64,{b64encode(self.svg.encode()).decode()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A picture that scripts replace by an interactive chart. json: of the chart, safe inside of a script element.

    name: distinct within a report, for ids of elements.
    """

    name: str
    json: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontPoint:
    """An operating point of a front. Accuracies are fractions; NaN if not measured.

    measures: in the order of `Front.measures`. candidate: key of the proposed architecture. reference: name of the
    reference architecture that it is, if any.
    """

    macs: int
    params: int
    accuracy: float
    accuracy_sd: float
    test_accuracy: float
    measures: tuple[float, ...]
    candidate: str
    level: int
    space: str
    reference: str | None
    study: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """A Pareto front.

    num_omitted: points that are left out. repeated: whether some candidate was trained with several seeds.
    measures: names of further columns. hierarchy: whether labels have a hierarchy.
    """

    picture: Picture
    points: tuple[FrontPoint, ...]
    num_omitted: int
    measures: tuple[str, ...]
    hierarchy: bool
    repeated: bool
    several_studies: bool
    chart: Chart | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The main results of a search. Accuracies are fractions; low, high: range of budgets in MACs.

    quantity: the metric in words. against_reference: the comparison with a reference architecture in words; empty
    without one.
    """

    quantity: str
    anytime_accuracy: float
    test_anytime_accuracy: float | None
    best: str
    best_accuracy: float
    low: float
    high: float
    trained: int
    proposed: int
    against_reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """A reason for a status, without its numbers, and the number of candidates that have it."""

    text: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusCount:
    """The candidates of one status. share: fraction of all proposals. reasons: the most frequent ones."""

    status: str
    candidates: int
    share: float
    reasons: tuple[Reason, ...]
    num_omitted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationCount:
    """A generation, numbered from 1. counts: candidates by status.

    by_proxy: candidates that the proxy chose; None if unknown.
    """

    number: int
    counts: tuple[int, ...]
    by_proxy: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage of the search. share: fraction of the seconds of all stages."""

    name: str
    seconds: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Funnel:
    """Proposals by status and by generation, and the time that each stage took. search_seconds: wall clock."""

    proposals: int
    statuses: tuple[StatusCount, ...]
    generations: tuple[GenerationCount, ...]
    stages: tuple[Stage, ...]
    search_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyFailure:
    """A proxy that could not score every network."""

    proxy: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The share of a generation, numbered from 1, that the proxy chose. trained: candidates trained before it."""

    generation: int
    share: float
    trained: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The audit of the proxies. problem: the reason if there is none. reference_counts: sizes of the reference samples.

    picture: None if there are no rows.
    """

    problem: str = ""
    sentences: tuple[str, ...] = ()
    rows: tuple[AuditRow, ...] = ()
    picture: Picture | None = None
    failures: tuple[ProxyFailure, ...] = ()
    reference_counts: tuple[int, ...] = ()
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkDrawing:
    """A network of the front. choices: (name, option) pairs. num_front_points: its operating points on the front.

    reference: name of the reference architecture that it is, if any. load_code: the Python expression that loads it;
    empty if its weights were not kept.
    """

    key: str
    space: str
    reference: str | None
    anytime_accuracy: float
    choices: tuple[tuple[str, Any], ...]
    num_front_points: int
    load_code: str
    picture: Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyContent:
    """The section of one study. Parts that need a trained candidate are None, or empty, without one.

    store: its absolute path or URL. store_option: names it in a command.
    augmentation: of the training images, in words; empty if unknown. warm_start: the study that it started from, in
    words; empty for none.
    undrawn: keys of the front's networks without a drawing.
    """

    name: str
    state: str
    reason: str
    spaces: tuple[str, ...]
    data: str
    augmentation: str
    warm_start: str
    strategy: str
    proxy: str
    seed: int
    store: str
    store_option: str
    funnel: Funnel | None = None
    headline: Headline | None = None
    front: Front | None = None
    progress: Picture | None = None
    progress_chart: Chart | None = None
    audit: Audit | None = None
    networks: tuple[NetworkDrawing, ...] = ()
    undrawn: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportContent:
    """A whole report.

    front: of several studies together; None for one study, or if no candidate was trained. problem: the reason why the
    studies have no common front. interactive: whether pictures with a chart become charts, which needs scripts.
    """

    studies: tuple[StudyContent, ...]
    front: Front | None = None
    problem: str = ""
    interactive: bool = True
