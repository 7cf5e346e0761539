"""The layers of an architecture and their passes: logits at a level, at all levels, gated, and in refinement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from nas.errors import UserError
from nas.execution.layers import Layer, Norm, NormMode, merge
from nas.execution.plan import Step
from nas.execution.plan_cache import CopiedWeights, PlanCache
from nas.execution.preprocessing import Preprocessing
from nas.representation.architecture import Architecture, macs, params
from nas.representation.elements import Subnetwork
from nas.representation.reuse import accumulating_maps
from nas.seeds import seed

MOMENTUM = 0.1


class NetworkPasses(nn.Module):
    """The layers of an architecture, the state of their norms, and all passes; see :class:`AnytimeNetwork`."""

    calibrated: Tensor

    def __init__(self, architecture: Architecture, *, generator: torch.Generator | None = None):
        super().__init__()
        self.architecture = architecture
        self.macs, self.params = macs(architecture), params(architecture)
        self.preprocess: Preprocessing | None = None
        self.augmented = 0.0
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
        if not point.operations:
            return self._without_operations(x, point)
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
        if not point.operations:
            return self._without_operations(x, point)
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
        Level k costs ``refine_macs()[k]``. Logits accumulate. If the next level has finer labels, its classifier starts
        anew, and ``refine_macs()`` sum to more than ``macs[-1]``.
        """
        if self.training:
            raise UserError("refine needs evaluation mode: call network.eval() first.")
        self._refuse_uncalibrated()
        return self._copies.refiner(x.device).run(self._checked(x))

    def refine_macs(self) -> tuple[int, ...]:
        """Multiply-accumulates of each step of :meth:`refine` for one example.

        Returns
        -------
        tuple of int
            One number for each level.

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
        accumulating_maps(self.architecture)

    # Norms

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor | Sequence[Tensor]]) -> None:
        """Estimate the statistics of the norms, for every operating point, as means over batches.

        Parameters
        ----------
        batches
            Preprocessed training images, each batch of shape (N, \\*input_shape); or sequences that begin with them,
            as the pairs (x, y) of a ``DataLoader``. A batch counts in proportion to its images.

        Raises
        ------
        UserError
            Without images, for images of another shape, NaN or infinities, for a batch with one value a channel, and if
            operating points share their norms, whose statistics training estimates. The network is then uncalibrated.
        """
        if self.architecture.norm == "shared":
            raise UserError("Shared norms need no calibration: training estimates their statistics.")
        self._set_calibrated(False)
        for norm in self.modules():
            if isinstance(norm, Norm):
                norm.reset_statistics()
        images = 0
        for batch in batches:
            x = self._checked(batch if isinstance(batch, Tensor) else batch[0])
            if not len(x) or not x.isfinite().all():
                problem = "NaN or infinity" if len(x) else "no image"
                raise UserError(f"Batches for calibration need images of finite numbers. Got {problem}.")
            images += len(x)
            for level, point in enumerate(self.architecture.points):
                self._update_statistics(x, point, NormMode(level, True, len(x) / images))
        if not images:
            raise UserError("Calibration needs at least one batch of training images. Got none.")
        self._copies.discard()
        self._set_calibrated(True)

    # Inside

    def _checked(self, x: Tensor) -> Tensor:
        """Check the shape of x: poolings accept other sizes, and missing channels would go unnoticed."""
        shape = self.architecture.task.input_shape
        if not x.is_floating_point():
            raise UserError(f"Images must be preprocessed: call network.preprocess(images). Got {x.dtype}.")
        if x.shape[1:] != shape:
            raise UserError(f"Images must have shape (N, {', '.join(map(str, shape))}). Got {tuple(x.shape)}.")
        return x

    def _without_operations(self, x: Tensor, point: Subnetwork) -> Tensor:
        """The logits of a subnetwork in which nothing runs: zeros."""
        if not self.training:
            self._refuse_uncalibrated()
        return self._checked(x).new_zeros(len(x), self.architecture.topology.maps[point.output].channels)

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

    def _update_statistics(self, x: Tensor, point: Subnetwork, mode: NormMode) -> None:
        try:
            self._run(self.plans.plan(point, x.device).steps, {0: x}, mode)
        except ValueError as error:  # of batch_norm, if a map of a single image has one element
            raise UserError(
                f"Batches for calibration need at least two images. Got {len(x)}: pass drop_last=True to DataLoader."
            ) from error

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
