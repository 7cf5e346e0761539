"""``nas report``: one HTML file on one study or several, with front, funnel, search progress, proxy audit, topologies.

This module collects the data from the studies; ``report.html.jinja`` and ``report.css`` turn them into a page.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from nas.audit import wording
from nas.chain.summary import training_summary
from nas.config import store_option
from nas.errors import UserError
from nas.plugins import trust_named
from nas.progress import Progress, duration
from nas.proxies.contract import load_proxy
from nas.reporting import formats
from nas.reporting import interactive as charts
from nas.reporting.audit_plot import audit_figure
from nas.reporting.audit_sentences import comparison_sentences, short_verdict, verdict_sentence
from nas.reporting.console import (
    MEAN_OF_LABELS,
    hierarchy_columns,
    keeps_weights,
    load_code,
    own_measures,
    short_choices,
)
from nas.reporting.formats import plugin_name, warm_start_text
from nas.reporting.report_content import (
    Audit,
    Chart,
    Decision,
    Front,
    FrontPoint,
    Funnel,
    GenerationCount,
    Headline,
    NetworkDrawing,
    Picture,
    ProxyFailure,
    Reason,
    ReportContent,
    Stage,
    StatusCount,
    StudyContent,
)
from nas.reporting.topology.plot import topology_figure
from nas.study import Study, stored_architecture
from results.errors import NotComparable
from results.front import Score
from results.plots import as_svg, engineering, front_figure, progress_figure
from results.schema import STATUSES

if TYPE_CHECKING:
    import pandas as pd

MAX_FRONT_ROWS = 60
MAX_DRAWINGS = 8
MAX_REASONS = 3  # of each status
_MARKER = b'<meta name="generator" content="anytime-nas">'
"""Identifies a report: a line of the template, in the first bytes of the file."""
_FIRST_BYTES = 1000
STAGES = ("proposing and screening", "partial training", "full training")


def write_report(
    studies: Sequence[Study],
    path: str | PathLike[str],
    *,
    proxies: Sequence[str] = ("all",),
    progress: Progress | None = None,
    interactive: bool = True,
) -> Path:
    """Write a report on studies of one store: one HTML file without references to other files.

    Parameters
    ----------
    studies : sequence of Study
        Studies of the same store.
    path : path-like
        The file to write. It appears only when it is complete, in place of any file of this name.
    proxies : sequence of str
        Proxies to audit beside each study's own and the sizes: names, ``file.py:Name``, or "all" for every installed
        one.
    progress : Progress, optional
        Displays the progress of the audit; see :mod:`nas.progress`.
    interactive : bool
        Whether fronts and progress are charts that react to the pointer. The file has 2 MB more, the script of
        plotly.js; otherwise it has no scripts.

    Returns
    -------
    Path
        The path of the file.

    Raises
    ------
    UserError
        If a proxy is unknown, the file is not writable, or the studies are of several stores: checked before the audit.
    """
    if len({study.url for study in studies}) > 1:
        raise UserError(
            f"A report is on studies of one store. Got {', '.join(study.store.label for study in studies)}."
        )
    for name in proxies:
        if name != "all":
            trust_named(name)
            load_proxy(name)
    path = Path(path)
    with _writable(path):
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=path.parent))
    try:
        page = render(report_content(studies, proxies, progress, interactive=interactive))
        with _writable(path):
            (unfinished / "report.html").write_text(page, encoding="utf-8")
            os.replace(unfinished / "report.html", path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return path


def default_path(names: Sequence[str]) -> Path:
    """The file of a report that the user does not name.

    Raises
    ------
    UserError
        If a file of this name exists that is no report.
    """
    path = Path(f"{'+'.join(names)[:100]}.html")
    try:
        with open(path, "rb") as file:
            ours = _MARKER in file.read(_FIRST_BYTES)
    except FileNotFoundError:
        return path
    except OSError as error:
        raise UserError(f"The report {path} must be writable: {error.strerror or error}.") from error
    if not ours:
        raise UserError(f"A report replaces only reports. Got {path}, which is another file: name a file with --out.")
    return path


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"The report {path} must be writable: {error.strerror or error}.") from error


def render(report: ReportContent) -> str:
    """The page of a report. Equal content gives equal text."""
    environment = Environment(
        loader=PackageLoader("nas.reporting", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "engineering": engineering,
        "fraction": formats.fraction,
        "measured": formats.measured,
        "percent": formats.percent,
        "plugin_name": plugin_name,
        "reference_mark": formats.reference_mark,
        "tau": wording.number,
        "verdict": short_verdict,
        "whole": formats.whole,
    }
    template = environment.get_template("report.html.jinja")
    plotly = charts.script() if report.interactive else ""
    return template.render(report=report, interval=wording.span, mean_of_labels=MEAN_OF_LABELS, plotly=plotly)


def report_content(
    studies: Sequence[Study], proxies: Sequence[str], progress: Progress | None, *, interactive: bool = True
) -> ReportContent:
    """Collect the data of a report, and audit the proxies."""
    together, problem = None, ""
    if len(studies) > 1:
        try:
            points = studies[0].store.front([study.name for study in studies])
        except NotComparable as error:
            problem = str(error)
        else:
            together = None if points.empty else _front(studies, points, None, chart="all")
    contents = tuple(_study(study, proxies, progress) for study in studies)
    return ReportContent(
        studies=contents,
        front=together,
        problem=problem,
        interactive=interactive and any(content.front is not None for content in contents),
    )


def _study(study: Study, proxies: Sequence[str], progress: Progress | None) -> StudyContent:
    state, reason = study.store.ending(study.name)
    candidates, front = study.candidates(), study.front()
    funnel = None if candidates.empty else _funnel(study, candidates)
    start = StudyContent(
        name=study.name,
        state=state,
        reason=reason or "",
        spaces=tuple(study.config.spaces),
        data=study.config.data,
        warm_start=warm_start_text(study),
        augmentation=study.store.settings(study.name).get("_augmentation") or "",
        strategy=study.config.strategy,
        proxy=study.config.proxy,
        seed=study.config.seed,
        store=study.store.label,
        store_option=store_option(study.store.label, absolute=True),
        funnel=funnel,
    )
    if front.empty:
        return start
    keys = list(dict.fromkeys([str(study.best().key), *front.candidate[::-1]]))  # the most accurate first
    return replace(
        start,
        headline=_headline(study, front, candidates),
        front=_front([study], front, study.score(), chart=f"front-{study.name}"),
        progress=_progress(study),
        progress_chart=_progress_chart(study),
        audit=_audit(study, proxies, progress),
        networks=_networks(study, front, candidates, keys[:MAX_DRAWINGS]),
        undrawn=tuple(keys[MAX_DRAWINGS:]),
    )


# Front ---------------------------------------------------------------------------------------------------------------


def _headline(study: Study, front: pd.DataFrame, candidates: pd.DataFrame) -> Headline:
    score, best, comparison = study.score(), study.best(), study.against_reference()
    return Headline(
        quantity=score.quantity,
        anytime_accuracy=study.anytime_accuracy(),
        test_anytime_accuracy=study.anytime_accuracy("test") if front.test_accuracy.notna().all() else None,
        best=str(best.key),
        best_accuracy=best.anytime_accuracy,
        low=score.low,
        high=score.high,
        trained=int((candidates.position.notna() & (candidates.status != "failed")).sum()),
        proposed=len(candidates),
        against_reference=formats.reference_text(comparison) if comparison else "",
    )


def _front(studies: Sequence[Study], front: pd.DataFrame, score: Score | None, *, chart: str) -> Front:
    """The front of one study, or of several together, over all points that were trained. chart: its name."""
    store, names = studies[0].store, [study.name for study in studies]
    curves = store.curves(names)
    figure = front_figure(curves, front, score=score, policies=store.policies(names))
    live = charts.front_chart(curves, front, score, store_option(store.label, absolute=True))
    measures = (*hierarchy_columns(front), *own_measures(front, "front"))
    points = tuple(
        FrontPoint(
            macs=point.macs,
            params=point.params,
            accuracy=point.accuracy,
            accuracy_sd=point.accuracy_sd,
            test_accuracy=point.test_accuracy,
            measures=tuple(getattr(point, name) for name in measures),
            candidate=point.candidate,
            level=point.level,
            space=point.space,
            reference=point.reference,
            study=point.study,
        )
        for point in front.head(MAX_FRONT_ROWS).itertuples()
    )
    quantity = curves.quantity.capitalize()
    alt = f"{quantity} against MACs: {len(front)} points of the front over all points that were trained"
    return Front(
        picture=Picture(svg=as_svg(figure), alt=alt),
        points=points,
        num_omitted=len(front) - len(points),
        measures=measures,
        hierarchy=bool(hierarchy_columns(front)),
        repeated=bool(front.repeats.max() > 1),
        several_studies=front.study.nunique() > 1,
        chart=Chart(name=chart, json=charts.as_json(live)),
    )


# Funnel and progress -------------------------------------------------------------------------------------------------


def _funnel(study: Study, candidates: pd.DataFrame) -> Funnel:
    counts = candidates.groupby(["generation", "status"]).size().unstack(fill_value=0)
    counts = counts[[status for status in STATUSES if status in counts]]
    state = study.state
    return Funnel(
        proposals=len(candidates),
        statuses=tuple(_status_count(candidates, status) for status in counts),
        generations=tuple(
            GenerationCount(
                number=int(generation) + 1,
                counts=tuple(counts.loc[generation]),
                by_proxy=len(state.reliance[int(generation)].ordered) if int(generation) in state.reliance else None,
            )
            for generation in counts.index
        ),
        stages=_stages(study),
        search_seconds=state.seconds,
    )


def _status_count(candidates: pd.DataFrame, status: str) -> StatusCount:
    matching = candidates[candidates.status == status]
    reasons = matching.reason.dropna().map(_without_numbers).value_counts()
    return StatusCount(
        status=status,
        candidates=len(matching),
        share=len(matching) / len(candidates),
        reasons=tuple(Reason(text=text, count=int(count)) for text, count in reasons.head(MAX_REASONS).items()),
        num_omitted=max(0, len(reasons) - MAX_REASONS),
    )


def _stages(study: Study) -> tuple[Stage, ...]:
    evaluations = study.store.evaluations(study.name)
    partial = evaluations.assign(partial=_is_partial(study, evaluations))
    seconds = partial.groupby(["candidate", "repeat", "partial"]).seconds.max().groupby("partial").sum()
    spent = [study.state.screening, seconds.get(True, 0.0), seconds.get(False, 0.0)]
    return tuple(Stage(name=name, seconds=s, share=s / (sum(spent) or 1.0)) for name, s in zip(STAGES, spent))


def _is_partial(study: Study, evaluations: pd.DataFrame) -> pd.Series:
    """Which evaluations are rungs of partial training, or the full training of a search without finalists."""
    config = study.config
    return evaluations.epochs.isin(config.rungs()) & (evaluations.images <= config.images) & (evaluations.repeat == 0)


def _progress(study: Study) -> Picture:
    """The best anytime accuracy after each candidate of partial training."""
    evaluations = study.store.evaluations(study.name)
    rungs = evaluations[_is_partial(study, evaluations)]
    last = rungs.loc[rungs.groupby("candidate").fidelity.idxmax()].set_index("candidate")
    trained = study.first_rung()
    trained = trained[trained.key.isin(last.index)]
    reached = last.loc[trained.key]
    finished = (reached.fidelity == rungs.fidelity.max()).to_numpy()
    shown = trained.assign(accuracy=reached.score.to_numpy(), finished=finished).reset_index(drop=True)
    return Picture(
        svg=as_svg(progress_figure(shown, study.score().quantity)),
        alt=f"Best anytime accuracy after each of {len(shown)} partially trained candidates; "
        f"after the last one {shown.accuracy.max():.2%}",
        caption=f"Each candidate at the last rung that it reached, after {duration(rungs.seconds.max())} of training "
        f"at most.{'' if study.config.free else ' The full training of the finalists is not shown.'}",
    )


def _progress_chart(study: Study) -> Chart:
    """The evaluations of a study as an interactive chart."""
    live = charts.progress_chart(
        study.history(), store_option(study.store.label, absolute=True), study.score().quantity
    )
    return Chart(name=f"progress-{study.name}", json=charts.as_json(live))


# Audit ---------------------------------------------------------------------------------------------------------------


def _audit(study: Study, proxies: Sequence[str], progress: Progress | None) -> Audit:
    """The audit of the study's proxy, the sizes and the given proxies."""
    try:
        audit = study.proxy_audit()
        result = audit.result(*proxies, progress=progress)
    except UserError as error:  # such as a space whose file was deleted
        return Audit(problem=str(error))
    proxy, rows = study.config.proxy, result.rows
    own = next((row for row in rows if row.proxy == proxy), None)
    reliance = wording.reliance_line(plugin_name(proxy), study.state.reliance)
    picture = None
    if rows:
        alt = "; ".join(f"{plugin_name(row.proxy)}: {wording.numbers(row)}" for row in rows)
        picture = Picture(svg=as_svg(audit_figure(rows, proxy=proxy)), alt=alt)
    return Audit(
        sentences=(
            *(f"Changed since the study: {sentence}" for sentence in study.plugin_changes),
            verdict_sentence(proxy, own),
            *comparison_sentences(*audit.comparison()),
            *filter(None, [reliance]),
        ),
        rows=tuple(rows),
        picture=picture,
        failures=tuple(ProxyFailure(proxy=name, reason=problem) for name, problem in result.problems.items()),
        reference_counts=tuple(sorted({row.references for row in rows})),
        decisions=tuple(
            Decision(
                generation=generation + 1,
                share=decision.share,
                trained=decision.trained,
                reason=decision.reason,
            )
            for generation, decision in study.state.reliance.items()
        ),
    )


