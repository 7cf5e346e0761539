"""Controllers as contextual bandits.

The controlled network is frozen, so the reward of every choice is known: r(a) = 1[correct at utilization a] −
λ · MACs(a) / MACs(1), with the MACs of the controller and all passes. The policy π of a controller maximises the
expected reward Σ_a π(a) r(a) over all choices. The variant REINFORCE samples one choice for each image, with the mean
reward as baseline. In deployment the most probable choice is taken.

From the paper: a controller trained after the network, as a contextual bandit. The reward, the expectation over all
choices, and a controller that sees logits are ours.

References
----------
Liu, Parajuli, Hostetler, Chai & Bhanu, Dynamically Throttleable Neural Networks (TNN), arXiv 2011.02836.
Williams, Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning, 1992 (REINFORCE).
"""

from __future__ import annotations

import torch
from torch import Tensor

from evaluators.data.batches import Batches
from nas.evaluation.controllers import ControllerSettings
from nas.execution.network import AnytimeNetwork

LEARNING_RATE, WEIGHT_DECAY = 1e-2, 1e-3


def train_policy(
    learner: AnytimeNetwork,
    inputs: Batches,
    reward_NA: Tensor,
    settings: ControllerSettings,
    generator: torch.Generator,
) -> None:
    """Train a network over choices to maximise the reward.

    Parameters
    ----------
    learner
        Its classes are the A choices.
    inputs
        Their labels are rows of the rewards.
    reward_NA
        Reward of each choice.
    settings
        Epochs and learner.
    generator
        Of the order of inputs, and of sampled choices.
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
    """The negative expected reward, or the estimate of REINFORCE, which has the same expected gradient.

    learner: "expected" or "reinforce"; REINFORCE samples one choice for each example, with the mean reward of the other
    examples in the batch as baseline.
    """
    if learner == "expected":
        return -(log_policy_NA.exp() * reward_NA).sum(1).mean()
    with torch.no_grad():
        drawn_N1 = torch.multinomial(log_policy_NA.exp().cpu(), 1, generator=generator).to(log_policy_NA.device)
        reward_N = reward_NA.gather(1, drawn_N1).squeeze(1)
        baseline_N = (reward_N.sum() - reward_N) / max(1, len(reward_N) - 1)
    return -((reward_N - baseline_N) * log_policy_NA.gather(1, drawn_N1).squeeze(1)).mean()
