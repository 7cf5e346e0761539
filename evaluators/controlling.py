"""Training controllers of a frozen network as contextual bandits, and measuring what they reach.

The data path and its norms stay as they are, so the reward of every choice can be looked up: r(a) = 1[right at
utilization a] − λ · MACs(a) / MACs(1). A controller's policy π maximises the expected reward Σ_a π(a) r(a) over all
choices; as a variant, REINFORCE tries one choice for each image, with the mean reward as baseline. Deployed, it takes
the likeliest choice.

From the paper: a controller trained after the data path, as a contextual bandit. Ours: the reward, the expectation over
all choices, and that controllers learn from validation images, half of them (to the data path, training images look
easier than new ones do); the other half tells how good they are.

References
----------
Liu, Parajuli, Hostetler, Chai & Bhanu, Dynamically Throttleable Neural Networks (TNN), arXiv 2011.02836.
Williams, Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning, 1992 (REINFORCE).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from evaluators.arrays import Batches, batches
from evaluators.augment import augmentation
from evaluators.data import split
from nas.controller import Controller, actions, controller_architecture
from nas.evaluation import Controlled, ControlSettings
from nas.network import AnytimeNetwork
from nas.seeds import seed as derived_seed

if TYPE_CHECKING:
    from evaluators.training import Training

BATCH, EVALUATION_BATCH = 128, 512
LEARNING_RATE, WEIGHT_DECAY = 1e-2, 1e-3


def control(
    trainer: Training,
    network: AnytimeNetwork,
    settings: ControlSettings,
    *,
    seed: int,
    report: Callable[[int, int], None],
) -> Controlled:
    """A controller for every penalty, measured beside the fixed utilizations. The network is left as it is."""
    network = network.to(trainer.device).eval()
    choices = actions(network.architecture)
    cost_A = np.array([network.macs_at(u) for u in choices]) / network.macs_at(1.0)
    validation = trainer.parts[1]
    learning, held = (validation[part] for part in split(trainer.dataset.y_train[validation], fraction=0.5, seed=0))
    right_NA = correct(network, trainer.loader("train", learning, EVALUATION_BATCH), choices)
    inputs = batches(
        trainer.dataset.x_train[learning],
        np.arange(len(learning)),  # which image it is, in place of its label
        size=min(BATCH, max(2, len(learning) // 4)),
        preprocessing=trainer.preprocessing,
        augment=None if trainer.augment == "none" else augmentation(trainer.augment, trainer.dataset.task),
        device=trainer.device,
    )
    measured = {"": trainer.loader("train", held, EVALUATION_BATCH)}
    measured["test_"] = trainer.loader("test", np.arange(len(trainer.dataset.y_test)), EVALUATION_BATCH)
    right = {part: correct(network, loader, choices) for part, loader in measured.items()}
    fixed = [
        {"utilization": u, "macs": network.macs_at(u)}
        | {f"{part}accuracy": float(found[:, a].double().mean()) for part, found in right.items()}
        for a, u in enumerate(choices)
    ]
    controllers, policies = [], []
    for done, penalty in enumerate(settings.penalties):
        report(done, len(settings.penalties))
        generator = torch.Generator().manual_seed(derived_seed(seed, "controller", repr(penalty)))
        task = network.architecture.task
        learner = AnytimeNetwork(
            controller_architecture(task, len(choices), width=settings.width), generator=generator
        ).to(trainer.device)
        reward_NA = right_NA.float() - penalty * torch.from_numpy(cost_A).float().to(trainer.device)
        train_policy(learner, inputs, reward_NA, settings, generator)
        learner.preprocess = network.preprocess
        controllers.append(Controller(learner.eval(), choices))
        policies.append(
            {"penalty": penalty, "learner": settings.learner, "controller_macs": controllers[-1].macs}
            | _measure(controllers[-1], network, measured, right)
        )
    return Controlled(controllers=controllers, policies=policies, fixed=fixed)


@torch.no_grad()
def correct(network: AnytimeNetwork, loader: Batches, utilizations: Sequence[float]) -> Tensor:
    """Whether the network is right about each example at each utilization, (N, A), in the order of the loader."""
    found = [
        torch.stack([network(x, network.at(u)).argmax(1) == y for u in utilizations], dim=1)
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


def _measure(
    controller: Controller, network: AnytimeNetwork, loaders: dict[str, Batches], right: dict[str, Tensor]
) -> dict[str, Any]:
    """Accuracies under a controller, and the mean MACs of an example, those of the controller included."""
    macs_A = torch.tensor([float(network.macs_at(u)) for u in controller.utilizations], dtype=torch.float64)
    found: dict[str, Any] = {}
    for part, loader in loaders.items():
        choice_N = torch.cat([controller(x) for x, _ in loader.evaluate()])
        found[f"{part}accuracy"] = float(right[part].gather(1, choice_N[:, None]).double().mean())
        found[f"{part}macs"] = controller.macs + float(macs_A[choice_N.cpu()].mean())
    return found
