"""The settings of a search, each defined once: type, default, help, limits, and whether it may change on resuming.

The command line, the signatures of :func:`nas.search` and :func:`nas.resume`, the TOML file and the documentation are
made from the fields of :class:`Config`; see :mod:`nas.config.description`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from typing import Any

from nas.config.description import check_settings, option, setting
from nas.config.recipes import DEFAULT_RECIPE, RECIPES, parse_recipe
from nas.errors import UserError
from results.measures import METRICS

SAMPLING = ("all", "balanced")
"""How the training images of an epoch are chosen."""
DEFAULT_FINALISTS = 2
MOST_PASSES = 200
"""Longest full training, in passes over the training images, if only the time limits it."""
PARTIAL_IMAGES, FEWEST_PARTIAL_IMAGES = 10_000, 2_000
"""Images of an epoch of partial training: by default, and least in a short search."""
LONG_HOURS = 1 / 3
"""Hours of a search from which on there are so many."""
SCHEDULERS = ("asha", "median", "hyperband")
"""Schedulers of Ray Tune, which stop trainings early in an asynchronous search; the first is the default."""
CLIENT = "ray://"
"""The beginning of addresses of clusters that the search does not run on."""
RAY_ADDRESS = re.compile(r"auto|local|(ray://)?(\[[0-9a-fA-F:]+\]|[^\s:/]+):\d+")
"""Addresses of Ray clusters; local: a new one on this machine, also inside a Ray job."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings of one run of a study: limits, and settings that do not change results. Resuming may change them."""

    train: int | None = setting(None, "Limit: candidates to train in total.", default="36 if there is no other limit")
    generations: int | None = setting(None, "Limit: generations.")
    hours: float | None = setting(None, "Limit: wall-clock hours, including the full training of the finalists.")
    workers: int | None = setting(
        None, "Trainings that run in parallel.", default="GPUs, or cores / threads", most=1_000
    )
    trial_timeout: float | None = setting(
        None,
        "Seconds without a completed epoch after which a training counts as hung.",
        default="20 × the slowest epoch per MAC of the study, at least 10 minutes",
    )
    files: str | None = setting(
        None,
        "Folder or URL (s3://, gs://, …) of checkpoints, trained networks and logs, with a folder for each study.",
        default="beside the store",
    )
    optuna: str | None = setting(
        None, "URL of an Optuna storage to which trained candidates are copied, for optuna-dashboard."
    )
    ray: bool | str = setting(
        False, "Train on Ray: on this machine, or on the cluster of the Ray job that runs the search.", default="no"
    )
    cpus_per_trial: float | None = setting(None, "On Ray: CPUs that a training reserves.", default="threads")
    gpus_per_trial: float | None = setting(
        None, "On Ray: GPUs that a training reserves, such as 0.25.", default="1 if the device is a GPU"
    )
    resources: tuple[str, ...] = setting(
        (), "On Ray: a custom resource that a training reserves, as NAME=AMOUNT; may be repeated.", default="none"
    )

    def __post_init__(self) -> None:
        check_settings(self)
        self.custom_resources()
        if isinstance(self.ray, str) and not RAY_ADDRESS.fullmatch(self.ray):
            raise UserError(f"--ray-address must be auto, HOST:PORT or ray://HOST:PORT. Got {self.ray!r}.")
        if not self.ray:
            for name in ("cpus_per_trial", "gpus_per_trial", "resources"):
                if getattr(self, name):
                    raise UserError(f"{option(name)} needs --ray: without Ray nothing is reserved. Add it.")

    def custom_resources(self) -> dict[str, float]:
        """Amounts of the custom resources by name."""
        amounts = {}
        for text in self.resources:
            name, _, amount = text.partition("=")
            if not (name and re.fullmatch(r"\d*\.?\d+", amount) and float(amount) > 0):
                raise UserError(f"--resource must be NAME=AMOUNT with a positive amount. Got {text!r}.")
            if name in ("CPU", "GPU", "memory", "object_store_memory"):
                raise UserError(
                    f"--resource must be a custom resource of the cluster. Got {text!r}: CPUs and GPUs are reserved by "
                    "--cpus-per-trial and --gpus-per-trial."
                )
            amounts[name] = float(amount)
        named = {"--cpus-per-trial": self.cpus_per_trial, "--gpus-per-trial": self.gpus_per_trial, **amounts}
        for name, value in named.items():
            if value and (value < 1e-4 or round(value, 4) != value):
                raise UserError(f"Ray reserves amounts of at most four decimals. Got {value} of {name}.")
        if self.gpus_per_trial and self.gpus_per_trial > 1 and not float(self.gpus_per_trial).is_integer():
            raise UserError(f"--gpus-per-trial above 1 must be whole. Got {self.gpus_per_trial:g}.")
        return amounts


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Settings of each training, apart from its length."""

    rule: str | None = setting(
        None,
        "Training rule with its settings, such as joint or sandwich:sampled=2,soft=true.",
        default="the rule of the recipe, or of the network",
    )
    recipe: str | None = setting(
        None,
        f"Optimiser and schedule: {', '.join(RECIPES)}, with settings such as default:optimiser=adamw,best=true.",
        default="default",
    )
    device: str = setting("auto", "Device of the training: auto, cpu, cuda, …")
    threads: int | None = setting(
        None,
        "Threads of one training.",
        default="the cores, shared by the trainings of a rung; on Ray 1",
        most=1_000,
    )
    layout: str | None = setting(None, "Axes of the images, if their shape is ambiguous.")
    hierarchy: str | None = setting(
        None,
        "JSON file from class to coarse label: small points answer in coarse labels, large ones in fine.",
        default="the hierarchy of the data",
    )
    validation: float | None = setting(
        None,
        "Share of the training images that choices are made on.",
        default="0.15, small data up to 0.3",
    )
    metric: str | None = setting(
        None,
        f"Metric that is compared and shown as accuracy: {', '.join(METRICS)}.",
        default="accuracy",
        valid=tuple(METRICS),
    )
    sampling: str | None = setting(
        None,
        "Training images of an epoch: all, each once; or balanced, equally many of each class.",
        default="all",
        valid=SAMPLING,
    )
    batch_size: int | None = setting(
        None,
        "Images per training step.",
        default="of the recipe, or by the number of images",
        most=100_000,
    )
    learning_rate: float | None = setting(None, "Peak learning rate.", default="of the recipe, or by the batch size")
    augment: str = setting(
        "auto",
        "Augmentation: auto (see `--dry-run`), none, or crop, flip, resized, jitter, randaugment, mixup and cutmix, "
        "joined by +.",
    )
    precision: str = setting("auto", "Precision of the training: auto (bfloat16 on a GPU), float32 or bfloat16.")

    def __post_init__(self) -> None:
        check_settings(self)
        parse_recipe(self.recipe or DEFAULT_RECIPE)

    @property
    def training_rule(self) -> str | None:
        """The training rule of all networks: as given, or the recipe's; None: the rule of each space."""
        return self.rule or parse_recipe(self.recipe or DEFAULT_RECIPE).rule


