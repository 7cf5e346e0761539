"""Training controllers of a frozen network as contextual bandits, and measuring what they reach; for gate policies, see
:mod:`evaluators.controllers.gate_policies`.

The data path and its norms stay as they are, so the reward of every choice can be looked up: r(a) = 1[right at
utilization a] − λ · MACs(a) / MACs(1), with the MACs of all that runs. A controller's policy π maximises the expected
reward Σ_a π(a) r(a) over all choices; as a variant, REINFORCE tries one choice for each image, with the mean reward as
baseline. Deployed, it takes the likeliest choice.

From the paper: a controller trained after the data path, as a contextual bandit. Ours: the reward, the expectation over
all choices, to see an answer, and that controllers learn from validation images, half of them (to the data path,
training images look easier than new ones do); the other half tells how good they are.

References
----------
Liu, Parajuli, Hostetler, Chai & Bhanu, Dynamically Throttleable Neural Networks (TNN), arXiv 2011.02836.
Williams, Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning, 1992 (REINFORCE).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluators.controllers.gate_policies import measure_gates, train_gates
from evaluators.data.batches import Batches, batches
from evaluators.data.source import ImageSource
from evaluators.data.splitting import split
from nas.evaluation.controllers import ControllerResult, ControlSettings
from nas.execution.controller import Controller, top_log_probabilities
from nas.execution.controller_architectures import actions, controller_architecture, gate_policy_architecture
from nas.execution.gate_policy import GatePolicy
from nas.execution.network import AnytimeNetwork
from nas.execution.preprocessing import Preprocessing
from nas.seeds import seed as derived_seed

BATCH = 128
LEARNING_RATE, WEIGHT_DECAY = 1e-2, 1e-3


def control(
    source: ImageSource,
    network: AnytimeNetwork,
    settings: ControlSettings,
    *,
    seed: int,
    report: Callable[[int, int], None],
) -> ControllerResult:
    """A controller, or a gate policy, for every penalty, measured beside the fixed utilizations.

    The network goes to the images' device and into evaluation mode, and is otherwise left as it is.
    """
    lessons = _Lessons(source, network.to(source.device).eval())
    train = lessons.gate_policy if settings.learner == "gates" else lessons.bandit
    controllers: list[Any] = []
    policies: list[dict[str, Any]] = []
    for done, penalty in enumerate(settings.penalties):
        report(done, len(settings.penalties))
        generator = torch.Generator().manual_seed(derived_seed(seed, "controller", repr(penalty)))
        controller, rows = train(penalty, settings, generator)
        controllers.append(controller)
        about = {"penalty": penalty, "learner": settings.learner, "controller_macs": controller.macs}
        about["sees"] = settings.seen
        policies += [about | row for row in rows]
    return ControllerResult(controllers=controllers, policies=policies, fixed=lessons.fixed())


class _Lessons:
    """What controllers of a network learn from and are measured on.

    choices: the utilizations that there are to pick from, A of them. learning: rows of the training images. loaders:
    of the images that tell how good they are, validation ("") and test ("test_"). right: whether the network is right
    about each of those at each choice, (N, A).
    """

    def __init__(self, source: ImageSource, network: AnytimeNetwork):
        self.source, self.network, self.choices = source, network, actions(network.architecture)
        data, validation = source.dataset, source.validation_rows
        self.learning, held = (validation[part] for part in split(data.y_train[validation], fraction=0.5, seed=0))
        self.loaders = {
            "": source.validation(held),
            "test_": source.test(),
        }
        self.right = {part: correct(network, loader, self.choices) for part, loader in self.loaders.items()}
        self.macs_A = torch.tensor([float(network.macs_at(u)) for u in self.choices], dtype=torch.float64)

    @cached_property
    def learned_NA(self) -> Tensor:
        """Whether the network is right about the images to learn from at each choice."""
        return correct(self.network, self.source.validation(self.learning), self.choices)

    def fixed(self) -> list[dict[str, Any]]:
        """What each choice costs and reaches, taken for every input."""
        rows = []
        for a, u in enumerate(self.choices):
            reached = {f"{part}accuracy": float(found[:, a].double().mean()) for part, found in self.right.items()}
            rows.append({"utilization": u, "macs": int(self.macs_A[a])} | reached)
        return rows

    def bandit(
        self, penalty: float, settings: ControlSettings, generator: torch.Generator
    ) -> tuple[Controller, list[dict[str, Any]]]:
        """A controller, and the row of what it reaches."""
        task, sees, device = self.network.architecture.task, settings.seen, self.source.device
        shape = controller_architecture(task, len(self.choices), sees=sees, width=settings.width)
        controller = Controller(AnytimeNetwork(shape, generator=generator).to(device), self.choices, sees=sees)
        costs_A = torch.tensor(controller.costs(self.network), dtype=torch.float64, device=device)
        numbers = np.arange(len(self.learning))  # which one it is, in place of its label
        seen = self._images(numbers) if sees == "input" else self._answers(numbers)
        reward_NA = self.learned_NA.float() - penalty * (costs_A / self.network.macs_at(1.0)).float()
        train_policy(controller.network, seen, reward_NA, settings, generator)
        controller.network.eval()
        row = {"utilization": 1.0}
        for part, loader in self.loaders.items():
            choice_N = torch.cat([controller.choices(self.network, x) for x, _ in loader.evaluate()])
            row[f"{part}accuracy"] = float(self.right[part].gather(1, choice_N[:, None]).double().mean())
            row[f"{part}macs"] = float(costs_A[choice_N].mean())
        return controller, [row]

    def gate_policy(
        self, penalty: float, settings: ControlSettings, generator: torch.Generator
    ) -> tuple[GatePolicy, list[dict[str, Any]]]:
        """A gate policy, and a row for each utilization that it is asked for."""
        architecture = self.network.architecture
        shape = gate_policy_architecture(architecture, width=settings.width)
        made = AnytimeNetwork(shape, generator=generator).to(self.source.device)
        policy = GatePolicy.for_modules(made, architecture.topology.gated)
        images = self._images(self.source.dataset.y_train[self.learning])
        train_gates(policy, self.network, images, penalty, settings, generator)
        made.eval()
        rows = [
            {"utilization": u} | measure_gates(policy.with_utilization(u), self.network, self.loaders)
            for u in self.choices
        ]
        return policy, rows

    def _images(self, labels_N: np.ndarray) -> Batches:
        """What there is to learn from, in batches, with these labels."""
        images = self.source.dataset.x_train[self.learning]
        return self.source.batches(images, labels_N, size=self._batch_size, augmented=True)

    def _answers(self, labels_N: np.ndarray) -> Batches:
        """What a controller sees of the network's first answers to the same, as they are, with these labels."""
        loader = self.source.validation(self.learning)
        smallest = self.network.subnetwork_at(self.choices[0])
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
    """Whether the network is right about each example at each utilization, (N, A), in the order of the loader."""
    found = [
        torch.stack([network.forward_unfolded(x, network.subnetwork_at(u)).argmax(1) == y for u in utilizations], dim=1)
        for x, y in loader.evaluate()
    ]
    return torch.cat(found)


