"""Construction of a SteppingNet: filters move between subnets until each subnet is within its MAC budget.

From the paper: larger subnets build on smaller subnets and reuse their results. Our reconstruction, because the full
text was not available: everything that follows. The original network, widened, starts with all filters in the smallest
subnet. After every round of training all subnets, the least important filters of each subnet move to the next one, and
filters of the last subnet become unused. Importance is the mean of abs(dL/dg) over batches, for a gate g = 1 on a
filter's output. Weights that become live by a move start at zero. The gradient of a subnet's loss on the weights of a
smaller subnet is suppressed, so that the smaller subnet's accuracy is kept. Then ownership is frozen, and the subnets
learn from the labels and from the original network. The representation and partial training require more:

- Every subnet keeps a filter of every layer, because slices of a map must grow; each later subnet starts with one.
- Importance is relative to the mean of its layer. In a wide layer each filter matters less: with absolute importance,
  the narrow linear layers of a LeNet-5 kept 4 filters of 432.
- The budgets are the costs of the proposal's points. The allowed costs shrink by a constant factor per round to these.
- The original network is trained beside the subnets, not before them, and teaches at its present state. In a training
  of few epochs, a teacher trained in a part of the epochs would soon be worse than the subnets.
- Small weights are pruned once, at the end of the construction: earlier, most of them became live shortly before.
- One optimiser step follows the losses of all subnets.
- Channels are permuted after every move, so that ownership is always a prefix: the trained network is an ordinary
  causal network at any time, and a training that is stopped earlier is measured as that network, cut to its budgets.

References
----------
Sun et al., SteppingNet: A Stepping Neural Network with Incremental Accuracy Enhancement, DATE 2023, arXiv 2211.14926.
Hinton, Vinyals & Dean, Distilling the Knowledge in a Neural Network, 2015, arXiv 1503.02531.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import cycle, islice
from math import isfinite

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evaluators.rules.permutation import Permuted, channel_groups
from nas.errors import UserError, unknown_name
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.representation.ownership import Groups, OwnershipMacs, move_filters, owned_groups, with_slices

IMPORTANCES = ("gradient", "magnitude", "random")
LEVEL_WEIGHT = 0.5
"""Weight of a filter's importance for a subnet, relative to its importance for the next smaller subnet."""
MEMORY = 0.5
"""Factor of the summed importance at the end of a round."""
NORM_PASSES = 32
"""Batches for the norms of a network that is cut before the construction ends; earlier statistics then count 0.9^32."""


class Stepping:
    """SteppingNet's construction: filters move between subnets under MAC budgets, then retraining by distillation.

    Parameters
    ----------
    original
        Filters of each layer of the original network, as "32-32-32"; None: as in the proposal.
    expansion
        Factor of the number of filters at the start of the construction.
    construction
        Share of the training until ownership is frozen.
    rounds
        Moves of filters in this time.
    importance
        Criterion of the moves: "gradient", or the controls "magnitude" and "random".
    prune
        Weights with a smaller absolute value become zero permanently; 0: none.
    beta
        The gradient on a weight is multiplied by beta for each level between its owner and the subnet of the loss; 1:
        no suppression.
    gamma
        Weight of the labels in retraining. The original network's probabilities have the weight 1 - gamma; 1: no
        original network is trained.
    """

    def __init__(
        self,
        *,
        original: str | None = None,
        expansion: float = 1.8,
        construction: float = 1 / 3,
        rounds: int = 20,
        importance: str = "gradient",
        prune: float = 1e-3,
        beta: float = 0.9,
        gamma: float = 0.4,
    ):
        if not _real(expansion) or expansion < 1:
            raise UserError(f"expansion must be a number, at least 1. Got {expansion=}.")
        if not _real(construction) or not 0 < construction < 1:
            raise UserError(f"construction must be a share of the training between 0 and 1. Got {construction=}.")
        if type(rounds) is not int or rounds < 1:
            raise UserError(f"rounds must be a whole number, at least 1. Got {rounds=}.")
        if importance not in IMPORTANCES:
            raise UserError(unknown_name("importance", importance, IMPORTANCES))
        if not _real(prune) or prune < 0:
            raise UserError(f"prune must be a number, at least 0. Got {prune=}.")
        for name, value in (("beta", beta), ("gamma", gamma)):
            if not _real(value) or not 0 <= value <= 1:
                raise UserError(f"{name} must be a number between 0 and 1. Got {value!r}.")
        self.original, self.expansion, self.construction = _filters(original), float(expansion), float(construction)
        self.rounds, self.importance = rounds, importance
        self.prune, self.beta, self.gamma = float(prune), float(beta), float(gamma)

    def check(self, architecture: Architecture) -> None:
        """Raise UserError unless filters can be owned, norms are shared, and ``original`` fits the layers."""
        if architecture.norm != "shared":
            raise UserError(f"The rule 'stepping' needs points that share their norms. Got norm={architecture.norm!r}.")
        proposed = proposed_filters(architecture, owned_groups(architecture))
        if self.original is not None and len(self.original) != len(proposed):
            raise UserError(
                f"original must give the filters of {len(proposed)} layers, such as {'-'.join(map(str, proposed))}. "
                f"Got {'-'.join(map(str, self.original))}."
            )

    def construct(self, architecture: Architecture, *, steps: int, generator: torch.Generator) -> SteppingConstruction:
        """See :class:`nas.evaluation.training_rules.ConstructingRule`."""
        return SteppingConstruction(self, architecture, steps=steps, generator=generator)