OF_EVALUATOR = tuple(each.name for each in fields(TrainingSettings) if each.name != "rule")
"""The settings of a training that the evaluator receives; the rule belongs to the architecture."""


@dataclass(frozen=True, kw_only=True)
class StudySettings(TrainingSettings, RunSettings):
    """Settings that determine the results of a study: a study with other values is another study."""

    max_macs: float | None = setting(None, "Upper limit on the multiply-accumulates of the largest operating point.")
    max_params: float | None = setting(None, "Upper limit on the parameters of the largest operating point.")
    max_latency_ms: float | None = setting(
        None,
        "Upper limit on the milliseconds of each operating point, for one example; the final search measures them.",
    )
    low: float | None = setting(
        None,
        "Lowest budget in MACs at which a network must answer.",
        default="the smallest points of small references of the spaces",
    )
    points: int = setting(4, "Operating points per network.", most=32)
    strategy: str = setting(
        "guided", "Strategy that proposes candidates: guided, tpe, nsga2, evolution, random or a plug-in."
    )
    proxy: str = setting("dtmc", "Proxy that orders the training.")
    evaluator: str = setting(
        "training", "Evaluator that trains and measures candidates: training, tabular:FILE or a plug-in."
    )
    pool: int = setting(500, "Proposals screened per generation.", most=10_000_000)
    generation: int = setting(
        9, "Candidates trained per generation; in an asynchronous search, per pool of proposals.", most=100_000
    )
    references: bool | None = setting(
        None, "Train the reference architectures of the spaces first, see `nas references`.", default="yes"
    )
    enqueue: tuple[str, ...] | None = setting(
        None,
        'Choices of a candidate to train first, as JSON, such as \'{"space": "residual", "width": 24}\'; '
        "the others are drawn. May be repeated.",
        default="none",
    )
    asynchronous: bool | None = setting(
        None, "On Ray: train the next candidate as soon as a slot is free, without generations.", default="no"
    )
    scheduler: str | None = setting(
        None,
        "Of an asynchronous search: what stops trainings early: asha, median or hyperband.",
        default="asha",
        valid=SCHEDULERS,
    )
    epochs: int | None = setting(None, "Epochs of partial training.", default="9, small data 21", most=100_000)
    images: int | None = setting(
        None,
        "Training images of an epoch of partial training.",
        default=f"{PARTIAL_IMAGES:,}, with --hours below 0.33 fewer in proportion",
    )
    finalists: int | None = setting(
        None,
        "Candidates trained in full at the end, at most: another one must add to the front.",
        default="2, none if trainings are free",
        most=100_000,
    )
    final_epochs: int | None = setting(
        None,
        "Upper limit on the epochs of full training.",
        default="20, small data 42; with --hours, as many as there is time for",
        most=100_000,
    )
    final_search: int | None = setting(
        None,
        "Subnetworks measured to choose the operating points of each finalist; 0 keeps the proposed points.",
        default="192 if the rule samples subnetworks or latency is limited",
        least=0,
        most=1_000_000,
    )
    seeds: int = setting(1, "Repeats of full training, for error bars.", most=1_000)
    seed: int = setting(0, "Seed of all random numbers.", least=0)
    warm_start: str | None = setting(
        None, "Start from the trained candidates of this study in the store: they inform the strategy."
    )

    def __post_init__(self) -> None:
        TrainingSettings.__post_init__(self)
        RunSettings.__post_init__(self)
        if self.asynchronous and not self.ray:
            raise UserError("--async needs --ray: Ray Tune stops the trainings. Add it.")
        if self.asynchronous and str(self.ray).startswith(CLIENT):
            raise not_on_a_node(str(self.ray))
        if self.scheduler is not None and not self.asynchronous:
            raise UserError(f"--scheduler needs --async: generations stop trainings by rank. Got {self.scheduler!r}.")
        if self.scheduler == "hyperband" and self.workers is not None:
            raise UserError(
                f"--scheduler hyperband trains on all slots of the cluster. Got --workers {self.workers}: leave it "
                "out, or use --scheduler asha or median."
            )
        if self.max_latency_ms is not None and self.final_search == 0:
            raise UserError("--max-latency-ms needs the final search. Got --final-search 0: leave it out.")
        if self.low is not None and self.max_macs is not None and self.low >= self.max_macs:
            raise UserError(f"--low must be below --max-macs. Got {self.low:g} and {self.max_macs:g}.")


