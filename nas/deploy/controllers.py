"""Controllers for a trained network of the store or of a folder: what they reach, beside the fixed utilizations."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import results
from nas.deploy.select import InStore, network_and_evaluator
from nas.errors import UserError
from nas.evaluation.controllers import ControllerResult, ControlSettings
from nas.execution.controller import Controller
from nas.execution.gate_policy import GatePolicy
from nas.execution.network import AnytimeNetwork
from nas.launch import check_device
from nas.progress import Progress, Silent, State
from nas.study import STORE

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Throttled:
    """A network with controllers that pick a utilization for each input, and what they reach."""

    network: AnytimeNetwork
    controlled: ControllerResult

    @property
    def controllers(self) -> Sequence[Controller | GatePolicy]:
        """One for each penalty, to be used in a :class:`nas.ControlledNetwork`."""
        return self.controlled.controllers

    @cached_property
    def policies(self) -> pd.DataFrame:
        """One row per controller, of gate policies one per utilization: penalty, learner, sees, utilization, macs
        (mean of an example, all that runs included) and accuracy on validation images that it did not learn from,
        test_macs, test_accuracy, controller_macs (of a choice alone).
        """
        import pandas as pd

        columns = [
            "penalty",
            "learner",
            "sees",
            "utilization",
            "macs",
            "accuracy",
            "test_macs",
            "test_accuracy",
            "controller_macs",
        ]
        return pd.DataFrame(self.controlled.policies)[columns]

    @cached_property
    def points(self) -> pd.DataFrame:
        """One row per utilization that controllers pick from: utilization, macs, accuracy (on the same images),
        test_accuracy.
        """
        import pandas as pd

        return pd.DataFrame(self.controlled.fixed)

    def plot(self, path: str | PathLike[str]) -> Path:
        """Draw the fixed utilizations, and over them what controllers reach. Raises StoreError as plot_front does."""
        from results.front import non_dominated
        from results.plots import plot_front

        labels = {"study": "throttled", "candidate": self.network.architecture.key, "space": "fixed utilizations"}
        points = self.points.assign(level=self.points.index, fidelity=1.0, accuracy_sd=math.nan, **labels)
        policies = self.policies.assign(**labels)
        best = points[non_dominated(points.macs, points.accuracy)]
        return plot_front(points, best, path, drawn="network", policies=policies)

    def save(self, folder: str | Path) -> None:
        """Write the network to a folder, and its controllers below it, by penalty: ``controllers/0.1``, in place of
        those of before.
        """
        self.network.save(folder)
        shutil.rmtree(Path(folder, "controllers"), ignore_errors=True)
        penalties = dict.fromkeys(policy["penalty"] for policy in self.controlled.policies)
        for controller, penalty in zip(self.controllers, penalties):
            controller.save(Path(folder, "controllers", f"{penalty:.12g}"))


def throttle(
    network: str | Path | AnytimeNetwork,
    *,
    data: str | None = None,
    hierarchy: str | None = None,
    store: str = STORE,
    penalties: Sequence[float] = ControlSettings().penalties,
    learner: str = ControlSettings().learner,
    sees: str | None = ControlSettings().sees,
    epochs: int = ControlSettings().epochs,
    width: int = ControlSettings().width,
    shape: str = ControlSettings().shape,
    power: float = ControlSettings().power,
    seed: int = 0,
    folder: str | Path | None = None,
    device: str = "auto",
    threads: int = 1,
    progress: Progress | None = None,
) -> Throttled:
    """Train controllers that throttle a trained network, one for each penalty; the network stays as it is.

    A throttleable network is driven at u = 0.1 … 1.0, any other at its operating points. What is reached is recorded
    in the store where the network is of it, see ``store.policies``.

    network: a key of the store, the folder of a saved network, or a network. data: a data specification to learn from;
        None: those of the network's study. hierarchy: the file of their label hierarchy, as for a search.
    folder: where to save the network with its controllers, before anything is recorded.
    penalties: what all the network's multiply-accumulates cost in accuracy, for each controller. learner: "expected" or
        "reinforce" for controllers, "gates" for gate policies, which throttleable networks alone have. sees, epochs,
        width, shape, power: see :class:`nas.evaluation.controllers.ControlSettings`.

    Raises UserError or results.StoreError for a user's mistake.
    """
    progress = progress or Silent()
    check_device(device)
    settings = ControlSettings(
        penalties=tuple(penalties), learner=learner, sees=sees, epochs=epochs, width=width, shape=shape, power=power
    )
    progress.show(State(stage="loading", done=0, total=len(settings.penalties), trained=0))
    found, evaluator, origin = network_and_evaluator(
        network, data=data, hierarchy=hierarchy, store=store, device=device, threads=threads
    )
    if any(found.architecture.labelling(point) for point in found.architecture.points):
        raise UserError(
            "Controllers weigh right answers against MACs, so all points must answer in the same labels. Some of this "
            "network's answer in coarse labels: throttle one that was trained without a hierarchy."
        )

    def report(done: int, total: int) -> None:
        progress.show(State(stage="training controllers", done=done, total=total, trained=done))

    made = Throttled(found, evaluator.control(found, settings, seed=seed, report=report))
    if folder is not None:
        made.save(folder)
    if origin is not None and data is None and hierarchy is None:  # what other data say of it is no result of its study
        _record(store, origin, made.controlled)
    return made


def _record(store: str, origin: InStore, controlled: ControllerResult) -> None:
    """Record what controllers reach; the study's state stays what it was."""
    opened = results.open(store)
    about = opened.studies().set_index("study").loc[origin.study]
    with opened.writer(origin.study, opened.settings(origin.study)) as writer:
        writer.record_policies(origin.key, controlled.policies)
        writer.finish(about["state"], about["reason"])