class SteppingConstruction(nn.Module):
    """The construction of one SteppingNet, see :class:`nas.evaluation.training_rules.Construction`.

    Attributes
    ----------
    network
        The present network, with channels in the order of their owners.
    teacher
        The original network; None without distillation.

    Notes
    -----
    Buffers: ``importance_G``, (levels, channels), of the filters of coupling group G, summed over batches;
    ``pruned_O``, a mask of the weights of operation O that stay zero.
    """

    network: AnytimeNetwork

    def __init__(self, rule: Stepping, proposal: Architecture, *, steps: int, generator: torch.Generator):
        super().__init__()
        rule.check(proposal)
        self.rule, self.proposal, self.levels = rule, proposal, len(proposal.points)
        self.groups, self.macs = owned_groups(proposal), OwnershipMacs(proposal)
        original = rule.original or proposed_filters(proposal, self.groups)
        widened = [max(round(rule.expansion * n), self.levels) for n in original]
        later = range(self.levels - 1, -1, -1)
        self.start = with_slices(proposal, [tuple(n - level for level in later) for n in widened])
        self.construction_steps = max(1, round(rule.construction * steps))
        self._adopt(AnytimeNetwork(self.start, generator=generator))
        self._reset_records()
        self.teacher: AnytimeNetwork | None = None
        if rule.gamma < 1:
            self.teacher = AnytimeNetwork(with_slices(proposal, [(n,) for n in original]), generator=generator)

    def trained(self) -> list[nn.Module]:
        """The network, and the teacher."""
        return [self.network] if self.teacher is None else [self.network, self.teacher]

    def losses(self, step: int, x: Tensor, labels: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
        """The teacher's cross-entropy, then one loss per level, largest first.

        The loss of a level is its cross-entropy during the construction, then γ·CE + (1 − γ)·KL(teacher ‖ subnet).
        """
        constructing, targets = step < self.construction_steps, None
        if self.teacher is not None:
            logits = self.teacher(x)
            yield F.cross_entropy(logits, self.teacher.labels(labels))
            if not constructing:
                targets = logits.detach().log_softmax(1)
        total: dict[str, Tensor] = {}
        for level in reversed(range(self.levels)):
            logits = self.network(x, level)
            loss = F.cross_entropy(logits, self.network.labels(labels, level))
            if targets is not None:
                distance = F.kl_div(logits.log_softmax(1), targets, log_target=True, reduction="batchmean")
                loss = self.rule.gamma * loss + (1 - self.rule.gamma) * distance
            yield loss
            if constructing and self.rule.importance == "gradient":
                self._observe(level)
            self._take_gradients(level, total)
        for name, parameter in self.network.named_parameters():
            parameter.grad = total.get(name)

    def advance(self, step: int, generator: torch.Generator) -> Callable[[str, Tensor], Tensor] | None:
        """At the end of a round, move filters until every level is within the allowed MACs; at the last one, prune."""
        rounds = self.round_at(step + 1)
        if rounds == self.round_at(step):
            return None
        if rounds == self.rule.rounds:
            self._prune()
        moved = self._moved(rounds / self.rule.rounds, generator)
        importance = [MEMORY * moved.filters(g, self.importance(g)) for g in range(len(self.groups))]
        pruned = {name: moved.carry(name, mask) for name, mask in self.pruned().items()}
        self._adopt(moved.network)
        self._record(importance, pruned)

        def carry(name: str, tensor: Tensor) -> Tensor:
            if not name.startswith("network."):
                return tensor
            name = name.removeprefix("network.")
            carried = moved.carry(name, tensor)
            return carried.masked_fill(pruned[name], 0) if name in pruned else carried

        return carry

    def restore(self, architecture: Architecture) -> None:
        """See :meth:`nas.evaluation.training_rules.Construction.restore`."""
        device = self.network.calibrated.device
        self._adopt(AnytimeNetwork(architecture).to(device))
        self._reset_records()

    @torch.no_grad()
    def finished(self, steps: int, batches: Iterable[Tensor], generator: torch.Generator) -> AnytimeNetwork:
        """The network after the construction; before its end, a copy cut to the budgets, with newly estimated norms.

        The cut uses the importance of the filters so far.
        """
        if steps >= self.construction_steps:
            return self.network
        network = self._moved(1.0, generator).network.train()
        for x in islice(cycle(batches), NORM_PASSES):
            network(x)
        return network

    def round_at(self, steps: int) -> int:
        """Number of rounds that end within a number of steps; several may end at the same step."""
        return min(steps, self.construction_steps) * self.rule.rounds // self.construction_steps

    @torch.no_grad()
    def _observe(self, level: int) -> None:
        """Add abs(dL/dg) of a batch, for a level's loss, to the importance of every filter.

        A filter's output is linear in its last parameters θ, which belong to the norm, or without one to the operation.
        A gate on the output multiplies them, therefore dL/dg = Σ θ·dL/dθ.
        """
        for group, gated in enumerate(self._gated):
            gates = [
                _per_filter(parameter * parameter.grad, axis) for parameter, axis in gated if parameter.grad is not None
            ]
            self.importance(group)[level] += torch.stack(gates).sum(0).abs()

    def _take_gradients(self, level: int, total: dict[str, Tensor]) -> None:
        """Move the gradients of a level's loss to the total, suppressed, and 0 for pruned weights."""
        pruned, beta = self.pruned(), self.rule.beta
        factors = [beta ** (level - self.get_buffer(f"owner_{g}")).clamp(min=0) for g in range(len(self.groups))]
        for name, parameter in self.network.named_parameters():
            gradient, parameter.grad = parameter.grad, None
            if gradient is None:
                continue
            axis, group = self.owned[name]
            shape = [-1 if d == axis else 1 for d in range(gradient.dim())]
            gradient *= beta**level if group is None else factors[group].reshape(shape)
            if name in pruned:
                gradient.masked_fill_(pruned[name], 0)
            total[name] = gradient if name not in total else total[name] + gradient

    @torch.no_grad()
    def _prune(self) -> None:
        """Set small live weights to zero permanently."""
        parameters = dict(self.network.named_parameters())
        for name, pruned in self.pruned().items():
            small = parameters[name].abs() < self.rule.prune
            mask = self.network.operation_layers[int(name.split(".")[1])].mask
            pruned |= small if mask is None else small & (mask > 0)
            parameters[name].masked_fill_(pruned, 0)

    def _moved(self, share: float, generator: torch.Generator) -> Permuted:
        """The network after a move, ``share`` of the way from the start's costs to the budgets, in logarithms."""
        start, budgets = np.array(self.start.costs, dtype=float), np.array(self.proposal.costs, dtype=float)
        allowed = budgets if share == 1 else np.maximum(budgets, start * (budgets / start) ** share)
        owners = move_filters(self.owners(), self.scores(generator), allowed, self.macs)
        return Permuted(self.network, self.groups, owners)

    def owners(self) -> list[np.ndarray]:
        """Level of every filter of every group, (channels,)."""
        maps = self.network.architecture.topology.maps
        return [np.repeat(np.arange(self.levels), np.diff(maps[group[0]].slices, prepend=0)) for group in self.groups]

    def scores(self, generator: torch.Generator) -> list[np.ndarray]:
        """Importance of the filters of every group, (channels,), with mean 1."""
        weights = LEVEL_WEIGHT ** torch.arange(self.levels, device=self.network.calibrated.device)
        scores = []
        for group, gated in enumerate(self._gated):
            if self.rule.importance == "gradient":
                score = weights @ self.importance(group)
            elif self.rule.importance == "magnitude":
                score = torch.stack([_per_filter(p.detach().square(), axis) for p, axis in gated]).sum(0)
            else:
                score = torch.rand(gated[0][0].shape[gated[0][1]], generator=generator)
            values = score.double().cpu().numpy()
            scores.append(values / (values.mean() or 1))
        return scores

    def _adopt(self, network: AnytimeNetwork) -> None:
        """Take a network, and derive the tables of its ownership.

        _gated: for each group, the parameters that its gates multiply, each with the axis of the filters. owned: for
        each parameter, the axis of the filters that own it, and their group; None: it belongs to the smallest level.
        Buffer owner_G: the level of every filter of group G.
        """
        self.network, device = network, network.calibrated.device
        for group, owner in enumerate(self.owners()):
            self.register_buffer(f"owner_{group}", torch.from_numpy(owner).to(device), persistent=False)
        parameters, topology = dict(network.named_parameters()), network.architecture.topology
        groups_of = channel_groups(topology, self.groups)
        self.owned = {
            name: next(((a, g) for a, g in enumerate(groups_of[name]) if g is not None), (0, None))
            for name in parameters
        }
        self._gated: list[list[tuple[nn.Parameter, int]]] = [[] for _ in self.groups]
        for index, operation in enumerate(topology.operations):
            target = groups_of[f"layers.{index}.bias"][0]
            last, axis = ("after.", 1) if "norm" in operation.after else ("", 0)
            names = [f"layers.{index}.{last}{tensor}" for tensor in ("weight", "bias")]
            if target is not None:
                self._gated[target] += [(parameters[name], axis) for name in names if name in parameters]

    def _reset_records(self) -> None:
        """Set all importance to zero, and prune nothing."""
        layers, device = self.network.operation_layers, self.network.calibrated.device
        widths = [len(owner) for owner in self.owners()]
        self._record(
            [torch.zeros(self.levels, width, device=device) for width in widths],
            {
                f"layers.{o}.weight": torch.zeros_like(layer.weight, dtype=torch.bool)
                for o, layer in enumerate(layers)
                if layer.weight is not None and self.rule.prune
            },
        )

    def _record(self, importance: list[Tensor], pruned: dict[str, Tensor]) -> None:
        for group, values in enumerate(importance):
            self.register_buffer(f"importance_{group}", values)
        for name, mask in pruned.items():
            self.register_buffer(f"pruned_{name.split('.')[1]}", mask)

    def importance(self, group: int) -> Tensor:
        return self.get_buffer(f"importance_{group}")

    def pruned(self) -> dict[str, Tensor]:
        """Masks of the weights that stay zero, by the weight's name in the network."""
        return {
            f"layers.{name.removeprefix('pruned_')}.weight": mask
            for name, mask in self.named_buffers(recurse=False)
            if name.startswith("pruned_")
        }


def proposed_filters(architecture: Architecture, groups: Groups) -> tuple[int, ...]:
    """The filters of the largest operating point, by group."""
    return tuple(architecture.topology.maps[maps[0]].channels for maps in groups)


def _per_filter(tensor: Tensor, axis: int) -> Tensor:
    """The sum over all axes except the axis of the filters, (channels,)."""
    return tensor.movedim(axis, 0).reshape(tensor.shape[axis], -1).sum(1)


def _filters(original: str | None) -> tuple[int, ...] | None:
    if original is None:
        return None
    parts = str(original).split("-")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UserError(f"original must be numbers of filters, such as 32-32-32. Got {original!r}.")
    return tuple(map(int, parts))


def _real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
