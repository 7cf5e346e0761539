"""The settings of a search: one frozen dataclass behind Python's ``nas.search``, the command line and the store."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from nas.errors import UserError

NOT_COMPARED = ("train", "hours", "generations", "workers", "optuna")
"""Limits, and what does not change results: a study may be continued with others."""

_TEXT = (
    "study",
    "data",
    "strategy",
    "proxy",
    "evaluator",
    "rule",
    "device",
    "layout",
    "hierarchy",
    "augment",
    "precision",
    "optuna",
)
_WHOLE = (  # with the largest that is no slip of the keyboard
    *(("points", 32), ("workers", 1_000), ("threads", 1_000), ("seeds", 1_000), ("pool", 10_000_000)),
    *((name, 100_000) for name in ("generation", "finalists", "epochs", "final_epochs", "batch_size")),
    *((name, 2**63 - 1) for name in ("train", "generations", "images")),
)
_POSITIVE = ("max_macs", "max_params", "max_latency_ms", "low", "hours", "validation", "learning_rate")


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a study searches, on what, how long. Names are those of the command line's options.

    study: its name in the store. spaces: names or ``file.py:Name``. data: a data specification.
    max_macs, max_params: limits on the largest operating point. low: the budget, in MACs, from which on a network must
        answer: the lower end of the anytime accuracy; None takes the median cheapest point of random proposals.
    max_latency_ms: limit on the measured latency of every operating point, for one example on the device of the
        training; kept by the final search.
    points: operating points per network. strategy, proxy, evaluator: plug-ins.
    rule: training rule with its settings, such as "sandwich:sampled=2,soft=true", in place of the space's own;
        what a space says of the same rule stands where nothing else is given.
    pool: proposals screened per generation. generation: candidates trained per generation. train, generations, hours:
        limits, whichever ends first.
    epochs: of partial training, over at most ``images`` training images. finalists: how many are trained in full, for
        ``final_epochs`` over all training images, ``seeds`` times each. None: see :meth:`resolved`.
    final_search: subnetworks measured to choose the operating points of each finalist, 0 for those proposed; None: 192
        where the training rule samples subnetworks, or a latency limit must be kept.
    seed: of everything random. device, threads: of one training; workers: trainings side by side.
    hierarchy: JSON file with the coarse label of every class, by number or name: small points answer in coarse labels,
        large ones in fine; None: that of the data, if they have one.
    layout, validation, batch_size, learning_rate, augment, precision: see ``evaluators.training.evaluator``.
    optuna: URL of an Optuna storage that trained candidates are copied to, for optuna-dashboard.

    Raises UserError on values of other types, and on numbers that make no sense.
    """

    study: str = "search"
    spaces: tuple[str, ...] = ("residual",)
    data: str = "digits"
    max_macs: float | None = None
    max_params: float | None = None
    max_latency_ms: float | None = None
    low: float | None = None
    points: int = 4
    strategy: str = "tpe"
    proxy: str = "dtmc"
    evaluator: str = "training"
    rule: str | None = None
    pool: int = 500
    generation: int = 9
    train: int | None = None
    generations: int | None = None
    hours: float | None = None
    epochs: int | None = None
    images: int = 10_000
    finalists: int = 4
    final_epochs: int | None = None
    final_search: int | None = None
    seeds: int = 1
    seed: int = 0
    device: str = "auto"
    threads: int = 1
    workers: int | None = None
    layout: str | None = None
    hierarchy: str | None = None
    validation: float | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    augment: str = "auto"
    precision: str = "auto"
    optuna: str | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.spaces, tuple) and all(isinstance(name, str) for name in self.spaces)):
            raise UserError(f"Spaces must be names or file.py:Name. Got {self.spaces!r}.")
        if not self.spaces:
            raise UserError("A search must have at least one space. Name one with --space.")
        if len(set(self.spaces)) != len(self.spaces):
            raise UserError(f"Each space must be named once. Got {', '.join(self.spaces)}.")
        optional = {f.name for f in fields(self) if f.default is None}
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        given = {name: value for name, value in given.items() if value is not None or name not in optional}
        for name in _TEXT:
            if name in given and not (isinstance(given[name], str) and given[name]):
                raise UserError(f"{_option(name)} must be text that is not empty. Got {given[name]!r}.")
        for name, most in _WHOLE:
            if name in given:
                _check_whole(name, given[name], least=1, most=most)
        _check_whole("seed", self.seed, least=0, most=2**63 - 1)
        if self.final_search is not None:
            _check_whole("final_search", self.final_search, least=0, most=1_000_000)
        if self.max_latency_ms is not None and self.final_search == 0:
            raise UserError("--max-latency-ms is kept by the final search: leave --final-search 0 out.")
        for name in _POSITIVE:
            if name in given and not (_is_number(value := given[name]) and 0 < value < math.inf):
                raise UserError(f"{_option(name)} must be a positive, finite number. Got {value!r}.")
        if self.low is not None and self.max_macs is not None and self.low >= self.max_macs:
            raise UserError(f"--low must be below --max-macs. Got {self.low:g} and {self.max_macs:g}.")

    def stored(self) -> dict[str, Any]:
        """As plain data for the store; names that begin with _ may differ when the study is continued."""
        data = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "study"}
        return {f"_{name}" if name in NOT_COMPARED else name: value for name, value in data.items()}

    @staticmethod
    def from_stored(study: str, data: dict[str, Any]) -> Config:
        """The settings that ``stored`` wrote. Raises UserError for those of another version."""
        names = {f.name for f in fields(Config)}
        given = {name.removeprefix("_"): value for name, value in data.items() if name != "data_fingerprint"}
        if unknown := given.keys() - names:
            raise UserError(
                f"Study {study!r} has settings that this version does not know: {', '.join(sorted(unknown))}."
            )
        return Config(study=study, **{**given, "spaces": tuple(given["spaces"])})

    def evaluator_settings(self) -> dict[str, Any]:
        """What the evaluator is made with, beside the data."""
        names = (
            "device",
            "threads",
            "layout",
            "hierarchy",
            "validation",
            "batch_size",
            "learning_rate",
            "augment",
            "precision",
        )
        return {name: getattr(self, name) for name in names}

    def resolved(self, train_images: int) -> Config:
        """With epochs for data of this size: small data need more of them; full training twice as many, at least 20.

        Raises UserError where full training would be less than partial training: it could not be what is shown.
        """
        epochs = self.epochs or min(21, max(9, 90_000 // min(self.images, train_images)))
        full = self.final_epochs or max(20, 2 * epochs)
        share = min(1.0, self.images / train_images)
        if full <= epochs * share:
            raise UserError(
                f"Full training must be more than partial training, which is {epochs} epochs over {self.images:,} "
                f"images: {epochs * share:g} passes over all. Got --final-epochs {full}."
            )
        return replace(self, epochs=epochs, final_epochs=full)

    @property
    def full_epochs(self) -> int:
        """Epochs of full training, resolved."""
        assert self.final_epochs is not None, "resolve the settings first"
        return self.final_epochs

    def rungs(self) -> tuple[int, ...]:
        """Epochs after which candidates are compared and all but the best third stop; the last is the whole schedule.

        >>> Config(epochs=9).rungs(), Config(epochs=2).rungs()
        ((1, 3, 9), (1, 2))
        """
        assert self.epochs is not None, "resolve the settings first"
        return tuple(sorted({math.ceil(self.epochs / 9), math.ceil(self.epochs / 3), self.epochs}))


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_whole(name: str, value: Any, *, least: int, most: int) -> None:
    if not (_is_number(value) and isinstance(value, int) and least <= value <= most):
        raise UserError(f"{_option(name)} must be a whole number from {least:,} to {most:,}. Got {value!r}.")
