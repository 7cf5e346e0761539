"""The installed evaluator and the example pass the shipped checks, and every check catches its fault."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from nas import testing
from nas.execution.network import AnytimeNetwork
from nas.plugins import installed, load_plugin
from nas.representation.architecture import Architecture

from ..searching import PLUGINS
from .failing import fails

SAMPLE = Path(__file__).resolve().parents[2] / "evaluators" / "tabular" / "sample.csv"
NEEDED = {"tabular": {"file": str(SAMPLE)}}
"""Settings without which an evaluator cannot be made."""
EXAMPLE = f"{Path(__file__).resolve().parents[3]}/examples/own_evaluator.py:Robust"
Toy = load_plugin("nas.evaluators", f"{PLUGINS / 'toy.py'}:Toy")


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, id=f"{name.rpartition('/')[2]}-{check_name}")
        for name in (*installed("nas.evaluators"), EXAMPLE)
        for check_name, check in testing.evaluator_checks(name, **NEEDED.get(name, {}))
    ],
)
def test_installed_evaluators_and_the_example(check):
    check()


class Good(Toy):
    """Learns nothing, and saves networks."""

    def outcome(self, job, state):
        outcome = super().outcome(job, state)
        if outcome.saved:
            Path(job.folder, "network.json").unlink()  # the toy's, of another format
            AnytimeNetwork(Architecture.from_json(job.architecture)).save(job.folder)
        return outcome


class Undocumented(Good):
    __doc__ = None


class NoEvaluator:
    """It has the methods, but not the class."""


class NoMeasures(Good):
    """It declares names."""

    measures = ("accuracy",)


class NoLoss(Good):
    """Its points have no loss."""

    def points(self, job, state):
        return [{name: value for name, value in p.items() if name != "loss"} for p in super().points(job, state)]


class NoTestAccuracy(Good):
    """It does not measure on test images."""

    measures = Good.measures[:2]


class Eager(Good):
    """It opens its data at once."""

    def __init__(self, data, **settings):
        super().__init__(data, **settings)
        if data.startswith("npz:"):
            Path(data.removeprefix("npz:")).read_bytes()


class NoImages(Good):
    """Its data have no test images."""

    def info(self):
        return replace(super().info(), test_images=0)


class Unstable(Good):
    """Its data are new in every object."""

    def info(self):
        return replace(super().info(), fingerprint=str(id(self)) + random.Random().random().hex())


class Forgets(Good):
    """It has other data if they are in memory."""

    def __init__(self, data, **settings):
        super().__init__("nothing", **settings)
        self.shared = data

    def data_in_memory(self):
        return ("images", "labels")

    def info(self):
        return replace(super().info(), fingerprint=str(self.shared))


class Unpicklable(Good):
    """Its data cannot be passed on."""

    def data_in_memory(self):
        return lambda: "images"


class Short(Good):
    """It counts one epoch too few."""

    def outcome(self, job, state):
        return replace(super().outcome(job, state), epochs=job.until - 1)


class Undefined(Good):
    """Its loss is not a number."""

    def points(self, job, state):
        return [point | {"loss": float("nan")} for point in super().points(job, state)]


class Undeclared(Good):
    """It measures more than it declares."""

    def points(self, job, state):
        return [point | {"energy_mj": 1.0} for point in super().points(job, state)]


class Cheap(Good):
    """It reports half the costs."""

    def points(self, job, state):
        return [point | {"macs": point["macs"] // 2} for point in super().points(job, state)]


class Peeks(Good):
    """It always measures on test images."""

    def points(self, job, state):
        return super().points(replace(job, test=True), state)


class AllImages(Good):
    """It ignores the number of images."""

    def outcome(self, job, state):
        return replace(super().outcome(job, state), images=1000)


class Cumulative(Good):
    """It counts the images of all epochs."""

    def outcome(self, job, state):
        outcome = super().outcome(job, state)
        return replace(outcome, images=outcome.images // 2 * job.until)


class Uncounted(Good):
    """It counts no images."""

    def outcome(self, job, state):
        return replace(super().outcome(job, state), images=0)


class Silent(Good):
    """It reports no epochs."""

    def evaluate(self, job, report):
        return super().evaluate(job, lambda epoch: None)


class Unseeded(Good):
    """It draws from a generator without a seed."""

    def points(self, job, state):
        return super().points(job, f"{random.Random().getrandbits(32):08x}")


class Remembers(Good):
    """Later jobs of an object are better."""

    jobs = 0

    def points(self, job, state):
        self.jobs += 1
        return [point | {"accuracy": point["accuracy"] * self.jobs / 9} for point in super().points(job, state)]


class Restarts(Good):
    """It forgets the state when it continues."""

    def write(self, path, known):
        if path.name == self.checkpoint:
            known = known | {"state": "00000000"}
        super().write(path, known)


class SavesEarly(Good):
    """It saves partially trained networks."""

    def outcome(self, job, state):
        return replace(super().outcome(job, state), saved=True)


class SavesAnother(Good):
    """The saved network has one point."""

    def outcome(self, job, state):
        outcome = super().outcome(job, state)
        if outcome.saved:
            architecture = Architecture.from_json(job.architecture)
            AnytimeNetwork(replace(architecture, points=architecture.points[:1])).save(job.folder)
        return outcome


class Keeps(Good):
    """It keeps checkpoints."""

    def discard(self, folder):
        pass


class NoEpochs(Good):
    """Its trainings are free, and have no epochs."""

    free = True

    def full_epochs(self):
        return 0


class Global(Good):
    """It seeds the global generator."""

    def epoch(self, job, epoch):
        random.seed(job.seed)


BROKEN = [
    ("docstring", Undocumented, "docstring"),
    ("is_an_evaluator", NoEvaluator, "subclass of nas.Evaluator"),
    ("declares_measures", NoMeasures, "tuple of Measure"),
    ("declares_measures", NoTestAccuracy, "Missing: test_accuracy"),
    ("loads_data_on_use", Eager, "must not load data"),
    ("info", NoImages, "There must be training, validation and test images"),
    ("info", Unstable, "equal for equal data"),
    ("shares_its_data", Forgets, "the same info. It differs"),
    ("shares_its_data", Unpicklable, "that pickle and the constructor accept. Got .*lambda"),
    ("required_keys", NoLoss, r"loss with test=False\. Missing: loss\."),
    ("outcome", Short, "Outcome.epochs must be 2. Got 1"),
    ("outcome", Undefined, "Out of range float values|finite"),
    ("outcome", Undeclared, "energy_mj"),
    ("costs", Cheap, "the architecture's macs"),
    ("test_images_only_on_request", Peeks, "test_accuracy"),
    ("uses_the_images_of_the_job", AllImages, "must use no more. Got 1000"),
    ("images_are_of_an_epoch", Cumulative, "also after several epochs. Got 500 after 1 epoch and 1000 after 2"),
    ("images_are_of_an_epoch", Uncounted, "1 to 1000, also after several epochs. Got 0"),
    ("reports_epochs", Silent, r"\[1, 2\]. Got \[\]"),
    ("deterministic", Unseeded, "Equal jobs"),
    ("objects_keep_no_state", Remembers, "An earlier job"),
    ("continues", Restarts, "two parts"),
    ("saves_the_network", SavesEarly, "only after the whole schedule"),
    ("saves_the_network", SavesAnother, "the measured points"),
    ("discards", Keeps, "still there"),
    ("full_epochs", NoEpochs, "at least 1. Got 0"),
    ("global_randomness", Global, "Global random state"),
]


def test_all_checks_at_once():
    testing.check_evaluator(Good)


@pytest.mark.parametrize(
    ("name", "evaluator", "message"), BROKEN, ids=[f"{name}-{evaluator.__name__}" for name, evaluator, _ in BROKEN]
)
def test_every_check_of_an_evaluator_catches_its_fault(name, evaluator, message):
    fails(testing.evaluator_checks(evaluator), name, message)


def test_every_check_of_an_evaluator_has_a_fault_that_it_catches():
    assert {name for name, _, _ in BROKEN} == {name for name, _ in testing.evaluator_checks(Good)}
