"""An architecture as a torch module that answers at every operating point."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from nas.cost import macs, params
from nas.errors import UserError
from nas.layers import Channels, Layer, NormMode, activate
from nas.plan import Plan, Step, make_plan
from nas.preprocessing import Preprocessing
from nas.reuse import stable_maps
from nas.topology import Architecture, Subnetwork

MOMENTUM = 0.1


class AnytimeNetwork(nn.Module):
    """One set of weights, several operating points, small to large.

    architecture: what it is; macs, params: cost of each level; preprocess: from images as stored to what ``forward``
    takes.

    In training mode norms use the statistics of the batch. Under the policy "recalibrated" they keep none of their own:
    :meth:`calibrate` estimates them after training, and an answer in evaluation mode is refused before that.
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
        self._plans: dict[Subnetwork, Plan] = {}
        for layer in self.operation_layers:
            layer.reset(generator)

    @property
    def levels(self) -> int:
        """Number of operating points."""
        return len(self.architecture.points)

    def forward(self, x: Tensor, level: int | Subnetwork | None = None) -> Tensor:
        """Logits of shape (N, num_classes) for x of shape (N, \\*input_shape) at a level, the largest by default.

        In training mode level may be any subnetwork of the topology, unless each point has norms of its own.
        """
        plan = self._plan(level)
        values = {0: x}
        self._run(plan.steps, values, self._mode(level))
        return values[plan.output].flatten(1)

    def forward_all(self, x: Tensor) -> list[Tensor]:
        """Logits at every level, small to large, each (N, num_classes).

        What a level shares with the largest is computed once: in a causal network everything but the classifier.
        """
        largest = self._plan(None)
        top = {0: x}
        self._run(largest.steps, top, self._mode(None))
        out = []
        for level, known in enumerate(self._stable[:-1]):
            plan = self._plan(level)
            values = {m: _part(top[m], largest.channels[m], plan.channels[m]) for m in known}
            self._run(plan.until_known(known), values, self._mode(level))
            out.append(values[plan.output].flatten(1))
        return [*out, top[largest.output].flatten(1)]

    def extract(self, level: int) -> nn.Module:
        """The network of one level on its own: a static module with copied, physically smaller weights, in evaluation
        mode.
        """
        from nas.extract import StaticNetwork

        self._refuse_uncalibrated()
        return StaticNetwork(self, self._level(level))

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

        Raises UserError when there are no batches.
        """
        count = 0
        for count, x in enumerate(batches, start=1):
            for level in range(self.levels):
                self._run(self._plan(level).steps, {0: x}, NormMode(level, True, 1 / count))
        if not count:
            raise UserError("Calibration must see at least one batch of training images. Got none.")
        self.calibrated.fill_(True)

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
        except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise UserError(f"{path} must be a folder that network.save wrote: {error}.") from error
        network = AnytimeNetwork(architecture)
        network.read_weights(path / "weights.safetensors")
        if described.get("preprocessing"):
            network.preprocess = Preprocessing.from_json(described["preprocessing"])
        return network.eval()

    def read_weights(self, path: str | Path) -> None:
        """Load a safetensors file into this network. Raises UserError when it is none, or another network's."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            self.load_state_dict(load_file(path))
        except (OSError, SafetensorError, RuntimeError) as error:
            raise UserError(f"{path} must hold this network's weights: {str(error).splitlines()[0]}.") from error

    @cached_property
    def _stable(self) -> tuple[frozenset[int], ...]:
        return stable_maps(self.architecture)

    def _level(self, level: int | None) -> int:
        wanted = self.levels - 1 if level is None else level
        if not 0 <= wanted < self.levels:
            raise UserError(f"level must be between 0 and {self.levels - 1}. Got {level=}.")
        return wanted

    def _plan(self, level: int | Subnetwork | None) -> Plan:
        point = level if isinstance(level, Subnetwork) else self.architecture.points[self._level(level)]
        if point not in self._plans:
            self._plans[point] = make_plan(self.architecture.topology, point)
        return self._plans[point]

    def _mode(self, level: int | Subnetwork | None) -> NormMode:
        policy = self.architecture.norm
        if isinstance(level, Subnetwork) and policy != "shared" and not (self.training and policy == "recalibrated"):
            raise UserError("Only operating points have norms of their own; this subnetwork is none of them.")
        row = 0 if isinstance(level, Subnetwork) else self._level(level)
        if self.training:
            return NormMode(row, True, None if policy == "recalibrated" else MOMENTUM)
        self._refuse_uncalibrated()
        return NormMode(row, False)

    def _refuse_uncalibrated(self) -> None:
        if not self.calibrated:
            raise UserError(
                "The norms of this network must be recalibrated before it answers: call network.calibrate(batches)."
            )

    def _run(self, steps: Iterable[Step], values: dict[int, Tensor], mode: NormMode) -> None:
        for step in steps:
            if step.concat:
                x = torch.cat([values[source] for _, source, _ in step.inputs], dim=1)
            else:
                x = sum(self.operation_layers[o](values[source], route, mode) for o, source, route in step.inputs)
            x = activate(x, step.activation)
            values[step.target] = x if step.factor == 1 else x * step.factor


def _part(value: Tensor, held: Channels, wanted: Channels) -> Tensor:
    """The wanted channels of a value that holds others as well."""
    if held.index is None and wanted.index is None:
        return value if held.count == wanted.count else value[:, : wanted.count]
    place = {channel: at for at, channel in enumerate(held.positions)}
    return value[:, [place[c] for c in wanted.positions]]
