"""``nas report``: one HTML file of a study or several: front, funnel, search progress, proxy audit, topologies."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.audit import wording as verdicts
from nas.audit.reliance import relied_on
from nas.audit.savings import Savings
from nas.audit.statistics import FEW, AuditRow, Comparison
from nas.errors import UserError
from nas.progress import Progress, duration
from nas.proxies.contract import load_proxy
from nas.reporting.console import MEAN_OF_LABELS, hierarchy_columns, store_argument, store_option
from nas.reporting.html import Markup, bar, code, details, figure, page, paragraph, table, tag, text
from nas.representation.architecture import Architecture
from results.schema import STATUSES

if TYPE_CHECKING:
    import pandas as pd

    from nas.study import Study
    from results.store import Store

MOST_DRAWN = 8  # topologies
MOST_ROWS = 60  # of the front in the page
MOST_REASONS = 3  # of each status
STAGES = ("proposing and screening", "training in part", "training in full")


def write_report(
    studies: Sequence[Study],
    path: str | PathLike[str],
    *,
    proxies: Sequence[str] = ("all",),
    progress: Progress | None = None,
) -> Path:
    """Write the report of studies of one store as one HTML file, and return its path.

    proxies: audited beside each study's own and the sizes: names, ``file.py:Name``, or "all" that are installed.
    The file needs nothing beside it and runs nothing.

    Raises UserError for an unknown proxy, or where the file cannot be written: at once, not after the audit.
    """
    for name in proxies:
        if name != "all":
            load_proxy(name)
    path = Path(path)
    with _writable(path):
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
    partial = path.with_name(f"{path.name}.partial")
    try:
        with _writable(path):
            partial.touch()
        whole = _whole(studies, proxies, progress)
        with _writable(path):
            partial.write_text(whole, encoding="utf-8")
            os.replace(partial, path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return path


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        told = error.strerror or error
        raise UserError(f"The report {path} must be writable, folder and disk, and is not: {told}.") from error


def _whole(studies: Sequence[Study], proxies: Sequence[str], progress: Progress | None) -> str:
    names = [study.name for study in studies]
    title = f"{', '.join(names)} – anytime networks"
    parts: list[Markup] = []
    if len(studies) > 1:
        links = (tag("li", tag("a", name, href=f"#study-{name}")) for name in names)
        parts += [tag("h1", ", ".join(names)), tag("nav", tag("ul", *links)), *_together(studies)]
    for study in studies:
        parts.append(tag("section", *_study(study, proxies, progress), id=f"study-{study.name}"))
    return page(title, *parts)


def _together(studies: Sequence[Study]) -> list[Markup]:
    """The front of several studies."""
    store, names = studies[0].store, [study.name for study in studies]
    front = store.front(names)
    if front.empty:
        return []
    return [tag("h2", "One front of all"), _front_figure(store, names, front, None), _front_table(front)]


def _study(study: Study, proxies: Sequence[str], progress: Progress | None) -> list[Markup]:
    about = study.store.studies().set_index("study").loc[study.name]
    candidates, front = study.candidates(), study.front()
    parts = [
        tag("h1", f"Study {study.name}"),
        paragraph(f"{about.state.capitalize()}. {about.reason or ''}"),
        tag(
            "p",
            f"Spaces {', '.join(study.config.spaces)}; data {study.config.data}; strategy {study.config.strategy}; "
            f"seed {study.config.seed}; stored in {study.url}.",
            class_="muted",
        ),
    ]
    where = store_option(study.url)
    if front.empty:
        parts.append(
            tag("div", "No candidate has been trained yet. Go on with it:", code(f"nas resume {study.name}{where}"))
        )
        return parts + (_funnel(study, candidates) if len(candidates) else [])
    parts += [
        _facts(study, front, candidates),
        tag("h2", "Front"),
        _front_figure(study.store, [study.name], front, study.score),
        _front_table(front),
        code(f"nas front {study.name} --csv front.csv{where}"),
        *_funnel(study, candidates),
        *_progress(study),
        *_audit(study, proxies, progress),
        *_topologies(study, front),
    ]
    return parts


# Front ---------------------------------------------------------------------------------------------------------------


def _facts(study: Study, front: pd.DataFrame, candidates: pd.DataFrame) -> Markup:
    """The headline: what the search has come to, in a few numbers."""
    score, best = study.score, study.best()
    facts = [(f"{study.anytime_accuracy():.2%}", "anytime accuracy of the front, validation images")]
    if front.test_accuracy.notna().all():
        facts.append((f"{study.anytime_accuracy('test'):.2%}", "the same on test images"))
    facts += [
        (_link(study.name, str(best.key)), f"best network: {best.anytime_accuracy:.2%} on its own"),
        (f"{_short(score.low)} – {_short(score.high)}", "range of budgets, multiply-accumulates (MACs)"),
        (f"{int(candidates.position.notna().sum()):,}", f"trained, of {len(candidates):,} proposed"),
    ]
    return tag("div", *(tag("div", tag("b", value), tag("span", label)) for value, label in facts), class_="facts")


def _front_figure(store: Store, names: Sequence[str], front: pd.DataFrame, score: Any) -> Markup:
    from results.plots import as_svg, front_figure

    alt = f"Accuracy against MACs: {len(front)} points of the front over all points that were trained"
    drawn = front_figure(store.points(names), front, score=score, policies=store.policies(names))
    return figure(as_svg(drawn), alt)


def _front_table(front: pd.DataFrame) -> Markup:
    repeats, several = bool(front.repeats.max() > 1), front.study.nunique() > 1
    told = hierarchy_columns(front)
    accuracies = ["test accuracy", *(name.replace("_", " ") for name in told)]
    header = ["MACs", "parameters", "accuracy", *["± between seeds"] * repeats, *accuracies, "network", "level"]
    rows = [
        [
            f"{point.macs:,.0f}",
            f"{point.params:,.0f}",
            f"{point.accuracy:.4f}",
            *[_number(point.accuracy_sd, 4)] * repeats,
            *(_number(getattr(point, name), 4) for name in ("test_accuracy", *told)),
            _link(point.study, point.candidate),
            point.level,
            point.space,
            *[point.study] * several,
        ]
        for point in front.head(MOST_ROWS).itertuples()
    ]
    shown = table([*header, "space", *["study"] * several], rows, right=range(4 + repeats + len(told)))
    left = len(front) - MOST_ROWS
    return text(
        shown,
        paragraph(f"{left:,} more points are in the CSV file.") if left > 0 else "",
        paragraph(MEAN_OF_LABELS) if told else "",
    )


def _link(study: str, key: str) -> Markup:
    return tag("a", key[:8], href=f"#network-{study}-{key}")


# Funnel and progress -------------------------------------------------------------------------------------------------


def _funnel(study: Study, candidates: pd.DataFrame) -> list[Markup]:
    """What became of the proposals, why, and where the time went."""
    total = len(candidates)
    rows = []
    for status, count in _by_status(candidates).sum().items():
        reasons = candidates[candidates.status == status].reason.dropna().map(_without_numbers).value_counts()
        shown = [f"{times:,} × {reason}" for reason, times in reasons.head(MOST_REASONS).items()]
        more = len(reasons) - MOST_REASONS
        shown += [f"{more:,} other reasons"] if more > 0 else []
        lines = text(*(part for line in shown for part in (line, Markup("<br>"))))
        rows.append([status, f"{count:,}", bar(count / total), lines])
    return [
        tag("h2", "Funnel"),
        paragraph(f"What became of {total:,} proposals. … stands for a number or a key."),
        table(["status", "candidates", "", "most frequent reasons"], rows, right=(1,)),
        _generations(study, candidates),
        tag("h3", "Time"),
        table(["stage", "seconds", ""], _stages(study), right=(1,)),
        paragraph("Screening is told by the clock, training is summed over the workers."),
    ]


def _generations(study: Study, candidates: pd.DataFrame) -> Markup:
    """Counts by generation and status."""
    counts, decisions = _by_status(candidates), study.reliance()
    rows = [
        [
            generation + 1,
            *(f"{counts.loc[generation, status]:,}" for status in counts),
            "yes" if relied_on(decisions, generation) else "no",
        ]
        for generation in counts.index
    ]
    header = ["generation", *counts, f"{_plugin(study.config.proxy)} relied on"]
    return details(f"By generation ({len(counts)})", table(header, rows, right=range(1, 1 + len(counts.columns))))


def _by_status(candidates: pd.DataFrame) -> pd.DataFrame:
    """How many candidates of a generation have a status: the statuses that occur, in the order of the funnel."""
    counts = candidates.groupby(["generation", "status"]).size().unstack(fill_value=0)
    return counts[[status for status in STATUSES if status in counts]]


def _stages(study: Study) -> list[list[Any]]:
    """Seconds of every stage, with bars."""
    evaluations = study.store.evaluations(study.name)
    partial = evaluations.assign(partial=_in_part(study, evaluations))
    seconds = partial.groupby(["candidate", "repeat", "partial"]).seconds.max().groupby("partial").sum()
    memo = study.store.memo(study.name)
    spent = [memo.get("screening", 0.0), seconds.get(True, 0.0), seconds.get(False, 0.0)]
    rows = [[stage, f"{s:,.0f}", bar(s / (sum(spent) or 1.0))] for stage, s in zip(STAGES, spent)]
    return [*rows, ["the search as a whole, by the clock", f"{memo.get('seconds', 0.0):,.0f}", ""]]


def _in_part(study: Study, evaluations: pd.DataFrame) -> pd.Series:
    """Which evaluations are rungs of partial training."""
    config = study.config
    return evaluations.epochs.isin(config.rungs()) & (evaluations.images <= config.images) & (evaluations.repeat == 0)


def _progress(study: Study) -> list[Markup]:
    """The best anytime accuracy after each candidate, by partial training alone."""
    from results.plots import as_svg, progress_figure

    evaluations = study.store.evaluations(study.name)
    rungs = evaluations[_in_part(study, evaluations)]
    reached = rungs.groupby("candidate").fidelity.max()
    points = study.points()
    points = points[(points.repeat == 0) & (points.fidelity == points.candidate.map(reached))]
    score = study.score
    accuracy = {key: score(curve.macs, curve.accuracy) for key, curve in points.groupby("candidate")}
    trained = study.first_rung()
    trained = trained[trained.key.isin(list(accuracy))]
    shown = trained.assign(
        accuracy=[accuracy[key] for key in trained.key], finished=trained.key.map(reached) == rungs.fidelity.max()
    ).reset_index(drop=True)
    last = f"{shown.accuracy.max():.2%}"
    alt = f"The best anytime accuracy after each of {len(shown)} candidates trained in part; at the end {last}"
    caption = (
        f"Each candidate at the last rung that it reached, {duration(rungs.seconds.max())} of training at most; "
        "finalists are trained in full after that, which this picture leaves out."
    )
    return [tag("h2", "Search progress"), figure(as_svg(progress_figure(shown)), alt, caption)]


# Audit ---------------------------------------------------------------------------------------------------------------


def _audit(study: Study, proxies: Sequence[str], progress: Progress | None) -> list[Markup]:
    """Whether the order of training was worth it: in words, as a picture, as a table."""
    heading = tag("h2", "Proxy audit")
    try:
        rows, problems = study.audited(*proxies, progress=progress)
    except UserError as error:  # such as a space that is not there any more
        return [heading, paragraph("The proxies cannot be audited: ", error)]
    from nas.reporting.audit_plot import audit_figure
    from results.plots import as_svg

    proxy, names = study.config.proxy, sorted({row.references for row in rows})
    own = next((row for row in rows if row.proxy == proxy), None)
    changes = verdicts.reliance_changes(study.reliance())
    verdict = [paragraph(line) for line in (_plain(proxy, own), *_against_random(*study.compared()))]
    verdict += [paragraph(verdicts.reliance_sentence(_plugin(proxy), *change)) for change in changes]
    parts = [heading, tag("div", *verdict, class_="verdict")]
    if rows:
        alt = "; ".join(f"{_plugin(row.proxy)}: {verdicts.numbers(row)}" for row in rows)
        parts += [figure(as_svg(audit_figure(rows, proxy=proxy)), alt), _audit_table(rows)]
    failed = [paragraph(f"{_plugin(name)} could not score every network: {told}") for name, told in problems.items()]
    sizes = " or ".join(f"{count:,}" for count in names)
    how = paragraph(
        "τ is Kendall's rank correlation with the anytime accuracy at the first rung, where all trained candidates "
        "have been; 1 is the same order, 0 none. Large networks are more accurate and are scored higher by anything "
        "that grows with size, so the second number counts: what is left when MACs and depth are accounted for, as "
        f"fitted on {sizes} random networks of the spaces (fewer for proxies that need weights). Of forty proxies that "
        "know nothing, one will seem to earn its keep. Ranked are the candidates of generations that relied on the "
        "proxy, and they owe to the strategy that proposed them as well; random ones are those of all generations."
    )
    return [*parts, *failed, how, _decisions(study)]


def _plain(proxy: str, row: AuditRow | None) -> str:
    """The verdict on the study's own proxy for somebody who has not read how it is reached."""
    name = _plugin(proxy)
    if row is None or row.n < FEW:
        return f"{name}: {verdicts.told(row)}."
    behind = f" {row.behind} alone is surely better." if row.behind else ""
    said = {
        "earned": f"{name} earned its keep: of networks of like size, those that it prefers are the more accurate ones",
        "undecided": f"Undecided: the candidates show neither that {name} knows what size does not, nor that it "
        "does not",
        "worthless": f"{name} is worth nothing beyond size: of networks of like size, it does not prefer the more "
        "accurate ones",
    }[row.verdict]
    return f"{said} ({verdicts.numbers(row)}).{behind}"


