"""Training and measuring controllers and gate policies of a frozen network.

They learn from one half of the validation images, because a network is more accurate on its training images than on
new images, and are measured on the other half and on the test images. (In the paper they learn from training images.)
The weights and norms of the network stay unchanged.

See Also
--------
evaluators.controllers.bandits : how controllers learn.
evaluators.controllers.gate_policies : how gate policies learn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluators.controllers.bandits import train_policy
from evaluators.controllers.gate_policies import measure_gates, train_gates
from evaluators.data.batches import Batches, batches
from evaluators.data.source import ImageSource
from evaluators.data.splitting import split
from nas.errors import UserError
from nas.evaluation.controllers import ControllerResult, ControllerSettings
from nas.execution.controller import Controller, top_log_probabilities
from nas.execution.controller_architectures import actions, controller_architecture, gate_policy_architecture
from nas.execution.gate_policy import GatePolicy
from nas.execution.network import AnytimeNetwork
from nas.execution.preprocessing import Preprocessing
from nas.seeds import seed as derived_seed

BATCH = 128


def train_controllers(
    source: ImageSource,
    network: AnytimeNetwork,
    settings: ControllerSettings,
    *,
    seed: int,
    report: Callable[[int, int], None],
) -> ControllerResult:
    """Train a controller or a gate policy for every penalty, and measure them and the fixed utilizations.

    Parameters
    ----------
    source
        Images; the network is moved to their device, and set to evaluation mode.
    network
        The network to control.
    settings
        Of the controllers.
    seed
        Of their weights and of the order of images.
    report
        Called with the number of trained controllers and the total.

    Raises
    ------
    UserError
        For a network with a single operating point, or another metric than accuracy.
    """
    if source.task.metric != "accuracy":
        raise UserError(
            f"Controllers learn to answer rightly, and are measured by accuracy. Got the metric {source.task.metric}: "
            "search or train with --metric accuracy."
        )
    trainer = _ControllerTrainer(source, network.to(source.device).eval())
    train = trainer.gate_policy if settings.learner == "gates" else trainer.controller
    controllers: list[Any] = []
    policies: list[dict[str, Any]] = []
    for done, penalty in enumerate(settings.penalties):
        report(done, len(settings.penalties))
        generator = torch.Generator().manual_seed(derived_seed(seed, "controller", repr(penalty)))
        controller, rows = train(penalty, settings, generator)
        controllers.append(controller)
        labels = {"penalty": penalty, "learner": settings.learner, "controller_macs": controller.macs}
        labels["sees"] = settings.controller_input
        policies += [labels | row for row in rows]
    return ControllerResult(controllers=controllers, policies=policies, fixed=trainer.fixed())


class _ControllerTrainer:
    """Trains and measures the controllers of one network.

    utilizations: A utilizations to choose from. learning: rows of the images to learn from. loaders: images to measure
    on, validation ("") and test ("test_"). correct: of these images, whether the network is correct at each
    utilization, (N, A).
    """

    def __init__(self, source: ImageSource, network: AnytimeNetwork):
        self.source, self.network, self.utilizations = source, network, actions(network.architecture)
        halves = split(source.validation_labels, fraction=0.5, seed=0)
        self.learning, measured = (source.validation_rows[half] for half in halves)
        self.loaders = {
            "": source.validation(measured),
            "test_": source.test(),
        }
        self.correct = {part: correct(network, loader, self.utilizations) for part, loader in self.loaders.items()}
        self.macs_A = torch.tensor([float(network.macs_at(u)) for u in self.utilizations], dtype=torch.float64)

    @cached_property
    def learned_NA(self) -> Tensor:
        """Whether the network is correct at each utilization, for the images to learn from."""
        return correct(self.network, self.source.validation(self.learning), self.utilizations)

    def fixed(self) -> list[dict[str, Any]]:
        """Cost and accuracy of each utilization, if all inputs run at it."""
        rows = []
        for a, u in enumerate(self.utilizations):
            accuracies = {
                f"{part}accuracy": float(correct_NA[:, a].double().mean()) for part, correct_NA in self.correct.items()
            }
            rows.append({"utilization": u, "macs": int(self.macs_A[a])} | accuracies)
        return rows

    def controller(
        self, penalty: float, settings: ControllerSettings, generator: torch.Generator
    ) -> tuple[Controller, list[dict[str, Any]]]:
        """Train a controller; returns it with the row of its measurements."""
        task, sees, device = self.network.architecture.task, settings.controller_input, self.source.device
        architecture = controller_architecture(task, len(self.utilizations), sees=sees, width=settings.width)
        controller = Controller(
            AnytimeNetwork(architecture, generator=generator).to(device), self.utilizations, sees=sees
        )
        costs_A = torch.tensor(controller.costs(self.network), dtype=torch.float64, device=device)
        rows = np.arange(len(self.learning))  # row of the rewards, in place of a label
        inputs = self._images(rows) if sees == "input" else self._top_log_probabilities(rows)
        reward_NA = self.learned_NA.float() - penalty * (costs_A / self.network.macs_at(1.0)).float()
        train_policy(controller.network, inputs, reward_NA, settings, generator)
        controller.network.eval()
        row = {"utilization": 1.0}
        for part, loader in self.loaders.items():
            choice_N = torch.cat([controller.choose(self.network, x)[0] for x, _ in loader.evaluate()])
            row[f"{part}accuracy"] = float(self.correct[part].gather(1, choice_N[:, None]).double().mean())
            row[f"{part}macs"] = float(costs_A[choice_N].mean())
        return controller, [row]

    def gate_policy(
        self, penalty: float, settings: ControllerSettings, generator: torch.Generator
    ) -> tuple[GatePolicy, list[dict[str, Any]]]:
        """Train a gate policy; returns it with a row for each utilization."""
        architecture = gate_policy_architecture(self.network.architecture, width=settings.width)
        policy_network = AnytimeNetwork(architecture, generator=generator).to(self.source.device)
        policy = GatePolicy.for_modules(policy_network, self.network.architecture.topology.gated)
        images = self._images(self.source.validation_data[1][self.learning])
        train_gates(policy, self.network, images, penalty, settings, generator)
        policy_network.eval()
        rows = [
            {"utilization": u} | measure_gates(policy.with_utilization(u), self.network, self.loaders)
            for u in self.utilizations
        ]
        return policy, rows

    def _images(self, labels_N: np.ndarray) -> Batches:
        """The images to learn from, augmented, with these labels."""
        images = self.source.validation_data[0][self.learning]
        return self.source.batches(images, labels_N, size=self._batch_size, share=1.0)

    def _top_log_probabilities(self, labels_N: np.ndarray) -> Batches:
        """The input of a controller that sees logits, for the images to learn from without augmentation."""
        loader = self.source.validation(self.learning)
        smallest = self.network.subnetwork_at(self.utilizations[0])
        with torch.no_grad():
            seen_NC = torch.cat([top_log_probabilities(self.network(x, smallest)) for x, _ in loader.evaluate()])
        unchanged = Preprocessing(mean=(0.0,) * seen_NC.shape[1], std=(1.0,) * seen_NC.shape[1], scale=1.0)
        return batches(
            seen_NC.cpu().numpy(),
            labels_N,
            size=self._batch_size,
            device=self.source.device,
            preprocessing=unchanged,
        )

    @property
    def _batch_size(self) -> int:
        return min(BATCH, max(2, len(self.learning) // 4))


@torch.no_grad()
def correct(network: AnytimeNetwork, loader: Batches, utilizations: Sequence[float]) -> Tensor:
    """Whether a network is correct for each example at each utilization, (N, A), in the order of the loader."""
    parts = [
        torch.stack([network.forward_unfolded(x, network.subnetwork_at(u)).argmax(1) == y for u in utilizations], dim=1)
        for x, y in loader.evaluate()
    ]
    return torch.cat(parts)