# Topologies ----------------------------------------------------------------------------------------------------------


def _networks(
    study: Study, front: pd.DataFrame, candidates: pd.DataFrame, keys: Sequence[str]
) -> tuple[NetworkDrawing, ...]:
    trained = candidates.dropna(subset="position").drop_duplicates("key").set_index("key")
    networks = []
    for key in keys:
        candidate = trained.loc[key]
        points = front[front.candidate == key]
        found = study.store.find_candidate(key, study.name)
        realised, repeat = (found.realised, 0) if points.empty else points.iloc[-1][["realised_key", "repeat"]]
        architecture = stored_architecture(study.store, realised)
        sentence = training_summary(architecture).sentence
        networks.append(
            NetworkDrawing(
                key=key,
                space=candidate.space,
                reference=candidate.reference,
                anytime_accuracy=candidate.anytime_accuracy,
                choices=tuple(short_choices(candidate.choices)),
                num_front_points=len(points),
                load_code=load_code(study, key, repeat, absolute=True) if keeps_weights(study, key, repeat) else "",
                picture=Picture(
                    svg=as_svg(topology_figure(architecture)),
                    alt=f"Topology of network {key} with its training chain. {sentence}".rstrip(),
                ),
            )
        )
    return tuple(networks)


_NUMBERS = re.compile(r"\b[0-9a-f]{16}\b|(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


def _without_numbers(reason: str) -> str:
    """The first line of a reason, with … in place of numbers and keys, so that similar reasons count as one.

    >>> _without_numbers("The largest point has 1,234 MACs, above --max-macs 1,000.")
    'The largest point has … MACs, above --max-macs …'
    """
    first = next(iter(reason.splitlines()), "")
    return f"{_NUMBERS.sub('…', first).replace('….', '…'):.300}"
