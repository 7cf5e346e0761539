"""Recipes: how the optimiser changes the weights, apart from the training rule, which yields the losses.

A recipe is named as ``--recipe NAME`` or ``--recipe NAME:setting=value,…``. The presets of the four papers also name
the training rule that belongs to them; ``--rule`` replaces it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from nas.config.named import parse_named
from nas.errors import UserError, unknown_name

OPTIMISERS = ("sgd", "adamw")
SCHEDULES = ("cosine", "linear", "step", "constant")
STEPS = (0.5, 0.75)
"""Shares of the training after which the schedule "step" divides the rate by ten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Settings of the optimiser and of the learning rate.

    Parameters
    ----------
    optimiser
        "sgd", with momentum, or "adamw".
    momentum
        Of SGD; of the mean of gradients in AdamW.
    nesterov
        Nesterov's momentum, of SGD.
    schedule
        Of the learning rate, after the warm-up: "cosine" or "linear" to zero, "step": divided by ten after half and
        after three quarters of the training, or "constant".
    warm_up
        Share of the training with a growing learning rate, in place of the beginning of the schedule.
    weight_decay
        Decay of weights.
    decay_all
        Decay all parameters; otherwise the weights of operations alone, without biases and norms.
    clip
        Largest norm of the gradient of a module; larger ones are scaled down to it. 0: no limit.
    best
        Keep the network of the epoch with the highest mean accuracy over the operating points, on validation images.
        Otherwise the last one.
    learning_rate
        Peak of the learning rate; None: by batch size and network.
    batch_size
        Images per step; None: by the number of training images.
    rule
        The training rule, if none is given and the recipe is a paper's; None: the rule of the space.

    Raises
    ------
    UserError
        A setting is out of range.
    """

    optimiser: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = True
    schedule: str = "cosine"
    warm_up: float = 0.05
    weight_decay: float = 5e-4
    decay_all: bool = False
    clip: float = 5.0
    best: bool = False
    learning_rate: float | None = None
    batch_size: int | None = None
    rule: str | None = None

    def __post_init__(self) -> None:
        if self.optimiser not in OPTIMISERS:
            raise UserError(unknown_name("optimiser", str(self.optimiser), OPTIMISERS))
        if self.schedule not in SCHEDULES:
            raise UserError(unknown_name("schedule", str(self.schedule), SCHEDULES))
        for name in ("momentum", "warm_up"):
            value = getattr(self, name)
            if not (_is_number(value) and 0 <= value < 1):
                raise UserError(f"{name} must be from 0 to below 1. Got {value!r}.")
        for name in ("weight_decay", "clip"):
            value = getattr(self, name)
            if not (_is_number(value) and 0 <= value < math.inf):
                raise UserError(f"{name} must be at least 0. Got {value!r}.")
        for name in ("nesterov", "decay_all", "best"):
            if not isinstance(getattr(self, name), bool):
                raise UserError(f"{name} must be true or false. Got {getattr(self, name)!r}.")
        rate, size = self.learning_rate, self.batch_size
        if rate is not None and not (_is_number(rate) and 0 < rate < math.inf):
            raise UserError(f"learning_rate must be positive and finite. Got {rate!r}.")
        if size is not None and (type(size) is not int or size < 2):
            raise UserError(f"batch_size must be at least 2, for batch norm. Got {size!r}.")
        if self.nesterov and not self.momentum and self.optimiser == "sgd":
            raise UserError("nesterov=true needs momentum. Got momentum=0: set nesterov=false.")

    def factor(self, progress: float) -> float:
        """Factor of the learning rate after a share of the training.

        Parameters
        ----------
        progress
            Share of the training's steps, in [0, 1].

        Returns
        -------
        float

        Examples
        --------
        >>> [round(Recipe().factor(p), 3) for p in (0.0, 0.025, 0.05, 0.525, 1.0)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
        >>> [Recipe(schedule="step", warm_up=0.0).factor(p) for p in (0.0, 0.5, 0.8)]
        [1.0, 0.1, 0.01]
        """
        if progress < self.warm_up:
            return progress / self.warm_up
        passed = (progress - self.warm_up) / (1 - self.warm_up)
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * passed))
        if self.schedule == "linear":
            return 1 - passed
        return float(10.0 ** -sum(progress >= step for step in STEPS)) if self.schedule == "step" else 1.0

    def settings(self) -> dict[str, Any]:
        """All settings but the rule, as plain data.

        Returns
        -------
        dict
        """
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "rule"}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


DEFAULT_RECIPE = "default"
RECIPES = {
    DEFAULT_RECIPE: Recipe(),
    "tips": Recipe(
        warm_up=1 / 16,
        weight_decay=1e-4,
        clip=0.0,
        learning_rate=0.04,
        batch_size=64,
        rule="sandwich:sampled=2,soft=true,ema=0.997,ensemble=true,smoothing=0.1,zero_init=true",
    ),
    "i_resnext": Recipe(
        nesterov=False,
        schedule="step",
        warm_up=0.0,
        weight_decay=1e-4,
        decay_all=True,
        clip=0.0,
        learning_rate=0.1,
        batch_size=64,
        rule="joint",
    ),
    "tnn": Recipe(
        nesterov=False,
        schedule="step",
        warm_up=0.0,
        decay_all=True,
        clip=0.0,
        learning_rate=0.1,
        batch_size=128,
        rule="random_utilization",
    ),
    "us_net": Recipe(
        schedule="linear",
        warm_up=0.0,
        weight_decay=1e-4,
        clip=0.0,
        learning_rate=0.125,
        batch_size=64,
        rule="sandwich:sampled=2,soft=true",
    ),
}
"""The recipes by name.

tips, i_resnext and us_net are from the released codes of Li et al. (ICML 2023), Lee & Shin (arXiv 1807.02609) and Yu &
Huang (ICCV 2019); US-Net's rate of 0.5 for 1,024 images is scaled by the square root of the batch size. Of tnn, only
the rule is from the code of Liu et al. (arXiv 2011.02836); the rest is the usual recipe for CIFAR.
"""


def parse_recipe(text: str) -> Recipe:
    """The recipe that a text describes.

    Parameters
    ----------
    text
        A name in :data:`RECIPES`, then ``:`` and settings as ``name=value``, separated by commas.

    Returns
    -------
    Recipe

    Raises
    ------
    UserError
        For an unknown recipe or setting, or a value out of range.

    Notes
    -----
    With another optimiser the learning rate of a preset does not apply.

    Examples
    --------
    >>> parse_recipe("tips:best=true").best, parse_recipe("default").schedule
    (True, 'cosine')
    """
    name, changes = parse_named(text, "recipe", "tips:schedule=step,momentum=0.8")
    if name not in RECIPES:
        raise UserError(unknown_name("recipe", name, RECIPES))
    valid = RECIPES[name].settings()
    for key in changes:
        if key not in valid:
            raise UserError(unknown_name("setting of a recipe", key, valid))
    recipe = RECIPES[name]
    if changes.get("optimiser", recipe.optimiser) != recipe.optimiser:
        recipe = replace(recipe, learning_rate=None)  # it is the rate of the other optimiser
        if "nesterov" in changes:
            raise UserError("nesterov is a setting of SGD. Got it with AdamW: leave it out.")
    return replace(recipe, **changes)