@dataclass(frozen=True, kw_only=True)
class Config(StudySettings):
    """All settings of a search; names are the options of the command line.

    Raises
    ------
    UserError
        A value has a wrong type or is outside its limits.
    """

    study: str = setting("search", "Name of the study.", default="the name of the data")
    spaces: tuple[str, ...] = setting(
        (),
        "Search space: a name or file.py:Name; may be repeated.",
        default="all installed spaces that suit the data and the settings",
    )
    data: str = setting("digits", "Data specification, see `nas data`.")

    def __post_init__(self) -> None:
        if not (isinstance(self.spaces, tuple) and all(isinstance(name, str) for name in self.spaces)):
            raise UserError(f"Spaces must be names or file.py:Name. Got {self.spaces!r}.")
        if len(set(self.spaces)) != len(self.spaces):
            raise UserError(f"Each space must be named once. Got {', '.join(self.spaces)}.")
        super().__post_init__()

    def stored(self) -> dict[str, Any]:
        """Plain data for the store; names that begin with _ may differ when the study is continued.

        The name of the study and the place of its files have columns of their own.
        """
        data = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in ("study", "files")}
        return {f"_{name}" if name in CHANGEABLE else name: value for name, value in data.items()}

    @staticmethod
    def from_stored(study: str, data: dict[str, Any]) -> Config:
        """Settings as written by :meth:`stored`. Raises UserError for settings of another version."""
        names = {each.name for each in fields(Config)}
        values = {name.removeprefix("_"): value for name, value in data.items() if name not in FACTS}
        if unknown := values.keys() - names:
            raise UserError(f"Study {study!r} has settings unknown to this version: {', '.join(sorted(unknown))}.")
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return Config(study=study, **{**values, **lists})

    def evaluator_settings(self) -> dict[str, Any]:
        """Keyword arguments of the evaluator, beside the data."""
        values = {name: getattr(self, name) for name in OF_EVALUATOR}
        return values | {"threads": self.least_threads}

    @property
    def least_threads(self) -> int:
        """Threads of one training among many."""
        return self.threads or 1

    def resolved(self, train_images: int, *, classes: int = 2, free_epochs: int | None = None) -> Config:
        """Settings without open ones, with epochs for data of this size.

        Small data have more epochs. Short searches have shorter epochs of partial training, so that several candidates
        are compared before the time belongs to the winner.

        Parameters
        ----------
        train_images
            Number of training images.
        classes
            Number of classes.
        free_epochs
            Epochs of full training, if trainings are free: there is no partial training, and no finalist.

        Raises
        ------
        UserError
            Full training would be no longer than partial training, or a setting has no meaning for free trainings.
        """
        if free_epochs is not None:
            return self._resolved_in_full(train_images, free_epochs)
        epochs = self.epochs or min(21, max(9, 90_000 // min(self.images or PARTIAL_IMAGES, train_images)))
        images = self.images or max(classes, _partial_images(self.hours))
        share = min(1.0, images / train_images)
        if self.final_epochs is not None and self.final_epochs <= epochs * share:
            raise UserError(
                f"Full training must be longer than partial training, which is {epochs} epochs over {images:,} "
                f"images: {epochs * share:g} passes over all images. Got --final-epochs {self.final_epochs}."
            )
        waits = not self.asynchronous
        scheduler = None if waits else self.scheduler or SCHEDULERS[0]
        return replace(
            self,
            epochs=epochs,
            images=images,
            finalists=DEFAULT_FINALISTS if self.finalists is None else self.finalists,
            asynchronous=None if waits else True,
            scheduler=scheduler,
        )

    def _resolved_in_full(self, train_images: int, epochs: int) -> Config:
        """Settings of a search without partial training: ``epochs`` epochs on all images."""
        images = max(self.images or PARTIAL_IMAGES, train_images)
        meant = {"epochs": epochs, "final_epochs": epochs, "images": images}
        for name in ("epochs", "final_epochs", "finalists", "images", "asynchronous"):
            value, default = getattr(self, name), getattr(Config, name)
            if value not in (default, False, meant.get(name)):
                raise UserError(
                    f"{option(name)} has no meaning with the evaluator {self.evaluator!r}: its trainings are free, so "
                    f"every candidate is trained in full at once. Got {value}: leave it out."
                )
        return replace(self, epochs=epochs, final_epochs=epochs, images=images, asynchronous=None)

    @property
    def partial_images(self) -> int:
        """Training images of an epoch of partial training, resolved; data may have fewer."""
        assert self.images is not None, "resolve the settings first"
        return self.images

    @property
    def free(self) -> bool:
        """Whether every candidate is trained in full, without finalists; resolved."""
        return self.final_epochs is not None and self.finalists is None

    @property
    def full_epochs(self) -> int:
        """Epochs of full training without a time limit, resolved: by default twice those of partial training."""
        assert self.epochs is not None, "resolve the settings first"
        return self.final_epochs or max(20, 2 * self.epochs)

    @property
    def most_passes(self) -> float:
        """Upper limit on the passes over the training images in full training with a time limit."""
        return self.final_epochs or MOST_PASSES

    def rungs(self) -> tuple[int, ...]:
        """Epochs after which all but the best third of the candidates stop; the last is the whole schedule.

        There is one if trainings are free.

        >>> Config(epochs=9).rungs(), Config(epochs=2).rungs()
        ((1, 3, 9), (1, 2))
        """
        assert self.epochs is not None, "resolve the settings first"
        if self.free:
            return (self.epochs,)
        return tuple(sorted({math.ceil(self.epochs / 9), math.ceil(self.epochs / 3), self.epochs}))


FACTS = (
    "data_fingerprint",
    "_data_parts",
    "_augmentation",
    "_plugins",
    "_built_from",
    "_spaces_left_out",
    "_budgets_from",
)
"""Names among the stored settings that are no settings: facts about the data and their use."""
CHANGEABLE = tuple(each.name for each in fields(RunSettings))
"""Names of the settings that resuming may change."""


def not_on_a_node(address: str) -> UserError:
    """The error of an asynchronous search that runs on no node of its cluster."""
    return UserError(
        f"An asynchronous search runs on a node of its cluster. Got the address {address}: start it there with "
        "--ray-address auto, such as by `ray job submit`, or leave out --async."
    )


def _partial_images(hours: float | None) -> int:
    """The default images of an epoch of partial training."""
    share = 1.0 if hours is None else hours / LONG_HOURS
    return round(min(PARTIAL_IMAGES, max(FEWEST_PARTIAL_IMAGES, share * PARTIAL_IMAGES)))
