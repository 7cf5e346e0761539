"""Controllers: for each input, a small network chooses the utilization at which the controlled network runs.

A network without gated modules is throttled over its operating points. A controller sees the input, as in the paper,
or the logits at the smallest utilization. In the second case an input that needs no larger utilization has its answer
already; otherwise both passes count.

References
----------
Liu, Parajuli, Hostetler, Chai & Bhanu, Dynamically Throttleable Neural Networks (TNN), arXiv 2011.02836 (a controller
that is trained separately from the data path and chooses one of u = 0.1 … 1.0). Its size, and a controller that sees
the logits, are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from nas.errors import UserError, unknown_name
from nas.execution.controller_architectures import SEEN_CLASSES, SEES
from nas.execution.network import AnytimeNetwork
from nas.execution.serialization import read_settings, settings_files
from nas.files import Files, write_folder
from nas.representation.gates import check_utilization

SETTINGS = "controller.json"


def top_log_probabilities(logits: Tensor) -> Tensor:
    """The ten largest log-probabilities, descending: (N, classes) -> (N, min(10, classes), 1, 1)."""
    top = logits.float().log_softmax(1).topk(min(SEEN_CLASSES, logits.shape[1]), dim=1).values
    return top[:, :, None, None]


class Controller(nn.Module):
    """Chooses a utilization for each input; :class:`ControlledNetwork` executes the choices.

    Parameters
    ----------
    network
        Its logits are over the utilizations; its input is described in
        :func:`nas.execution.controller_architectures.controller_architecture`.
    utilizations
        To choose from, ascending, each in [0, 1].
    sees
        ``"input"``, or ``"answer"``: the logits of the controlled network at the first of the utilizations.

    Raises
    ------
    UserError
        For utilizations that are not ascending, lie outside of [0, 1], or differ in number from the classes of the
        network.

    See Also
    --------
    nas.throttle : trains controllers.

    Notes
    -----
    A controller is separate from the network that it controls, which its methods receive as an argument: the network
    stays unchanged, and can have several controllers.
    """

    def __init__(self, network: AnytimeNetwork, utilizations: Sequence[float], *, sees: str = "input"):
        super().__init__()
        self.network, self.utilizations, self.sees = network, tuple(utilizations), sees
        self.training = network.training
        if sees not in SEES:
            raise UserError(unknown_name("thing to see", sees, SEES))
        for utilization in self.utilizations:
            check_utilization(utilization)
        if any(a >= b for a, b in pairwise(self.utilizations)):
            raise UserError(f"The utilizations of a controller must ascend. Got {self.utilizations}.")
        if len(self.utilizations) != network.architecture.task.num_classes:
            raise UserError(
                "A controller's network must have a class for each utilization. "
                f"Got {network.architecture.task.num_classes} classes for {len(self.utilizations)} utilizations."
            )

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one choice, without the pass whose logits the controller sees."""
        return self.network.macs[-1]

    def costs(self, network: AnytimeNetwork) -> list[int]:
        """Cost of one input at each utilization.

        Parameters
        ----------
        network
            The controlled network.

        Returns
        -------
        list of int
            Multiply-accumulates of the controller and all passes of the network, for each of the utilizations.
        """
        macs = [network.macs_at(utilization) for utilization in self.utilizations]
        first_pass = macs[0] if self.sees == "answer" else 0
        return [self.macs + cost + (first_pass if index else 0) for index, cost in enumerate(macs)]

    @torch.no_grad()
    def choose(self, network: AnytimeNetwork, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Choose the most probable utilization for each input of a network.

        Parameters
        ----------
        network
            The controlled network.
        x
            Shape (N, \\*input_shape).

        Returns
        -------
        indices : Tensor
            Shape (N,): indices into the utilizations.
        logits : Tensor or None
            Logits of the network at the first utilization, (N, num_classes), if the controller sees them.

        Raises
        ------
        UserError
            If the controller does not fit the network, or the network answers in coarse labels at some points.
        """
        self._check(network)
        if self.sees == "input":
            return self.network.forward_unfolded(x).argmax(1), None
        logits = network(x, network.subnetwork_at(self.utilizations[0]))
        log_probabilities = top_log_probabilities(logits).to(self.network.operation_layers[-1].weight)
        return self.network.forward_unfolded(log_probabilities).argmax(1), logits

    def _check(self, network: AnytimeNetwork) -> None:
        task, shape = network.architecture.task, self.network.architecture.task.input_shape
        required = task.input_shape if self.sees == "input" else (min(SEEN_CLASSES, task.num_classes), 1, 1)
        if shape != required:
            raise UserError(
                f"A controller that sees the {self.sees} of this network must have input shape {required}. Got {shape}."
            )
        if any(network.architecture.labelling(point) for point in network.architecture.points):
            raise UserError("A controlled network must answer in fine labels at all points. Got coarse labels at some.")

    def save(self, folder: str | Path) -> None:
        """Write weights and utilizations to a folder; :meth:`load` reads them.

        Parameters
        ----------
        folder
            New, empty, or of a network that was saved before, which is replaced. Files of other origin remain.

        Raises
        ------
        UserError
            If a file of other origin would be replaced, or the folder is not writable.
        """
        write_folder(folder, self.files())

    def files(self) -> Files:
        """The files that :meth:`save` writes, for folders with further files.

        Returns
        -------
        mapping of str to callable
            Relative name of each file → function that writes it to a path.
        """
        return {
            **self.network.files(),
            **settings_files(SETTINGS, {"utilizations": self.utilizations, "sees": self.sees}),
        }

    @staticmethod
    def load(folder: str | Path) -> Controller:
        """Load a controller that :meth:`save` wrote.

        Parameters
        ----------
        folder
            The folder of the controller.

        Returns
        -------
        Controller
            In evaluation mode.

        Raises
        ------
        UserError
            If the folder contains no controller.
        """

        def parse(settings: dict[str, object]) -> tuple[list[float], str]:
            return [float(u) for u in settings["utilizations"]], str(settings["sees"])  # type: ignore[attr-defined]

        utilizations, sees = read_settings(Path(folder, SETTINGS), parse, "controller.save")
        return Controller(AnytimeNetwork.load(folder), utilizations, sees=sees)
