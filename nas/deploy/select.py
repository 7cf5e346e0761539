"""Operating points for a trained network, chosen by a search over its subnetworks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import results
from nas.config import STORE, check_names, takes
from nas.deploy.networks import network_and_evaluator
from nas.errors import UserError
from nas.evaluation.jobs import Diverged
from nas.evaluation.loading import check_device
from nas.evaluation.operating_points import SelectionResult, SelectionSettings
from nas.execution.network import AnytimeNetwork
from nas.progress import Progress, State, for_python

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class OperatingPointsResult:
    """A network with chosen operating points, and all subnetworks that were measured.

    Parameters
    ----------
    selection
        The result of the evaluator.
    """

    selection: SelectionResult

    @property
    def network(self) -> AnytimeNetwork:
        """The network with its new operating points, calibrated."""
        return self.selection.network

    @cached_property
    def points(self) -> pd.DataFrame:
        """One row per operating point, small to large: level, macs, params, latency_ms and the measures."""
        import pandas as pd

        return pd.DataFrame(self.selection.points)

    @cached_property
    def measured(self) -> pd.DataFrame:
        """One row per measured subnetwork, in the order of measurement.

        Columns: macs, params, accuracy (on a part of the validation images), latency_ms (if limited), chosen.
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
            for m in self.selection.search.measured
        )

    def plot(self, path: str | PathLike[str]) -> Path:
        """Draw the measured subnetworks and the chosen operating points.

        Parameters
        ----------
        path : str or path
            File of the figure, as for :func:`results.plots.plot_front`.

        Returns
        -------
        pathlib.Path

        Raises
        ------
        StoreError
            As :func:`results.plots.plot_front`.
        """
        from results.curves import Curves
        from results.measures import metric_in_words
        from results.plots import plot_front

        labels = {
            "study": "final search",
            "space": "subnetworks",
            "fidelity": 1.0,
            "repeat": 0,
            "accuracy_sd": math.nan,
        }
        architecture = self.network.architecture
        key, quantity = architecture.key, metric_in_words(architecture.task.metric)
        cloud = self.measured.assign(candidate=[f"{i:06d}" for i in self.measured.index], level=0, **labels)
        return plot_front(
            Curves.of(cloud, quantity=quantity),
            self.points.assign(candidate=key, **labels),
            path,
            drawn="measured subnetwork",
        )


@dataclass(frozen=True, kw_only=True)
class _SelectArguments(SelectionSettings):
    """The arguments of :func:`select`."""

    network: str | Path | AnytimeNetwork = field(kw_only=False)
    study: str | None = None
    data: str | None = None
    hierarchy: str | None = None
    store: str = STORE
    seed: int = 0
    device: str = "auto"
    threads: int = 1
    accept_plugin_change: bool = False
    progress: Progress | None = None


@takes(_SelectArguments)
def select(
    network: str | Path | AnytimeNetwork,
    *,
    study: str | None = None,
    data: str | None = None,
    hierarchy: str | None = None,
    store: str = STORE,
    seed: int = 0,
    device: str = "auto",
    threads: int = 1,
    accept_plugin_change: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> OperatingPointsResult:
    """Choose operating points for a trained network by a search over its subnetworks, under limits.

    Parameters
    ----------
    network
        A key in the store, the folder of a saved network, or a network.
    study
        Study of the key; needed if several studies trained it.
    data
        Data specification, for calibration, validation and test; None: the data of the network's study.
    hierarchy
        File of the label hierarchy, as in a search.
    store
        URL or path of the results store.
    seed
        Seed of the search.
    device
        Name of a torch device, or "auto".
    threads
        Number of CPU threads.
    accept_plugin_change
        Use the evaluator of the study although its plug-in, or that of the data, has changed, and run their files.
    progress
        See :mod:`nas.progress`. By default a bar in a notebook, and nothing in a script.
    **settings
        Settings as in :class:`nas.evaluation.operating_points.SelectionSettings`, named like the options of the command
        line. Without ``low``: the lowest budget of the network's study, or else the cheapest subnetwork.

    Returns
    -------
    OperatingPointsResult
        The network with its new points, and the measurements. The given network is unchanged.

    Raises
    ------
    UserError
        For invalid settings; for a network whose operating points have their own norms; if no subnetwork is within the
        limits.
    results.StoreError
        If the store contains no such network.

    Notes
    -----
    Useful after a training rule that samples subnetworks, such as ``path_sampling``. The present operating points of
    the network are among the measured subnetworks.

    Examples
    --------
    >>> result = nas.select("2f9c01", study="digits", points=4, max_latency_ms=2.0)  # doctest: +SKIP
    >>> result.network.save("four_points")  # doctest: +SKIP
    """
    progress, opened = progress or for_python(), results.open(store)
    check_device(device)
    check_names(SelectionSettings, settings)
    selection = SelectionSettings(**settings)
    progress.show(State(stage="loading", done=0, total=selection.evaluations, trained=0))
    trained, evaluator, origin = network_and_evaluator(
        network,
        study=study,
        data=data,
        hierarchy=hierarchy,
        store=opened,
        device=device,
        threads=threads,
        accept_plugin_change=accept_plugin_change,
    )
    trained.check_replaceable_points()
    if selection.low is not None and selection.low >= trained.macs[-1]:
        raise UserError(
            f"--low must be below the network's largest point, {trained.macs[-1]:,} MACs. Got {selection.low:,}."
        )
    score = opened.score(origin.study) if origin and selection.low is None else None
    if score:
        selection = replace(selection, low=score.low)

    def report(done: int, total: int) -> None:
        progress.show(State(stage="measuring subnetworks", done=done, total=total, trained=done))

    try:
        return OperatingPointsResult(evaluator.select(trained, selection, seed=seed, report=report))
    except Diverged as error:  # the limits are the user's here
        raise UserError(str(error)) from error