def train_policy(
    learner: AnytimeNetwork, inputs: Batches, reward_NA: Tensor, settings: ControlSettings, generator: torch.Generator
) -> None:
    """Train a network whose classes are choices to reach a high reward.

    inputs: its labels are rows of the rewards, (N, A).
    """
    optimiser = torch.optim.AdamW(learner.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.epochs * inputs.steps)
    learner.train()
    for _ in range(settings.epochs):
        for x, rows in inputs.train(generator):
            log_policy_NA = learner(x).log_softmax(1)
            loss = policy_loss(log_policy_NA, reward_NA[rows], settings.learner, generator)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            decay.step()


def policy_loss(log_policy_NA: Tensor, reward_NA: Tensor, learner: str, generator: torch.Generator) -> Tensor:
    """What a learner minimises: the negative expected reward, or REINFORCE's estimate that has its gradient.

    learner: "expected" or "reinforce", which draws one choice for each example and takes the mean reward of the others
    in the batch as baseline.
    """
    if learner == "expected":
        return -(log_policy_NA.exp() * reward_NA).sum(1).mean()
    with torch.no_grad():
        drawn_N1 = torch.multinomial(log_policy_NA.exp().cpu(), 1, generator=generator).to(log_policy_NA.device)
        got_N = reward_NA.gather(1, drawn_N1).squeeze(1)
        baseline_N = (got_N.sum() - got_N) / max(1, len(got_N) - 1)
    return -((got_N - baseline_N) * log_policy_NA.gather(1, drawn_N1).squeeze(1)).mean()
