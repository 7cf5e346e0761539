"""Other operating points for a trained network: the final search, for a network of the store or of a folder."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import results
from nas.config import Config
from nas.errors import UserError
from nas.evaluation.evaluator import Evaluator
from nas.evaluation.jobs import Diverged
from nas.evaluation.operating_points import EVALUATIONS, Selection, SelectionResult
from nas.execution.loading import load
from nas.execution.network import AnytimeNetwork
from nas.launch import absolute_data, check_device, make_evaluator
from nas.progress import Progress, Silent, State
from nas.study import STORE

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Chosen:
    """A network with the operating points that a final search chose, and all that the search saw."""

    selected: SelectionResult

    @property
    def network(self) -> AnytimeNetwork:
        """With its new points, calibrated; ready to answer and to be saved."""
        return self.selected.network

    @cached_property
    def points(self) -> pd.DataFrame:
        """One row per chosen point, small to large: level, macs, params, latency_ms and what was measured."""
        import pandas as pd

        return pd.DataFrame(self.selected.points)

    @cached_property
    def measured(self) -> pd.DataFrame:
        """One row per subnetwork measured on the way, in order: macs, params, accuracy (on a part of the validation
        images), latency_ms (where it was limited), chosen.
        """
        import pandas as pd

        chosen = set(self.network.architecture.points)
        return pd.DataFrame(
            {
                "macs": m.macs,
                "params": m.params,
                "accuracy": m.accuracy,
                "latency_ms": m.latency_ms,
                "chosen": m.subnetwork in chosen,
            }
            for m in self.selected.found.measured
        )

    def plot(self, path: str | PathLike[str]) -> Path:
        """Draw the measured subnetworks, and over them the chosen points. Raises StoreError as plot_front does."""
        from results.plots import plot_front

        labels = {
            "study": "final search",
            "space": "subnetworks",
            "fidelity": 1.0,
            "repeat": 0,
            "accuracy_sd": math.nan,
        }
        key = self.network.architecture.key
        cloud = self.measured.assign(candidate=[f"{i:06d}" for i in self.measured.index], level=0, **labels)
        return plot_front(cloud, self.points.assign(candidate=key, **labels), path, drawn="measured subnetwork")


def select(
    network: str | Path | AnytimeNetwork,
    *,
    data: str | None = None,
    hierarchy: str | None = None,
    store: str = STORE,
    points: int | None = None,
    evaluations: int | None = None,
    max_macs: float | None = None,
    max_params: float | None = None,
    max_latency_ms: float | None = None,
    low: float | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int = 1,
    progress: Progress | None = None,
) -> Chosen:
    """Choose operating points for a trained network by a search over its subnetworks, under limits.

    network: a key of the store, the folder of a saved network, or a network. data: a data specification to calibrate
        and to choose by (and, for what was chosen, to test on); None: those of the network's study.
    hierarchy: the file of their label hierarchy, as for a search.
    points: how many; None: as many as it has. evaluations: subnetworks to measure; None: 192.
    max_latency_ms: for one example on this device, measured.
    low: the lowest budget that the network should answer under, in MACs; None: that of its study, or of the cheapest
        subnetwork found.

    Worth its time after a training rule that samples subnetworks, such as path_sampling; the network's own points are
    among those compared. Under the policy "per_point" other points have no norms: refused.

    Raises UserError or results.StoreError for a user's mistake.
    """
    progress = progress or Silent()
    check_device(device)
    evaluations = EVALUATIONS if evaluations is None else evaluations
    for name, given in (("points", points), ("evaluations", evaluations)):
        if given is not None and not (type(given) is int and given >= 1):
            raise UserError(f"{name} must be a whole number, at least 1. Got {given!r}.")
    if low is not None and not (isinstance(low, int | float) and 0 < low < math.inf):
        raise UserError(f"low must be a positive, finite number of MACs. Got {low!r}.")
    selection = Selection(
        evaluations=evaluations, max_macs=max_macs, max_params=max_params, max_latency_ms=max_latency_ms
    )
    progress.show(State(stage="loading", done=0, total=evaluations, trained=0))
    found, evaluator, key = network_and_evaluator(
        network, data=data, hierarchy=hierarchy, store=store, device=device, threads=threads
    )
    if found.architecture.norm == "per_point":
        raise UserError("Each operating point of this network has norms of its own: others cannot take its place.")
    if low is not None and low >= found.macs[-1]:
        raise UserError(f"low must be below the network's largest point, {found.macs[-1]:,} MACs. Got {low:,}.")
    score = results.open(store).score(key.study) if key and low is None else None
    selection = replace(selection, low=score.low if score else low)

    def report(done: int, total: int) -> None:
        progress.show(State(stage="measuring subnetworks", done=done, total=total, trained=done))

    try:
        return Chosen(evaluator.select(found, selection, seed=seed, points=points, report=report))
    except Diverged as error:  # here the limits are the user's, and no candidate's
        raise UserError(str(error)) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class InStore:
    """Where a network of the store is from: its study, and the full key that it was asked for by."""

    study: str
    key: str


def network_and_evaluator(
    network: str | Path | AnytimeNetwork,
    *,
    data: str | None,
    hierarchy: str | None = None,
    store: str,
    device: str,
    threads: int,
) -> tuple[AnytimeNetwork, Evaluator, InStore | None]:
    """A trained network with the evaluator of its study, or, where it is not of the store, the default one for data.

    network: a key, a folder or a network. data, hierarchy: None for those of the study.

    Raises UserError or results.StoreError.
    """
    if not isinstance(network, str | Path | AnytimeNetwork):
        raise UserError(f"network must be a key, a folder or a network. Got {network!r}.")
    found = network if isinstance(network, AnytimeNetwork) else load(network, store=store)
    if isinstance(network, AnytimeNetwork) or Path(network).is_dir():
        if data is None:
            raise UserError("A network that is not of the store comes without data: name them with --data.")
        origin = None
        config = Config(data=absolute_data(data), hierarchy=hierarchy, device=device, threads=threads)
        evaluator = make_evaluator(config)
    else:
        opened = results.open(store)
        origin = InStore(study=opened.study_of(str(network)), key=opened.key(str(network)))
        settings = {**opened.settings(origin.study), "device": device, "threads": threads}
        if data is not None:
            settings["data"] = absolute_data(data)
        if hierarchy is not None:
            settings["hierarchy"] = hierarchy
        evaluator = make_evaluator(Config.from_stored(origin.study, settings))
    if (task := evaluator.info().task) != found.architecture.task:
        raise UserError(f"The data must be of the network's task, {found.architecture.task}. Got {task}.")
    return found, evaluator, origin
