"""An architecture as a torch module that answers at every operating point."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from math import prod
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from nas.errors import UserError
from nas.execution.labels import join_labels, join_probabilities
from nas.execution.layers import Layer, Norm, NormMode, merge
from nas.execution.plan import Step
from nas.execution.plan_cache import CopiedWeights, PlanCache
from nas.execution.preprocessing import Preprocessing
from nas.execution.serialization import WEIGHTS, read_network, read_weights, write_network
from nas.execution.static import StaticNetwork
from nas.representation.architecture import Architecture, macs, params
from nas.representation.cost import subnetwork_macs
from nas.representation.elements import Subnetwork
from nas.representation.gates import check_utilization
from nas.seeds import seed

MOMENTUM = 0.1


class AnytimeNetwork(nn.Module):
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

    calibrated: Tensor

    def __init__(self, architecture: Architecture, *, generator: torch.Generator | None = None):
        super().__init__()
        self.architecture = architecture
        self.macs, self.params = macs(architecture), params(architecture)
        self.preprocess: Preprocessing | None = None
        levels = len(architecture.points)
        rows = {
            "affine_rows": levels if architecture.norm == "per_point" else 1,
            "statistics_rows": 1 if architecture.norm == "shared" else levels,
        }
        topology = architecture.topology
        self.operation_layers = [Layer(topology, o, **rows) for o in range(len(topology.operations))]
        self.layers = nn.ModuleList(self.operation_layers)
        self.register_buffer("calibrated", torch.tensor(architecture.norm != "recalibrated"))
        self._known_calibrated: bool | None = None  # value of the buffer, if known: reading it synchronises with a GPU
        self.register_load_state_dict_post_hook(_forget_calibrated)
        self.plans = PlanCache(architecture)
        self._copies = CopiedWeights(self.plans, self.operation_layers)
        self._default_point: Subnetwork | None = None
        generator = generator or torch.Generator().manual_seed(seed(architecture.network_key, "weights"))
        for layer in self.operation_layers:
            layer.reset(generator)

    @property
    def levels(self) -> int:
        """Number of operating points."""
        return len(self.architecture.points)

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode; see :class:`torch.nn.Module`.

        Parameters
        ----------
        mode
            True: training mode; False: evaluation mode.

        Returns
        -------
        AnytimeNetwork
            This network.
        """
        self._copies.discard()
        return super().train(mode)

    # Passes

    def forward(self, x: Tensor, level: int | Subnetwork | None = None) -> Tensor:
        """Logits at an operating point or subnetwork.

        Parameters
        ----------
        x
            Shape (N, \\*input_shape).
        level
            A level, from 0; or any subnetwork of the topology, if norms are shared, or recalibrated and in training
            mode. By default the utilization that :meth:`set_utilization` has set, else the largest level.

        Returns
        -------
        Tensor
            Shape (N, labels): fine labels, or the coarse labels of a level with coarse answers.

        Raises
        ------
        UserError
            For x of another shape, a level that does not exist, a subnetwork without norms, or an uncalibrated network
            in evaluation mode.
        InvalidArchitecture
            For a subnetwork of another topology.
        """
        if level is None:
            level = self._default_point
        if self.training or torch.is_grad_enabled() or torch.compiler.is_compiling() or self._has_hooks():
            return self.forward_unfolded(x, level)
        point = self._point(level)
        copies = self._copies.fast_pass(point, self._mode(point).row, x.device)
        (logits,) = copies.run(self._checked(x))
        return logits

    def forward_unfolded(self, x: Tensor, level: int | Subnetwork | None = None) -> Tensor:
        """Logits as of :meth:`forward` with gradients: layer by layer, norms not folded.

        Parameters
        ----------
        x
            Shape (N, \\*input_shape).
        level
            A level or a subnetwork, as in :meth:`forward`; by default the largest level.

        Returns
        -------
        Tensor
            Shape (N, labels).

        Raises
        ------
        UserError
            As :meth:`forward`.
        """
        point = self._point(level)
        plan = self.plans.plan(point, x.device)
        values = {0: self._checked(x)}
        self._run(plan.steps, values, self._mode(point))
        return values[plan.output].flatten(1)

    def forward_all(self, x: Tensor) -> list[Tensor]:
        """Logits at every level, small to large.

        Results that a level shares with the largest level are computed once: in a causal network, all but the logits.

        Parameters
        ----------
        x
            Shape (N, \\*input_shape).

        Returns
        -------
        list of Tensor
            Shape (N, labels) for each level.

        Raises
        ------
        UserError
            For x of another shape, or an uncalibrated network in evaluation mode.
        """
        points = self.architecture.points
        largest = self.plans.plan(points[-1], x.device)
        top = {0: self._checked(x)}
        self._run(largest.steps, top, self._mode(points[-1]))
        logits = []
        for level, point in enumerate(points[:-1]):
            remainder = self.plans.remainder(level, x.device)
            values = {index: channels.take(top[index], dim=1) for index, channels in remainder.taken}
            self._run(remainder.steps, values, self._mode(point))
            logits.append(values[remainder.output].flatten(1))
        return [*logits, top[largest.output].flatten(1)]

    def forward_gated(self, x: Tensor, gates: Sequence[Tensor]) -> Tensor:
        """Logits (N, num_classes) with different components on for each sample: all components run, and are masked.

        Parameters
        ----------
        x
            Shape (N, \\*input_shape).
        gates
            Shape (N, components) for each gated module, 1 for on and 0 for off, not necessarily nested; may carry
            gradients. With :func:`nas.execution.masked.nested_gates`, each sample has the logits at its utilization.

        Returns
        -------
        Tensor
            Logits, (N, num_classes).

        Raises
        ------
        UserError
            For gates of other shapes, and if operating points do not share their norms.
        """
        norm = self.architecture.norm
        if norm != "shared" and not (self.training and norm == "recalibrated"):
            raise UserError(
                f"Samples of different utilizations share their norms: norm must be 'shared'. Got {norm!r}."
            )
        mode = self._mode(self.architecture.points[-1])
        gated_pass = self.plans.gated_pass(x.device)
        return gated_pass.run(self.operation_layers, self._checked(x), gates, mode).flatten(1)

    def refine(self, x: Tensor) -> Iterator[Tensor]:
        """Logits at every level, small to large, each by its additional work only: stop when the time is over.

        Parameters
        ----------
        x
            Shape (N, \\*input_shape).

        Yields
        ------
        Tensor
            Shape (N, labels), without gradients. Changing x or the logits does not affect later levels.

        Raises
        ------
        UserError
            In training mode, and if the results of a level change at a larger level; the message names the reason.

        Notes
        -----
        Level k costs ``refine_macs[k]``. Logits accumulate. If the next level has finer labels, its classifier starts
        anew, and ``refine_macs`` sum to more than ``macs[-1]``.
        """
        if self.training:
            raise UserError("refine needs evaluation mode: call network.eval() first.")
        self._refuse_uncalibrated()
        return self._copies.refiner(x.device).run(self._checked(x))

    @property
    def refine_macs(self) -> tuple[int, ...]:
        """Multiply-accumulates of each step of :meth:`refine` for one example.

        Raises
        ------
        UserError
            If the results of a level change at a larger level.
        """
        return tuple(step.macs for step in self.plans.refinement(self.calibrated.device).steps)

    def check_reuse(self) -> None:
        """Check that larger operating points reuse the results of smaller ones exactly.

        Raises
        ------
        UserError
            If the results of a level change at a larger level; the message names the reason.
        """
        self.plans.accumulating_maps  # noqa: B018  # computing them checks it

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
            Fine labels, (N,).
        level
            A level or a subnetwork, as in :meth:`forward`; by default the largest level.

        Returns
        -------
        Tensor
            Shape (N,).
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
        other.preprocess = self.preprocess
        other.to(self.calibrated.device)
        return other.train(self.training)

    # State

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Estimate the statistics of the norms, for every operating point, as means over batches.

        Parameters
        ----------
        batches
            Preprocessed training images, each of shape (N, \\*input_shape).

        Raises
        ------
        UserError
            Without batches, and if operating points share their norms, whose statistics training estimates.
        """
        if self.architecture.norm == "shared":
            raise UserError("Shared norms need no calibration: training estimates their statistics.")
        for norm in self.modules():
            if isinstance(norm, Norm):
                norm.reset_statistics()
        count = 0
        for count, x in enumerate(batches, start=1):
            for level, point in enumerate(self.architecture.points):
                self._run(self.plans.plan(point, x.device).steps, {0: x}, NormMode(level, True, 1 / count))
        if not count:
            raise UserError("Calibration needs at least one batch of training images. Got none.")
        self._copies.discard()
        self._set_calibrated(True)

    def save(self, folder: str | Path) -> None:
        """Write weights, architecture and preprocessing to a folder; :func:`nas.load` reads them.

        Parameters
        ----------
        folder
            Created if needed.
        """
        write_network(folder, self.architecture, self.preprocess, self.state_dict())

    @staticmethod
    def load(folder: str | Path) -> AnytimeNetwork:
        """Load a network that :meth:`save` wrote.

        Parameters
        ----------
        folder
            The folder of the network.

        Returns
        -------
        AnytimeNetwork
            In evaluation mode.

        Raises
        ------
        UserError
            If the folder contains no network.
        """
        architecture, preprocess = read_network(folder)
        network = AnytimeNetwork(architecture)
        network.preprocess = preprocess
        network.read_weights(Path(folder, WEIGHTS))
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

    # Inside

    def _checked(self, x: Tensor) -> Tensor:
        """Check the shape of x: poolings accept other sizes, and missing channels would go unnoticed."""
        shape = self.architecture.task.input_shape
        if x.shape[1:] != shape:
            raise UserError(f"Images must have shape (N, {', '.join(map(str, shape))}). Got {tuple(x.shape)}.")
        return x

    def _has_hooks(self) -> bool:
        return any(
            module is not None and (module._forward_pre_hooks or module._forward_hooks)
            for layer in self.operation_layers
            for module in (layer, layer.before, layer.after)
        )

    def _level(self, level: int) -> int:
        if not 0 <= level < self.levels:
            raise UserError(f"level must be between 0 and {self.levels - 1}. Got {level=}.")
        return level

    def _point(self, level: int | Subnetwork | None) -> Subnetwork:
        if isinstance(level, Subnetwork):
            return level
        return self.architecture.points[-1 if level is None else self._level(level)]

    def _mode(self, point: Subnetwork) -> NormMode:
        policy, points = self.architecture.norm, self.architecture.points
        if point not in points and policy != "shared" and not (self.training and policy == "recalibrated"):
            raise UserError(
                f"With norm {policy!r}, only operating points have norms. Got another subnetwork: pass a level from 0 "
                f"to {self.levels - 1}, or make it an operating point with network.with_points."
            )
        row = next((level for level, own in enumerate(points) if own == point), 0)  # torch.compile traces no index()
        if self.training:
            if policy == "recalibrated" and torch.is_grad_enabled() and self._known_calibrated is not False:
                self._set_calibrated(False)
            return NormMode(row, True, None if policy == "recalibrated" else MOMENTUM)
        self._refuse_uncalibrated()
        return NormMode(row, False)

    def _set_calibrated(self, value: bool) -> None:
        self.calibrated.fill_(value)
        self._known_calibrated = value

    def _refuse_uncalibrated(self) -> None:
        if self._known_calibrated is None:
            self._known_calibrated = bool(self.calibrated)
        if not self._known_calibrated:
            raise UserError(
                "The norms of this network must be recalibrated before it answers: call network.calibrate(batches)."
            )

    def _run(self, steps: Iterable[Step], values: dict[int, Tensor], mode: NormMode) -> None:
        """Compute the maps of some steps from the values of their sources."""
        for step in steps:
            if step.concat:
                inputs = [values[source] for _, source, _ in step.inputs]
            else:
                inputs = [self.operation_layers[o](values[source], route, mode) for o, source, route in step.inputs]
            values[step.target] = merge(inputs, step)


def _forget_calibrated(network: nn.Module, keys: object) -> None:
    network._known_calibrated = None  # type: ignore[assignment]
