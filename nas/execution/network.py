"""An architecture as a torch module that answers at every operating point."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from nas.errors import UserError
from nas.execution.labels import join_labels, join_probabilities
from nas.execution.layers import Channels, Layer, Norm, NormMode, merge
from nas.execution.masked import GatedPass
from nas.execution.plan import Plan, Step, make_plan
from nas.execution.preprocessing import Preprocessing
from nas.execution.refinement import Refiner
from nas.representation.architecture import Architecture, macs, params
from nas.representation.cost import subnetwork_macs
from nas.representation.elements import Subnetwork
from nas.representation.gates import check_utilization, throttled
from nas.representation.liveness import check_point
from nas.representation.reuse import accumulating_maps, stable_maps
from nas.seeds import seed

if TYPE_CHECKING:
    from nas.execution.controller import Controller
    from nas.execution.gate_policy import GatePolicy

MOMENTUM = 0.1
REMEMBERED_PLANS = 1024  # of sampled subnetworks, a long training may see any number
REMEMBERED_COPIES = 16  # of weights, for as many utilizations


class AnytimeNetwork(nn.Module):
    """One set of weights, several operating points, small to large.

    architecture: what it is; macs, params: cost of each level; preprocess: from images as stored to what ``forward``
    takes.

    generator: draws the initial weights, on the CPU; one seeded by the architecture's ``network_key`` by default.

    In training mode norms use the statistics of the batch. Under the policy "recalibrated" they keep none of their own:
    :meth:`calibrate` estimates them after training, and an answer in evaluation mode is refused before that, and again
    once training goes on.
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
        self._known_calibrated: bool | None = None  # what the buffer says, if known: to read it is to wait for a GPU
        self.register_load_state_dict_post_hook(_forget_calibrated)
        self._plans: dict[tuple[Subnetwork, torch.device], Plan] = {}
        self._rests: dict[tuple[int, torch.device], _Rest] = {}
        self._refiners: dict[torch.device, Refiner] = {}
        self._folded: dict[tuple[int | Subnetwork, torch.device], Refiner] = {}
        self._gated: dict[torch.device, GatedPass] = {}
        self._throttled: int | Subnetwork | None = None
        self._at: dict[tuple[int, ...], Subnetwork] = {}
        generator = generator or torch.Generator().manual_seed(seed(architecture.network_key, "weights"))
        for layer in self.operation_layers:
            layer.reset(generator)

    @property
    def levels(self) -> int:
        """Number of operating points."""
        return len(self.architecture.points)

    def train(self, mode: bool = True) -> Self:
        """Training mode, or evaluation mode; see :class:`torch.nn.Module`."""
        for refiner in self._refiners.values():
            refiner.forget()
        self._folded.clear()
        return super().train(mode)

    def forward(
        self, x: Tensor, level: int | Subnetwork | None = None, *, controller: Controller | GatePolicy | None = None
    ) -> Tensor:
        """Logits for x of shape (N, \\*input_shape) at a level, (N, labels that it tells); by default at the
        utilization that :meth:`throttle` has set, or else the largest. With a controller, each input at the utilization
        that it picks; those of equal utilization run together, and only what is on.

        In training mode level may be any subnetwork of the topology, unless each point has norms of its own.
        """
        if controller is not None:
            return controller.answer(self, x)
        if level is None and self._throttled is not None:
            if not (self.training or torch.is_grad_enabled()):
                return self.answer(x, self._throttled)
            level = self._throttled
        return self._pass(x, level)

    def _pass(self, x: Tensor, level: int | Subnetwork | None) -> Tensor:
        plan = self._plan(level, x.device)
        values = {0: self._checked(x)}
        self._run(plan.steps, values, self._mode(level))
        return values[plan.output].flatten(1)

    def _checked(self, x: Tensor) -> Tensor:
        """x, if it is of the task's shape: poolings take others too, and missing channels would go unnoticed."""
        wanted = self.architecture.task.input_shape
        if x.shape[1:] != wanted:
            raise UserError(f"Images must have shape (N, {', '.join(map(str, wanted))}). Got {tuple(x.shape)}.")
        return x

    def throttle(self, utilization: float) -> int:
        """Answer at a utilization in [0, 1] from now on, wherever no level is asked for; only what is on runs.

        What a utilization is in a network without gated modules, or with norms of each point's own, see :meth:`at`. In
        evaluation mode and without gradients, as of ``torch.no_grad()``, answers are those of :meth:`answer`.

        Returns the MACs of one example. Raises UserError for no utilization.
        """
        self._throttled = self.at(utilization)
        return self.macs_at(utilization)

    @torch.no_grad()
    def answer(self, x: Tensor, level: int | Subnetwork) -> Tensor:
        """As ``network(x, level)``, faster and without gradients: copies of the weights that run, norms folded in, are
        kept for the sixteen levels that were asked for last.

        Weights that are written through ``.data``, which torch does not notice, are taken up after ``network.eval()``.
        Layers with hooks, as of pruning, run as they are.

        Raises UserError in training mode.
        """
        if self.training:
            raise UserError("An answer takes the stored statistics of norms: call network.eval() first.")
        mode = self._mode(level)
        if any(layer._forward_pre_hooks or layer._forward_hooks for layer in self.operation_layers):
            return self._pass(x, level)
        if (level, x.device) not in self._folded:
            if len(self._folded) >= REMEMBERED_COPIES:
                del self._folded[next(iter(self._folded))]
            point = level if isinstance(level, Subnetwork) else self.architecture.points[level]
            check_point(self.architecture.topology, self.architecture.task, point)
            topology = replace(self.architecture.topology, gated=())
            alone = replace(self.architecture, topology=topology, points=(point,))
            self._folded[level, x.device] = Refiner(alone, x.device, row=mode.row)
        else:
            self._folded[level, x.device] = self._folded.pop((level, x.device))
        (logits,) = self._folded[level, x.device].run(self, self._checked(x))
        return logits

    def macs_at(self, utilization: float) -> int:
        """Multiply-accumulates of one example at a utilization in [0, 1], see :meth:`throttle`."""
        at = self.at(utilization)
        return self.macs[at] if isinstance(at, int) else subnetwork_macs(self.architecture.topology, at)

    def at(self, utilization: float) -> int | Subnetwork:
        """What answers at a utilization in [0, 1], for ``network(x, level)``: what its gates have on. Where nothing is
        gated, or operating points have norms of their own, level ⌊u · levels⌋, the largest at 1.
        """
        check_utilization(utilization)
        topology = self.architecture.topology
        if not (topology.gated and self.architecture.norm == "shared"):
            return min(int(utilization * self.levels), self.levels - 1)
        on = tuple(module.on(utilization) for module in topology.gated)
        if on not in self._at:
            self._at[on] = throttled(topology, utilization, self.architecture.points[-1])
        return self._at[on]

    def forward_gated(self, x: Tensor, gates: Sequence[Tensor]) -> Tensor:
        """Logits (N, num_classes) with gates for every sample: all components run, what is off is masked.

        gates: of every gated module, (N, components), 1 where a component is on and 0 where it is off; any components,
            not only the first, and with gradients if they have some. Under those of
            :func:`nas.execution.masked.nested_gates`, a sample's answer is that of :meth:`throttle` at its utilization.

        Raises UserError where gates do not fit, and where points have norms of their own.
        """
        norm = self.architecture.norm
        if norm != "shared" and not (self.training and norm == "recalibrated"):
            raise UserError(
                f"Samples of different utilizations share their norms: norm must be 'shared'. Got {norm!r}."
            )
        if x.device not in self._gated:
            self._gated[x.device] = GatedPass(self.architecture.topology, self._plan(None, x.device), x.device)
        return self._gated[x.device].run(self.operation_layers, self._checked(x), gates, self._mode(None)).flatten(1)

    def forward_all(self, x: Tensor) -> list[Tensor]:
        """Logits at every level, small to large, each (N, labels that the level tells).

        What a level shares with the largest is computed once: in a causal network everything but the classifier.
        """
        largest = self._plan(None, x.device)
        top = {0: self._checked(x)}
        self._run(largest.steps, top, self._mode(None))
        out = []
        for level in range(self.levels - 1):
            rest = self._rest(level, x.device)
            values = {index: channels.take(top[index], dim=1) for index, channels in rest.taken}
            self._run(rest.steps, values, self._mode(level))
            out.append(values[rest.output].flatten(1))
        return [*out, top[largest.output].flatten(1)]

    def refine(self, x: Tensor) -> Iterator[Tensor]:
        """Logits (N, labels that the level tells) at every level, small to large, each by the extra work alone: stop
        when time is up.

        Only the new rows of each operation run, on what is kept of the results so far; logits accumulate, but where the
        next level tells finer labels: its classifier starts afresh, and ``refine_macs`` sum to more than the largest
        level's MACs. What level k takes is ``refine_macs[k]``. Without gradients. x and the answers are yours: neither
        what is done to them nor to weights disturbs steps to come. Weights that are written through ``.data``, which
        torch does not notice, are taken up after ``network.eval()``.

        Raises UserError in training mode, and where a level's results are others at a larger one, which it names.
        """
        if self.training:
            raise UserError("refine takes the stored statistics of norms: call network.eval() first.")
        self._refuse_uncalibrated()
        return self._refiner(x.device).run(self, self._checked(x))

    @property
    def refine_macs(self) -> tuple[int, ...]:
        """MACs that each step of :meth:`refine` takes for one example. Raises UserError like it."""
        return tuple(step.macs for step in self._refiner(self.calibrated.device).steps)

    def labels(self, labels: Tensor, level: int | Subnetwork | None = None) -> Tensor:
        """What a level should answer, (N,), for examples with these fine labels, (N,): coarse labels where it tells
        those of the task's hierarchy.
        """
        return join_labels(self.architecture.task, labels, self._labelling(level))

    def soft_labels(self, log_probabilities: Tensor, level: int | Subnetwork | None = None) -> Tensor:
        """Log-probabilities of the labels that a level tells, (N, labels), from those of finer labels, or of the same.

        Raises InvalidArchitecture where they are of coarser labels: of those, none can be learned that a level tells.
        """
        return join_probabilities(self.architecture.task, log_probabilities, self._labelling(level))

    def _labelling(self, level: int | Subnetwork | None) -> int:
        point = level if isinstance(level, Subnetwork) else self.architecture.points[self._level(level)]
        return self.architecture.labelling(point)

    @property
    def nonzero_macs(self) -> tuple[int, ...]:
        """Multiply-accumulates of one example at every level by weights that are not zero: fewer than ``macs`` where
        weights are pruned. What they cost is that much only where zeros are skipped, which dense kernels do not.
        """
        maps = self.architecture.topology.maps
        return tuple(
            sum(
                int(self.operation_layers[o].live_weight(route).count_nonzero()) * prod(maps[step.target].size)
                for step in self._plan(level, self.calibrated.device).steps
                for o, _, route in step.inputs
                if self.operation_layers[o].weight is not None
            )
            for level in range(self.levels)
        )

    def extract(self, level: int) -> nn.Module:
        """The network of one level on its own: a static module with copied, physically smaller weights, in evaluation
        mode.
        """
        from nas.execution.static import StaticNetwork

        self._refuse_uncalibrated()
        return StaticNetwork(self, self._level(level))

    def with_points(self, points: Sequence[Subnetwork]) -> AnytimeNetwork:
        """A network of its own with copies of these weights and other operating points of the same topology.

        Under the policy "recalibrated" it must be calibrated before it answers. Raises UserError where each point has
        norms of its own, which others have not, and InvalidArchitecture for points that do not grow in MACs.
        """
        if self.architecture.norm == "per_point":
            raise UserError("Each operating point of this network has norms of its own: others cannot take its place.")
        other = AnytimeNetwork(self.architecture.with_points(points))
        ours, theirs = self.state_dict(), other.state_dict()
        shared = {name: tensor for name, tensor in ours.items() if tensor.shape == theirs[name].shape}
        other.load_state_dict({**theirs, **shared})
        if self.architecture.norm == "recalibrated":
            other._set_calibrated(False)
        other.preprocess = self.preprocess
        other.to(self.calibrated.device)
        return other.train(self.training)

    def at_budget(self, budget: float) -> Callable[[Tensor], Tensor]:
        """The largest operating point within a budget of MACs, as a function of x.

        Raises UserError when even the smallest costs more.
        """
        within = [level for level, cost in enumerate(self.macs) if cost <= budget]
        if not within:
            raise UserError(
                f"The budget must reach the smallest operating point, {self.macs[0]:,} MACs. Got {budget:,}."
            )
        return partial(self, level=within[-1])

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Re-estimate the norm statistics of every operating point as the mean over batches of (preprocessed) training
        images.

        Raises UserError when there are no batches, or when the points share their norms, which training itself keeps.
        """
        if self.architecture.norm == "shared":
            raise UserError(
                "Points that share their norms take the statistics of training: there is nothing to calibrate."
            )
        for norm in self.modules():
            if isinstance(norm, Norm):
                norm.reset_statistics()
        count = 0
        for count, x in enumerate(batches, start=1):
            for level in range(self.levels):
                self._run(self._plan(level, x.device).steps, {0: x}, NormMode(level, True, 1 / count))
        if not count:
            raise UserError("Calibration must see at least one batch of training images. Got none.")
        self._set_calibrated(True)

    def save(self, folder: str | Path) -> None:
        """Write weights, architecture and preprocessing to a folder, made if needed; :func:`nas.load` reads them
        back.
        """
        from safetensors.torch import save_file

        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        described = {
            "architecture": self.architecture.to_json(),
            "preprocessing": self.preprocess.to_json() if self.preprocess else None,
        }
        (path / "network.json").write_text(json.dumps(described, indent=1))
        save_file(
            {name: t.detach().cpu().contiguous() for name, t in self.state_dict().items()}, path / "weights.safetensors"
        )

    @staticmethod
    def load(folder: str | Path) -> AnytimeNetwork:
        """The network that :meth:`save` wrote, in evaluation mode. Raises UserError when the folder holds none."""
        path = Path(folder)
        try:
            described = json.loads((path / "network.json").read_text())
            architecture = Architecture.from_json(described["architecture"])
            preprocessing = described["preprocessing"]
            network = AnytimeNetwork(architecture)
            network.preprocess = Preprocessing.from_json(preprocessing) if preprocessing else None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} must be a folder that network.save wrote: {_told(error)}") from error
        network.read_weights(path / "weights.safetensors")
        return network.eval()

    def read_weights(self, path: str | Path) -> None:
        """Load a safetensors file into this network. Raises UserError when it is none, or another network's."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            found = load_file(path)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} must be a file of weights: {_told(error)}") from error
        wanted = {name: tuple(tensor.shape) for name, tensor in self.state_dict().items()}
        got = {name: tuple(tensor.shape) for name, tensor in found.items()}
        for name in sorted(wanted.keys() | got.keys()):
            if wanted.get(name) != got.get(name):
                raise UserError(
                    f"{path} must hold the weights of this very network. "
                    f"Got shape {got.get(name)} for {name}, where it has {wanted.get(name)}."
                )
        self.load_state_dict(found)

    def check_reuse(self) -> None:
        """Raise UserError unless larger operating points build on the results of smaller ones, exactly, so that one
        pass answers for all.
        """
        self._accumulating  # noqa: B018  # to find it is to check

    @cached_property
    def _accumulating(self) -> frozenset[int]:
        return accumulating_maps(self.architecture)

    @cached_property
    def _stable(self) -> tuple[frozenset[int], ...]:
        return stable_maps(self.architecture)

    def _level(self, level: int | None) -> int:
        wanted = self.levels - 1 if level is None else level
        if not 0 <= wanted < self.levels:
            raise UserError(f"level must be between 0 and {self.levels - 1}. Got {level=}.")
        return wanted

    def _plan(self, level: int | Subnetwork | None, device: torch.device) -> Plan:
        point = level if isinstance(level, Subnetwork) else self.architecture.points[self._level(level)]
        plan = self._plans.get((point, device))
        if plan is None:
            if isinstance(level, Subnetwork):
                check_point(self.architecture.topology, self.architecture.task, point)
            if len(self._plans) >= REMEMBERED_PLANS:
                del self._plans[next(iter(self._plans))]
            plan = self._plans[point, device] = make_plan(self.architecture.topology, point, device)
        return plan

    def _rest(self, level: int, device: torch.device) -> _Rest:
        """What is left to do for a level after a pass through the largest."""
        if (level, device) not in self._rests:
            plan, largest = self._plan(level, device), self._plan(None, device)
            self._rests[level, device] = _Rest.of(plan, largest, self._stable[level])
        return self._rests[level, device]

    def _refiner(self, device: torch.device) -> Refiner:
        if device not in self._refiners:
            self._refiners[device] = Refiner(self.architecture, device)
        return self._refiners[device]

    def _mode(self, level: int | Subnetwork | None) -> NormMode:
        policy, points = self.architecture.norm, self.architecture.points
        if isinstance(level, Subnetwork) and level in points:
            level = points.index(level)
        if isinstance(level, Subnetwork) and policy != "shared" and not (self.training and policy == "recalibrated"):
            raise UserError("Only operating points have norms of their own; this subnetwork is none of them.")
        row = 0 if isinstance(level, Subnetwork) else self._level(level)
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
        layers = self.operation_layers
        for step in steps:
            if step.concat:
                arrived = [values[source] for _, source, _ in step.inputs]
            else:
                arrived = [layers[o](values[source], route, mode) for o, source, route in step.inputs]
            values[step.target] = merge(arrived, step)


@dataclass(frozen=True, slots=True)
class _Rest:
    """How a level goes on from a pass through the largest: the channels it takes of maps there, and its own steps."""

    taken: tuple[tuple[int, Channels], ...]
    steps: tuple[Step, ...]
    output: int

    @staticmethod
    def of(plan: Plan, largest: Plan, known: frozenset[int]) -> _Rest:
        steps = plan.until_known(known)
        written = {step.target for step in steps}
        read = {plan.output, *(source for step in steps for _, source, _ in step.inputs)} - written
        return _Rest(
            tuple((index, _part(largest.channels[index], plan.channels[index])) for index in sorted(read)),
            steps,
            plan.output,
        )


def _part(held: Channels, wanted: Channels) -> Channels:
    """Where the wanted channels are in a value that holds others as well."""
    if held.index is None and wanted.index is None:
        return Channels(wanted.count)
    place = {channel: at for at, channel in enumerate(held.positions)}
    device = (held.index if held.index is not None else wanted.index).device  # type: ignore[union-attr]
    return Channels(wanted.count, torch.tensor([place[c] for c in wanted.positions], device=device))


def _forget_calibrated(network: nn.Module, keys: object) -> None:
    network._known_calibrated = None  # type: ignore[assignment]


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