def _against_random(comparison: Comparison, savings: Savings) -> list[str]:
    """Ranked candidates against random controls."""
    lines = [f"Ranked against random candidates, at the first rung: {verdicts.compared(comparison)}."]
    if math.isnan(savings.saved):
        return [*lines, f"{verdicts.saved(savings).capitalize()}."]
    worth = "more than can be counted" if math.isinf(savings.worth) else f"{savings.worth:.2g}"
    told = f"{verdicts.saved(savings).capitalize()}: one that was proposed and ranked was worth {worth} random ones"
    return [*lines, f"{told}{'' if savings.low > 0 or savings.high < 0 else ', which chance can explain'}."]


def _audit_table(rows: Sequence[AuditRow]) -> Markup:
    header = ["proxy", "verdict", "τ raw", "τ, size removed", "τ within like MACs", "candidates", "reference"]
    body = [
        [
            tag("span", _plugin(row.proxy), title=row.proxy),
            "too few to tell" if row.n < FEW else verdicts.VERDICTS[row.verdict],
            verdicts.number(row.tau) + verdicts.span(row.tau_low, row.tau_high),
            verdicts.number(row.tau_size_removed) + verdicts.span(row.size_removed_low, row.size_removed_high),
            verdicts.number(row.tau_within_bins),
            row.n,
            row.references,
        ]
        for row in rows
    ]
    return table(header, body, right=(2, 3, 4, 5, 6))


