"""An architecture as a torch module that answers at every operating point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from pathlib import Path

from torch import Tensor

from nas.errors import UserError
from nas.execution.labels import join_labels, join_probabilities
from nas.execution.passes import NetworkPasses
from nas.execution.serialization import (
    AVERAGE,
    WEIGHTS,
    network_files,
    read_network,
    read_weights,
    weights_files,
)
from nas.execution.static import StaticNetwork
from nas.files import Files, local_folder, write_folder
from nas.representation.cost import subnetwork_macs
from nas.representation.elements import Subnetwork
from nas.representation.gates import check_utilization
from results.files.places import Place


class AnytimeNetwork(NetworkPasses):
    """One set of weights with several operating points, small to large.

    ``network(x, level)`` returns the logits of an operating point, see :meth:`forward`.

    Parameters
    ----------
    architecture
        The architecture, with its operating points and the policy of its norms.
    generator
        Draws the initial weights, on the CPU; by default seeded by the architecture's ``network_key``.

    Attributes
    ----------
    architecture : Architecture
    macs, params : tuple of int
        Multiply-accumulates of one example, and number of parameters, of each level.
    preprocess : Preprocessing or None
        Converts raw images to the input of the network.
    augmented : float
        Share of the training images that were augmented. Norms are estimated on such images.
    calibrated : torch.Tensor
        Boolean: whether the statistics of the norms are valid. Part of the state.

    Notes
    -----
    In training mode, norms use the statistics of the batch. Under the norm policy ``"recalibrated"`` they keep no
    running statistics: :meth:`calibrate` estimates them after training. In evaluation mode, an uncalibrated network
    raises :class:`nas.UserError`; training makes a network uncalibrated.

    In evaluation mode without gradients (``torch.no_grad`` or ``torch.inference_mode``), passes use copies of the
    weights, cut to the subnetwork and with norms folded in, for the 16 subnetworks that were used last. Results agree
    with :meth:`forward_unfolded` up to rounding. Weights written through ``.data``, which torch does not notice, take
    effect after ``network.eval()``. Networks whose layers have hooks, as of pruning, run without copies.

    Examples
    --------
    >>> network = nas.load("2f9c01")  # doctest: +SKIP
    >>> x = network.preprocess(images)  # doctest: +SKIP
    >>> network(x, level=0)  # the smallest operating point  # doctest: +SKIP
    >>> network.at_budget(5e5)(x)  # the largest within 0.5 M MACs  # doctest: +SKIP
    """

    def check_replaceable_points(self) -> None:
        """Check that the network can get other operating points, see :meth:`with_points`.

        Raises
        ------
        UserError
            If each operating point has its own norms.
        """
        if self.architecture.norm == "per_point":
            raise UserError(
                "Other operating points need norm 'shared' or 'recalibrated'. Got 'per_point', norms for the present "
                "points only: train a network with other norms."
            )

    # Utilizations and budgets

    def set_utilization(self, utilization: float) -> int:
        """Run at a utilization from now on, if no level is given; see :meth:`subnetwork_at`.

        Parameters
        ----------
        utilization
            In [0, 1].

        Returns
        -------
        int
            Multiply-accumulates of one example.

        Raises
        ------
        UserError
            For a utilization outside of [0, 1].
        """
        self._default_point = self.subnetwork_at(utilization)
        return self.macs_at(utilization)

    def subnetwork_at(self, utilization: float) -> Subnetwork:
        """The subnetwork at a utilization u: the components that are on.

        Without gated modules, or if operating points do not share their norms: the operating point of level
        ⌊u · levels⌋, at most the largest.

        Parameters
        ----------
        utilization
            In [0, 1].

        Returns
        -------
        Subnetwork
            Of this topology.

        Raises
        ------
        UserError
            For a utilization outside of [0, 1].
        """
        check_utilization(utilization)
        if self.architecture.topology.gated and self.architecture.norm == "shared":
            return self.plans.throttled(utilization)
        return self.architecture.points[min(int(utilization * self.levels), self.levels - 1)]

    def macs_at(self, utilization: float) -> int:
        """Multiply-accumulates of one example at a utilization, see :meth:`subnetwork_at`.

        Parameters
        ----------
        utilization
            In [0, 1].

        Returns
        -------
        int
            Multiply-accumulates.

        Raises
        ------
        UserError
            For a utilization outside of [0, 1].
        """
        return subnetwork_macs(self.architecture.topology, self.subnetwork_at(utilization))

    def at_budget(self, budget: float) -> Callable[[Tensor], Tensor]:
        """The largest operating point within a budget.

        Parameters
        ----------
        budget
            Multiply-accumulates of one example.

        Returns
        -------
        callable
            Function from x, (N, \\*input_shape), to logits, (N, labels).

        Raises
        ------
        UserError
            If the smallest operating point exceeds the budget.
        """
        within = [level for level, cost in enumerate(self.macs) if cost <= budget]
        if not within:
            raise UserError(
                f"The budget must reach the smallest operating point, {self.macs[0]:,} MACs. Got {budget:,}."
            )
        return partial(self, level=within[-1])

    @property
    def nonzero_macs(self) -> tuple[int, ...]:
        """Multiply-accumulates of one example by nonzero weights, at every level: less than ``macs`` after pruning.

        Dense kernels do not skip zeros: they execute ``macs``.
        """
        maps = self.architecture.topology.maps
        return tuple(
            sum(
                int(self.operation_layers[o].live_weight(route).count_nonzero()) * prod(maps[step.target].size)
                for step in self.plans.plan(point, self.calibrated.device).steps
                for o, _, route in step.inputs
                if self.operation_layers[o].weight is not None
            )
            for point in self.architecture.points
        )

    # Labels

    def labels(self, labels: Tensor, level: int | Subnetwork | None = None) -> Tensor:
        """The correct labels of a level: coarse labels if the level answers in these.

        Parameters
        ----------
        labels
            Fine labels, (N,), or the probabilities of fine labels, (N, classes).
        level
            A level or a subnetwork, as in :meth:`forward`; by default the largest level.

        Returns
        -------
        Tensor
            Shape (N,); for probabilities (N, labels of the level).
        """
        return join_labels(self.architecture.task, labels, self.architecture.labelling(self._point(level)))

    def soft_labels(self, log_probabilities: Tensor, level: int | Subnetwork | None = None) -> Tensor:
        """Log-probabilities of the labels of a level, from log-probabilities of equal or finer labels.

        Parameters
        ----------
        log_probabilities
            Shape (N, equal or finer labels).
        level
            A level or a subnetwork, as in :meth:`forward`; by default the largest level.

        Returns
        -------
        Tensor
            Shape (N, labels).

        Raises
        ------
        InvalidArchitecture
            For log-probabilities of coarser labels.
        """
        return join_probabilities(
            self.architecture.task, log_probabilities, self.architecture.labelling(self._point(level))
        )

    # Networks from this network

    def extract(self, level: int) -> StaticNetwork:
        """One level as a static module with physically smaller weights.

        Parameters
        ----------
        level
            From 0.

        Returns
        -------
        StaticNetwork
            In evaluation mode, with copies of the weights.

        Raises
        ------
        UserError
            For a level that does not exist, or an uncalibrated network.
        """
        self._refuse_uncalibrated()
        level = self._level(level)
        plan = self.plans.plan(self.architecture.points[level], self.calibrated.device)
        topology = self.architecture.topology
        return StaticNetwork(topology, self.operation_layers, plan, row=level, preprocess=self.preprocess)

    def with_points(self, points: Sequence[Subnetwork]) -> AnytimeNetwork:
        """A network with copies of these weights and other operating points.

        Parameters
        ----------
        points
            Subnetworks of the same topology, small to large.

        Returns
        -------
        AnytimeNetwork
            Under the norm policy ``"recalibrated"`` it must be calibrated before use.

        Raises
        ------
        UserError
            If each operating point has its own norms.
        InvalidArchitecture
            If the points do not grow in MACs.
        """
        self.check_replaceable_points()
        other = AnytimeNetwork(self.architecture.with_points(points))
        own, new = self.state_dict(), other.state_dict()
        shared = {name: tensor for name, tensor in own.items() if tensor.shape == new[name].shape}
        other.load_state_dict({**new, **shared})
        if self.architecture.norm == "recalibrated":
            other._set_calibrated(False)
        other.preprocess, other.augmented = self.preprocess, self.augmented
        other.to(self.calibrated.device)
        return other.train(self.training)

    def copy(self) -> AnytimeNetwork:
        """A network with copies of these weights.

        Returns
        -------
        AnytimeNetwork
            On the same device, in the same mode.
        """
        other = AnytimeNetwork(self.architecture)
        other.load_state_dict(self.state_dict())
        other.preprocess, other.augmented = self.preprocess, self.augmented
        return other.to(self.calibrated.device).train(self.training)

    # State

    def save(self, folder: str | Path) -> None:
        """Write weights, architecture and preprocessing to a folder; :func:`nas.load` reads them.

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

    def files(self, *, average: AnytimeNetwork | None = None) -> Files:
        """The files that :meth:`save` writes, for folders with further files.

        Parameters
        ----------
        average
            A moving average of this network during training, whose weights are added.

        Returns
        -------
        mapping of str to callable
            Relative name of each file → function that writes it to a path.
        """
        files = network_files(self.architecture, self.preprocess, self.state_dict(), augmented=self.augmented)
        return files if average is None else {**files, **weights_files(AVERAGE, average.state_dict())}

    @staticmethod
    def load(folder: str | Place, *, average: bool = False) -> AnytimeNetwork:
        """Load a network that :meth:`save` wrote.

        Parameters
        ----------
        folder
            The folder of the network: a path, or a URL such as ``s3://bucket/folder``.
        average
            Load the moving average of the weights, which rules with the setting ``ema`` keep.

        Returns
        -------
        AnytimeNetwork
            In evaluation mode.

        Raises
        ------
        UserError
            If the folder contains no network, or no moving average.
        results.StoreError
            If the URL cannot be used.
        """
        with local_folder(folder) as local:
            architecture, preprocess, augmented = read_network(local)
            network = AnytimeNetwork(architecture)
            network.preprocess, network.augmented = preprocess, augmented
            if average and not (Path(local) / AVERAGE).exists():
                raise UserError(
                    f"The network in {folder} has no moving average of its weights: train it with a rule that keeps "
                    "one, such as sandwich:ema=0.997, or load it without average."
                )
            network.read_weights(local / (AVERAGE if average else WEIGHTS))
        return network.eval()

    def read_weights(self, path: str | Path) -> None:
        """Load the weights in a safetensors file.

        Parameters
        ----------
        path
            The file.

        Raises
        ------
        UserError
            If the file cannot be read, or contains the weights of another network.
        """
        self.load_state_dict(read_weights(path, self.state_dict()))
