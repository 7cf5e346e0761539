"""Warm start: the trained candidates of an earlier study inform the strategy of a new one.

They are copied to a table of their own when the new study starts, so that later changes of the earlier study change
nothing. They are part of the strategy's history and are not proposed again. They are no candidates of the new study:
limits, finalists, fronts and audits do not count them, and their networks stay with the earlier study.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nas.config import Config, option
from nas.errors import PluginError, UserError
from nas.evaluation.data_identity import DataIdentity
from nas.evaluation.evaluator import DataInfo
from nas.funnel.ledger import newest_and_best
from nas.screening.proposals import Proposal
from nas.screening.screener import Screener
from nas.spaces.choices import Domains, Options, replay
from results.front import Score

if TYPE_CHECKING:
    from results.store import Store

MOST = 1_000
"""Copied candidates, at most: the newest half and the best others."""
_COMPARED = (
    *("evaluator", "epochs", "images", "rule", "recipe", "validation", "points", "hierarchy", "layout"),
    *("metric", "sampling", "batch_size", "learning_rate", "augment", "precision"),
)
"""Settings on which the accuracies of partial training and the networks of a space depend, beside the data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierStudy:
    """The study that a new one starts from.

    score: of both. rows: its trained candidates, as the store keeps them. domains: the options of their choices.
    left_out: trained candidates that the spaces of the new study do not build.
    """

    name: str
    score: Score
    rows: tuple[dict[str, Any], ...]
    domains: Mapping[str, Options]
    left_out: int


def earlier_score(config: Config, store: Store, info: DataInfo) -> Score:
    """The score of the study to start from, which the new study takes over.

    Parameters
    ----------
    config
        Settings of the new study, without open ones.
    store
        Holds the earlier study.
    info
        Of the new study's data.

    Returns
    -------
    Score

    Raises
    ------
    UserError
        If data, training or score differ, so that accuracies would not be comparable.
    results.StoreError
        If there is no such study.
    """
    name = config.warm_start
    assert name is not None
    if name == config.study:
        raise UserError(f"--from must name another study. Got {name!r} for both: rename the new one.")
    stored, own, score = store.settings(name), config.stored(), store.score(name)
    requirement = f"--from needs a study with equal data, training and score. Study {name!r} has"
    if difference := DataIdentity.of(info).difference(DataIdentity.from_settings(stored)):
        raise UserError(f"{requirement} {difference} than {info.name}. Search the same data, or leave out --from.")
    if different := [each for each in _COMPARED if stored.get(each) != own.get(each)]:
        listed = ", ".join(
            f"{option(each)} {_shown(stored.get(each))} (now {_shown(own.get(each))})" for each in different
        )
        raise UserError(f"{requirement} {listed}. Use its settings, or leave out --from.")
    if score is None:
        raise UserError(f"--from needs a study with trained candidates. Study {name!r} has not begun: resume it first.")
    wanted = asdict(score) | {"floor": info.floor}
    wanted |= {each: value for each, value in (("low", config.low), ("high", config.max_macs)) if value is not None}
    if wanted != asdict(score):
        limits = {"low": "--low", "high": "--max-macs", "floor": "a floor of"}
        listed = ", ".join(
            f"{limits[each]} {getattr(score, each):g} (now {wanted[each]:g})"
            for each in limits
            if wanted[each] != getattr(score, each)
        )
        raise UserError(f"{requirement} {listed}. Leave these limits out to take over its own, or leave out --from.")
    return score


def earlier_study(config: Config, store: Store, info: DataInfo, screener: Screener) -> EarlierStudy:
    """The trained candidates of the study to start from, built again by the spaces of the new study.

    Parameters
    ----------
    config, store, info
        As for :func:`earlier_score`.
    screener
        Of the new study. Its constraints are not applied: candidates that break them inform too.

    Returns
    -------
    EarlierStudy

    Raises
    ------
    UserError
        As :func:`earlier_score`, and if there is no trained candidate that the spaces build.
    """
    name, score = config.warm_start, earlier_score(config, store, info)
    assert name is not None
    domains = Domains()
    trained = [row | {"rungs": _rungs(config, info, row["scores"])} for row in store.trained(name)]
    trained = [row for row in trained if row["rungs"]]
    by_id = {row["id"]: row for row in trained}
    chosen = newest_and_best(list(by_id), MOST, lambda n: (by_id[n]["status"] == "finished", by_id[n]["rungs"][-1][1]))
    rows = list(_built(name, [by_id[number] for number in chosen], screener, domains))
    if not rows:
        spaces = ", ".join(sorted({row["space"] for row in trained})) or "none"
        raise UserError(
            f"--from needs a study with trained candidates that the spaces {', '.join(config.spaces)} build. Study "
            f"{name!r} has {len(trained)} trained candidates, of the spaces: {spaces}. Name another study."
        )
    return EarlierStudy(
        name=name, score=score, rows=tuple(rows), domains=dict(domains.options), left_out=len(chosen) - len(rows)
    )


def _rungs(config: Config, info: DataInfo, scores: Mapping[float, float]) -> list[tuple[int, float]]:
    """Epochs and score at each rung that a candidate reached. scores: by fidelity."""
    share = min(1.0, config.partial_images / info.train_images)
    fidelities = {epochs: round(epochs * share, 6) for epochs in config.rungs()}
    return [(epochs, scores[fidelity]) for epochs, fidelity in fidelities.items() if fidelity in scores]


def _built(origin: str, rows: list[dict[str, Any]], screener: Screener, domains: Domains) -> Iterator[dict[str, Any]]:
    """The candidates that the present spaces build with equal keys, as rows of the store."""
    free = Screener(
        screener.spaces,
        screener.task,
        points=screener.points,
        proxy=(screener.proxy_name, screener.proxy),
        domains=domains,
        training=screener.training,
    )
    for row in rows:
        if row["space"] not in screener.spaces:
            continue
        try:
            proposal = free.propose(replay({"space": row["space"]} | row["choices"]))
        except PluginError:  # the space has other choices now
            continue
        if isinstance(proposal, Proposal) and proposal.key == row["key"]:
            yield {
                "origin": origin,
                "key": proposal.key,
                "space": proposal.space,
                "status": row["status"],
                "generation": row["generation"],
                "anytime_accuracy": row["rungs"][-1][1],
                "rungs": row["rungs"],
                "proxies": {screener.proxy_name: proposal.score},
                "choices": dict(proposal.choices),
                "architecture": proposal.architecture.to_json(),
            }


def _shown(value: object) -> str:
    return "not set" if value is None else str(value)