def _decisions(study: Study) -> Markup:
    """On what the search relied, generation by generation."""
    rows = [
        [int(generation) + 1, "yes" if about["relied"] else "no", about["trained"], about["reason"]]
        for generation, about in study.reliance().items()
    ]
    shown = table(["generation", "relied on", "trained before", "because"], rows, right=(2,))
    return details(f"When the search relied on {_plugin(study.config.proxy)}", shown) if rows else Markup("")


# Topologies ----------------------------------------------------------------------------------------------------------


def _topologies(study: Study, front: pd.DataFrame) -> list[Markup]:
    """The networks of the front, the most accurate first."""
    from nas.reporting.topology.plot import topology_figure
    from results.plots import as_svg

    candidates = study.candidates().dropna(subset="position").drop_duplicates("key").set_index("key")
    keys = list(dict.fromkeys([str(study.best().key), *front.candidate[::-1]]))
    parts = [tag("h2", "Topologies")]
    for key in keys[:MOST_DRAWN]:
        about = candidates.loc[key]
        mine = front[front.candidate == key]
        realised = str(mine.realised_key.iloc[-1]) if len(mine) else study.store.realised(key)
        drawn = topology_figure(Architecture.from_json(study.store.architecture(realised)))
        choices = ", ".join(f"{name.partition('/')[2] or name} = {value}" for name, value in about.choices.items())
        levels = f"on the front with {len(mine)} of its points" if len(mine) else "not on the front"
        where = store_option(study.url)
        parts += [
            tag("h3", f"Network {key[:8]}", id=f"network-{study.name}-{key}"),
            paragraph(f"Space {about.space}, anytime accuracy {about.anytime_accuracy:.4f}; {levels}."),
            tag("p", f"Choices: {choices}", class_="muted"),
            figure(as_svg(drawn), f"Topology of network {key}, its important path highlighted"),
            code(
                f"nas show {key}{where}",
                f"nas show {key} --plot {key[:8]}.png{where}",
            ),
            code("import nas", f'network = nas.load("{key}"{store_argument(study.url)})'),
        ]
    rest = keys[MOST_DRAWN:]
    return [*parts, paragraph(f"Not drawn: {', '.join(rest)}. See nas show KEY --plot FILE.")] if rest else parts


# Words ---------------------------------------------------------------------------------------------------------------

_NUMBERS = re.compile(r"\b[0-9a-f]{16}\b|(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


def _without_numbers(reason: str) -> str:
    """A reason with … in place of numbers and keys, so that the like are counted together; its first line.

    >>> _without_numbers("The largest point has 1,234 MACs, above --max-macs 1,000.")
    'The largest point has … MACs, above --max-macs ….'
    """
    first = next(iter(reason.splitlines()), "")
    return f"{_NUMBERS.sub('…', first):.300}"


def _plugin(name: str) -> str:
    """A plug-in without the path of its file."""
    return name.rpartition(":")[2]


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _short(value: float) -> str:
    """A number with a prefix: 1500000 is 1.5M."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{prefix}"
    return f"{value:.3g}"
