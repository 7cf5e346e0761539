"""Controllers for a trained network, measured beside fixed utilizations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import results
from nas.config import STORE, check_names, takes
from nas.deploy.networks import network_and_evaluator
from nas.errors import UserError
from nas.evaluation.controllers import ControllerResult, ControllerSettings
from nas.evaluation.loading import check_device
from nas.execution.controller import Controller
from nas.execution.gate_policy import GatePolicy
from nas.execution.network import AnytimeNetwork
from nas.files import check_folder, write_folder
from nas.progress import Progress, State, for_python
from results.reading.stored_networks import StoredNetwork
from results.store import Store

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class ThrottlingResult:
    """A network with controllers that choose a utilization for each input, and their measurements.

    Parameters
    ----------
    network
        The unchanged network.
    result
        The result of the evaluator.
    """

    network: AnytimeNetwork
    result: ControllerResult

    @property
    def controllers(self) -> Sequence[Controller | GatePolicy]:
        """One for each penalty, for use in a :class:`nas.ControlledNetwork`."""
        return self.result.controllers

    @cached_property
    def policies(self) -> pd.DataFrame:
        """One row per controller; for gate policies, one row per utilization.

        Columns: ``results.columns.POLICY``. macs and accuracy are means over validation images that the controller has
        not learned from. macs and test_macs include the controller and all passes, controller_macs is the cost of the
        choice only.
        """
        import pandas as pd

        from results.columns import POLICY

        return pd.DataFrame(self.result.policies)[list(POLICY)]

    @cached_property
    def points(self) -> pd.DataFrame:
        """One row per utilization that controllers choose from: utilization, macs, accuracy, test_accuracy.

        Measured on the same images as the controllers.
        """
        import pandas as pd

        return pd.DataFrame(self.result.fixed)

    def plot(self, path: str | PathLike[str]) -> Path:
        """Draw the fixed utilizations and the controllers.

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
        from results.front import non_dominated
        from results.plots import plot_front

        labels = {"study": "throttled", "candidate": self.network.architecture.key, "space": "fixed utilizations"}
        points = self.points.assign(level=self.points.index, fidelity=1.0, accuracy_sd=math.nan, **labels)
        policies = self.policies.assign(**labels)
        best = points[non_dominated(points.macs, points.accuracy)]
        return plot_front(Curves.of(points), best, path, drawn="network", policies=policies)

    def save(self, folder: str | Path) -> None:
        """Write the network to a folder, and each controller to ``controllers/PENALTY`` in it.

        Parameters
        ----------
        folder : str or path
            New, empty, or of a network that was saved before, which is replaced with its controllers. Files of other
            origin remain.

        Raises
        ------
        UserError
            If a file of other origin would be replaced, or the folder is not writable.
        """
        penalties = dict.fromkeys(policy["penalty"] for policy in self.result.policies)
        files = dict(self.network.files())
        for controller, penalty in zip(self.controllers, penalties):
            files |= {f"controllers/{penalty:.12g}/{name}": write for name, write in controller.files().items()}
        write_folder(folder, files)


@dataclass(frozen=True, kw_only=True)
class _ThrottleArguments(ControllerSettings):
    """The arguments of :func:`throttle`."""

    network: str | Path | AnytimeNetwork = field(kw_only=False)
    study: str | None = None
    data: str | None = None
    hierarchy: str | None = None
    store: str = STORE
    seed: int = 0
    folder: str | Path | None = None
    device: str = "auto"
    threads: int = 1
    accept_plugin_change: bool = False
    progress: Progress | None = None


@takes(_ThrottleArguments)
def throttle(
    network: str | Path | AnytimeNetwork,
    *,
    study: str | None = None,
    data: str | None = None,
    hierarchy: str | None = None,
    store: str = STORE,
    seed: int = 0,
    folder: str | Path | None = None,
    device: str = "auto",
    threads: int = 1,
    accept_plugin_change: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> ThrottlingResult:
    """Train controllers that throttle a trained network, one for each penalty. The network stays unchanged.

    Controllers of a throttleable network choose from u = 0.1 … 1.0, of another network from its operating points. For a
    network in the store, measurements are recorded, see ``store.policies``.

    Parameters
    ----------
    network
        A key in the store, the folder of a saved network, or a network.
    study
        Study of the key; needed if several studies trained it.
    data
        Data specification; None: the data of the network's study. With other data, nothing is recorded.
    hierarchy
        File of the label hierarchy, as in a search.
    store
        URL or path of the results store.
    seed
        Seed of the training.
    folder
        New or empty folder for the network and its controllers, or a folder of theirs, whose files are replaced;
        written before anything is recorded. None: they are not saved.
    device
        Name of a torch device, or "auto".
    threads
        Number of CPU threads.
    accept_plugin_change
        Use the evaluator of the study although its plug-in, or that of the data, has changed, and run their files.
    progress
        See :mod:`nas.progress`. By default a bar in a notebook, and nothing in a script.
    **settings
        Settings as in :class:`nas.evaluation.controllers.ControllerSettings`, named like the options of the command
        line. The learner "gates" needs a throttleable network.

    Returns
    -------
    ThrottlingResult
        The controllers and their measurements.

    Raises
    ------
    UserError
        For invalid settings, a network with a single operating point, operating points with coarse labels, or a folder
        with files of other origin.
    results.StoreError
        If the store contains no such network, or if measurements are to be recorded and another process writes the
        study or the store cannot be written: checked before the training.

    Examples
    --------
    >>> result = nas.throttle("2f9c01", study="digits", penalties=(0.1, 1.0))  # doctest: +SKIP
    >>> controlled = nas.ControlledNetwork(result.network, result.controllers[0])  # doctest: +SKIP
    """
    progress, opened = progress or for_python(), results.open(store)
    check_device(device)
    if folder is not None:
        check_folder(folder)
    check_names(ControllerSettings, settings)
    if isinstance(settings.get("penalties"), Iterable):
        settings["penalties"] = tuple(settings["penalties"])
    controller_settings = ControllerSettings(**settings)
    progress.show(State(stage="loading", done=0, total=len(controller_settings.penalties), trained=0))
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
    recorded = origin if data is None and hierarchy is None else None  # other data give no results of the study
    if recorded is not None:
        opened.check_writer(recorded.study, opened.settings(recorded.study))
    if any(trained.architecture.labelling(point) for point in trained.architecture.points):
        raise UserError(
            "To be throttled, all points must answer in the same labels. Some points of this network answer in coarse "
            "labels: train a network without a hierarchy."
        )

    def report(done: int, total: int) -> None:
        progress.show(State(stage="training controllers", done=done, total=total, trained=done))

    trained_controllers = evaluator.train_controllers(trained, controller_settings, seed=seed, report=report)
    result = ThrottlingResult(trained, trained_controllers)
    if folder is not None:
        result.save(folder)
    if recorded is not None:
        _record(opened, recorded, trained_controllers)
    return result


def _record(opened: Store, origin: StoredNetwork, result: ControllerResult) -> None:
    """Record the measurements of controllers; the state of the study stays the same."""
    state, reason = opened.ending(origin.study)
    with opened.writer(origin.study, opened.settings(origin.study)) as writer:
        writer.record_policies(origin.candidate, result.policies)
        writer.finish(state, reason)
