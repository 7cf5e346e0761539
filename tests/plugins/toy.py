"""Evaluators without training: results are a function of architecture, seed and epochs. Good ones, and bad ones.

They need numpy at most, so that a whole search takes a second. ``TOY_SLEEP`` seconds pass in every epoch.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import runpy
import signal
import sys
import threading
import time
from hashlib import sha256
from pathlib import Path

from nas.errors import DataError
from nas.evaluation.evaluator import DataInfo, Evaluator
from nas.evaluation.jobs import Diverged, Outcome, images_seen
from nas.proxies.contract import proxy
from nas.representation.architecture import macs, params
from nas.representation.elements import Task
from nas.spaces.choices import Domains, Recorder, replay
from results.measures import Measure, built_in

TASK = Task(input_shape=(1, 8, 8), num_classes=10)


class Toy(Evaluator):
    """Learns nothing; accuracy grows with epochs and MACs, and with luck.

    What an epoch makes of the state depends on the state before it, so that a wrong resume gives wrong results.
    """

    measures = built_in("accuracy", "loss", "test_accuracy", "test_loss")
    checkpoint = "checkpoint.json"

    def __init__(self, data, *, device="auto", threads=1, **settings):
        self.data = data

    def info(self):
        return DataInfo(
            name=self.data,
            task=TASK,
            floor=0.1,
            train_images=1000,
            validation_images=200,
            test_images=100,
            fingerprint=self.data,
        )

    def evaluate(self, job, report):
        path = Path(job.folder, self.checkpoint)
        known = json.loads(path.read_text()) if path.exists() else {"epoch": 0, "state": self.start(job)}
        if "outcome" in known and known["epoch"] == job.until:
            return Outcome(**known["outcome"])
        for epoch in range(known["epoch"], job.until):
            time.sleep(float(os.environ.get("TOY_SLEEP", "0")))
            self.epoch(job, epoch)
            state = sha256(f"{known['state']} {epoch} {self.schedule(job, epoch)}".encode()).hexdigest()
            known = {"epoch": epoch + 1, "state": state}
            if epoch + 1 < job.until:
                self.write(path, known)
            report(epoch + 1)
        outcome = self.outcome(job, known["state"])
        if isinstance(outcome, Outcome):
            self.write(path, known | {"outcome": outcome.to_json()})
        return outcome

    def write(self, path, known):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(known))
        os.replace(partial, path)

    def start(self, job):
        """What the first state depends on."""
        return f"{job.seed} {job.images}"

    def schedule(self, job, epoch):
        """What the state after an epoch depends on."""
        return job.epochs

    def epoch(self, job, epoch):
        """What else happens in an epoch."""

    def outcome(self, job, state):
        saved = job.until == job.epochs
        if saved:
            self.write(Path(job.folder, "network.json"), {"state": state})
        return Outcome(
            points=self.points(job, state),
            epochs=job.until,
            images=job.images or 1000,
            seconds=0.001 * job.until,
            saved=saved,
        )

    def points(self, job, state):
        architecture = job.parsed_architecture
        luck = int(state[:8], 16) / 2**32
        learned = 0.9 * (1 - math.exp(-job.until / 5))
        points = []
        for level, (cost, size) in enumerate(zip(macs(architecture), params(architecture))):
            accuracy = 0.1 + learned * (0.5 + 0.4 * luck) * (1 - 1 / math.log(cost))
            point = {"level": level, "macs": cost, "params": size, "accuracy": accuracy, "loss": 2 * (1 - accuracy)}
            if job.test:
                point |= {"test_accuracy": 0.98 * accuracy, "test_loss": 2 - accuracy}
            points.append(point)
        return points


class Continues(Toy):
    """Follows the stages of a job, and no later ones; accuracy grows with the images seen."""

    def continues(self, architecture):
        return True

    def start(self, job):
        return job.seed

    def schedule(self, job, epoch):
        return next(stage for stage in job.all_stages if epoch < stage.end)

    def outcome(self, job, state):
        stage = self.schedule(job, job.until - 1)
        saved = job.save or job.until == job.epochs
        if saved:
            self.write(Path(job.folder, "network.json"), {"state": state})
        return Outcome(
            points=self.points(job, state),
            epochs=job.until,
            images=min(stage.images or 1000, 1000),
            seconds=self.duration(job),
            saved=saved,
        )

    def duration(self, job):
        """Seconds of the training so far, as of simulated time."""
        return 2e-6 * images_seen(job.all_stages, job.until, 1000)

    def points(self, job, state):
        learned = 1 - (1 + images_seen(job.all_stages, job.until, 1000) / 500) ** -0.3
        points = super().points(job, state)
        for level, point in enumerate(points):
            luck = int(job.key[:4], 16) / 2**16
            point["accuracy"] = 0.1 + learned * (0.6 + 0.1 * level) * (0.9 + 0.1 * luck)
            if job.test:
                point["test_accuracy"] = 0.98 * point["accuracy"]
        return points


class Free(Toy):
    """Its trainings are free: 7 epochs each."""

    free = True

    def full_epochs(self):
        return 7


class Rebuilds(Toy):
    """Fails unless the choices of a job lead to its architecture."""

    def evaluate(self, job, report):
        spaces = runpy.run_path(str(Path(__file__).with_name("spaces.py")))
        rebuilt = spaces[job.space]().architecture(Recorder(replay(job.choices), Domains()), TASK)
        if rebuilt.canonical.key != job.key:
            raise ValueError(f"{job.choices} of {job.space} lead to {rebuilt.key}, and the job has {job.key}.")
        return super().evaluate(job, report)


def chosen(job, share=3):
    """Whether a candidate is one of those that misbehave, about one in ``share``."""
    return int(job.parsed_architecture.key[:6], 16) % share == 0


class NotesItsGpu(Toy):
    """Writes the GPUs that its process may use to a file of the process, in the folder that its data name."""

    def __init__(self, data, **settings):
        super().__init__(data, **settings)
        Path(data, f"{os.getpid()}.gpu").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", ""))


class Raises(Toy):
    """Raises for some candidates."""

    def epoch(self, job, epoch):
        if chosen(job):
            raise RuntimeError("out of luck\nin two lines")


class RaisesAlways(Toy):
    """Raises for all candidates."""

    def epoch(self, job, epoch):
        raise RuntimeError("out of luck")


class RaisesNul(Toy):
    """Raises for some candidates, with a NUL character in the message."""

    def epoch(self, job, epoch):
        if chosen(job):
            raise ValueError("bad\x00name")


class RaisesSurrogate(Toy):
    """Raises for some candidates, with a lone surrogate in the message, as in undecodable names of files."""

    def epoch(self, job, epoch):
        if chosen(job):
            raise ValueError(os.fsdecode(b"bad\xffname"))


class RaisesUntilMended(Toy):
    """Raises for all candidates unless a file is there, which its data name."""

    def epoch(self, job, epoch):
        if not Path(self.data).exists():
            raise RuntimeError("out of order")


class RaisesForSomeUntilMended(RaisesUntilMended):
    """Raises for some candidates unless the file is there."""

    def epoch(self, job, epoch):
        if chosen(job):
            super().epoch(job, epoch)


class RaisesInFull(Toy):
    """Raises in full training only."""

    def epoch(self, job, epoch):
        if job.images is None:
            raise RuntimeError("too long")


class BrokenOnNode(Toy):
    """The disk is full on the node of a cluster whose id is in the file that its data name."""

    def epoch(self, job, epoch):
        import ray

        if ray.get_runtime_context().get_node_id() == Path(self.data).read_text():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), job.folder)


class Diverges(Toy):
    """Diverges for some candidates, and counts how often it was tried."""

    def epoch(self, job, epoch):
        if chosen(job):
            Path(job.folder).mkdir(parents=True, exist_ok=True)
            with Path(job.folder, "tries").open("a") as file:
                file.write("x")
            raise Diverged("The loss became nan.")


class DivergesAlways(Toy):
    """Diverges for all candidates."""

    def epoch(self, job, epoch):
        raise Diverged("The loss became nan.")


class Dies(Toy):
    """Its process ends without a word for some candidates."""

    def epoch(self, job, epoch):
        if chosen(job):
            os._exit(7)


class DiesOnce(Toy):
    """Its process ends at the first attempt of every candidate, after an epoch that is in the checkpoint."""

    def epoch(self, job, epoch):
        mark = Path(job.folder, "died")
        if not mark.exists() and (epoch > 0 or job.until == 1):
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
            os._exit(7)


class DiesOnceInAll(Toy):
    """Its process ends in the second epoch of the first job, which a file remembers that its data name."""

    def epoch(self, job, epoch):
        if epoch == 1 and not Path(self.data).exists():
            Path(self.data).touch()
            os._exit(7)


class DiesWithChild(Toy):
    """Dies and leaves a child behind that holds all its pipes open."""

    def epoch(self, job, epoch):
        if chosen(job, share=2):
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
            os._exit(7)


class HangsAtBirth(Toy):
    """Never ends to load."""

    def __init__(self, data, **settings):
        threading.Event().wait()


class DiesTwice(Toy):
    """Its process is killed at every attempt of some candidates."""

    def epoch(self, job, epoch):
        if chosen(job):
            os.kill(os.getpid(), signal.SIGKILL)


class DiesAtBirth(Toy):
    """Its process ends before any training."""

    def __init__(self, data, **settings):
        os._exit(3)


class Hangs(Toy):
    """Never completes an epoch of some candidates."""

    def epoch(self, job, epoch):
        if chosen(job):
            Path(job.folder).mkdir(parents=True, exist_ok=True)
            with Path(job.folder, "hangs").open("a") as file:
                file.write("x")
            threading.Event().wait()


class HangsOnce(Toy):
    """Never completes the second epoch of a candidate at the first attempt, in code that holds the interpreter lock."""

    def epoch(self, job, epoch):
        mark = Path(job.folder, "hung")
        if epoch == 1 and not mark.exists():
            mark.touch()
            hold_the_interpreter_lock()


class HoldsTheLock(Toy):
    """Holds the interpreter lock for ever, and has a child process that does so too."""

    def epoch(self, job, epoch):
        os.fork()
        Path(job.folder).mkdir(parents=True, exist_ok=True)
        Path(job.folder, f"holds-{os.getpid()}").touch()
        hold_the_interpreter_lock()


def hold_the_interpreter_lock():
    """Matching this expression takes longer than any test, in one call that lets no other thread run."""
    re.match("(a+)+b", "a" * 60)


class DiesAfterwards(Toy):
    """Its process ends soon after an outcome; a file counts the attempts."""

    def evaluate(self, job, report):
        outcome = super().evaluate(job, report)
        with Path(job.folder, "tries").open("a") as file:
            file.write("x")
        threading.Timer(0.2, os._exit, (7,)).start()
        return outcome


class OutOfMemory(Toy):
    """Needs more memory than there is, for some candidates."""

    def epoch(self, job, epoch):
        if chosen(job):
            raise MemoryError("no room for this one")


class Crowded(Toy):
    """Needs more memory than there is at the first attempt of every candidate, beside others."""

    def epoch(self, job, epoch):
        mark = Path(job.folder, "crowded")
        if not mark.exists():
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
            raise RuntimeError("CUDA error: out of memory")


FAULTS = {
    "disk": OSError(errno.ENOSPC, "No space left on device"),
    "folder": OSError(errno.EROFS, "Read-only file system", "candidates"),
    "library": RuntimeError("Error while serializing: IoError(Os { code: 28, kind: StorageFull })\nos error 28"),
    "device": RuntimeError("No CUDA GPUs are available"),
    "data": DataError("npz data must be a file, npz:FILE. Got 'x.npz', nothing there. Check the path."),
    "plug-in": ModuleNotFoundError("No module named 'energy_meter'"),
}
"""Faults of the environment that `Faulty` raises, by name."""


class Faulty(Toy):
    """Raises the fault that the file named by its data names, from the second generation on; none without the file."""

    def epoch(self, job, epoch):
        file = Path(self.data)
        if file.exists() and job.candidate > 12:  # the first pool has this many proposals
            raise FAULTS[file.read_text()]


class Exits(Toy):
    """Calls sys.exit for some candidates."""

    def epoch(self, job, epoch):
        if chosen(job):
            sys.exit("I leave")


class Prints(Toy):
    """Writes to standard output, in every way."""

    def epoch(self, job, epoch):
        print("what a nice day", flush=True)
        os.write(1, b'{"epoch": 77}\nnot json\n')
        sys.stdout.write("no end of line")
        sys.stdout.flush()


class Spoils(Toy):
    """A worker that raised once never works again, like a lost CUDA context."""

    spoilt = False

    def epoch(self, job, epoch):
        if chosen(job):
            Spoils.spoilt = True
        if Spoils.spoilt:
            raise RuntimeError("context is lost")


class _Bad(Toy):
    def points(self, job, state):
        points = super().points(job, state)
        return self.spoil(points) if chosen(job) else points


class WrongNumber(_Bad):
    """Leaves out a point."""

    def spoil(self, points):
        return points[:-1]


class WrongLevels(_Bad):
    """Numbers all points alike."""

    def spoil(self, points):
        return [point | {"level": 0} for point in points]


class Nan(_Bad):
    """Accuracies that are not numbers."""

    def spoil(self, points):
        return [point | {"accuracy": math.nan, "loss": math.nan} for point in points]


class Missing(_Bad):
    """Points without accuracy."""

    def spoil(self, points):
        return [{name: value for name, value in point.items() if name != "accuracy"} for point in points]


class Unknown(_Bad):
    """Points with a measure that no store has."""

    def spoil(self, points):
        return [point | {"sunshine": 1.0} for point in points]


class Text(_Bad):
    """Accuracies that are text."""

    def spoil(self, points):
        return [point | {"accuracy": "good"} for point in points]


class Percent(_Bad):
    """Accuracies out of range."""

    def spoil(self, points):
        return [point | {"accuracy": 100 * point["accuracy"]} for point in points]


class NegativeMacs(_Bad):
    """Costs that are none."""

    def spoil(self, points):
        return [point | {"macs": -5} for point in points]


class NotJson(_Bad):
    """Points that no JSON can hold."""

    def spoil(self, points):
        return [point | {"accuracy": {1, 2}} for point in points]


class NotPoints(_Bad):
    """Something else than points."""

    def spoil(self, points):
        return 42


class NotOutcome(Toy):
    """Something else than an outcome, for some candidates."""

    def outcome(self, job, state):
        return {"accuracy": 1.0} if chosen(job) else super().outcome(job, state)


class NoTest(Toy):
    """Forgets to measure on the test images."""

    def points(self, job, state):
        return [{k: v for k, v in p.items() if not k.startswith("test")} for p in super().points(job, state)]


class Energy(Toy):
    """Measures energy, which it declares: cheap for the number of MACs in larger points."""

    measures = (
        *Toy.measures,
        Measure(name="energy_mj", unit="mJ", maximise=False, meaning="energy per input"),
        Measure(name="idle", unit="fraction", maximise=True, meaning="share of the time without work", required=False),
    )

    def points(self, job, state):
        return [point | {"energy_mj": point["macs"] ** 0.5 / 1000} for point in super().points(job, state)]


class NoEnergy(Energy):
    """Declares energy and does not return it."""

    def points(self, job, state):
        return Toy.points(self, job, state)


class NegativeShare(Energy):
    """A fraction of its own that is out of range."""

    def points(self, job, state):
        return [point | {"idle": -1.0} for point in super().points(job, state)]


class WrongUnit(Toy):
    """Declares a built-in measure in another unit."""

    measures = (*Toy.measures, Measure(name="latency_ms", unit="s", maximise=False))


class Undeclared(Toy):
    """Declares no measures."""

    measures = ()


class Moving(Toy):
    """Trains another architecture than the one proposed, in its place: the same with fewer channels unused."""

    def outcome(self, job, state):
        found = super().outcome(job, state)
        return Outcome(**(found.to_json() | {"realised": job.architecture}))


class NoInfo(Toy):
    """Cannot say what the data are."""

    def info(self):
        raise RuntimeError("no idea")


def not_an_evaluator(data, **settings):
    """A function."""


def worth(architecture):
    """What `Known` makes of a network: a number in [0, 1) that has nothing to do with its size."""
    return int(architecture.key[:8], 16) / 2**32


class Known(Toy):
    """The accuracy is known beforehand, to those who know how."""

    def points(self, job, state):
        accuracy = 0.2 + 0.6 * worth(job.parsed_architecture) * job.until / (job.until + 1)
        return [point | {"accuracy": accuracy, "loss": 1 - accuracy} for point in super().points(job, state)]


class Learnable(Toy):
    """The accuracy is the share of convolutions with a kernel of 3: a surrogate can learn it."""

    def points(self, job, state):
        operations = [o for o in job.parsed_architecture.topology.operations if o.kind == "conv"]
        share = sum(o.kernel == (3, 3) for o in operations) / len(operations)
        accuracy = 0.2 + 0.6 * share * job.until / (job.until + 1)
        return [point | {"accuracy": accuracy, "loss": 1 - accuracy} for point in super().points(job, state)]


@proxy("topology")
def knows(architecture):
    """Knows what `Known` makes of a network."""
    return worth(architecture)


@proxy("topology")
def misleads(architecture):
    """Prefers the worst."""
    return -worth(architecture)


class Noted(Toy):
    """Notes each epoch in the folder that its data name, because a worker on a cluster has a temporary folder.

    A file "go" in the folder lets the epochs of `Waits` pass.
    """

    def epoch(self, job, epoch):
        with open(Path(self.data, "notes.txt"), "a") as notes:
            notes.write(f"{os.getpid()} {os.getppid()} {job.candidate} {job.images} {epoch}\n")
        self.noted(job, epoch)

    def noted(self, job, epoch):
        """What happens after the note."""

    def first(self, *names):
        """Whether this is the first call with these names, in any process."""
        try:
            Path(self.data, "-".join(map(str, names))).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


class Waits(Noted):
    """Waits in the second generation until it may go on."""

    def noted(self, job, epoch):
        while job.candidate > 12 and not Path(self.data, "go").exists():
            time.sleep(0.02)


class KilledOnce(Noted):
    """Its process is killed once, in the second epoch of the first candidate that has one."""

    def noted(self, job, epoch):
        if epoch == 1 and self.first("killed"):
            os.kill(os.getpid(), signal.SIGKILL)


class LeavesChild(Noted):
    """Leaves a child behind that never ends, as a data loader may, and notes it."""

    def noted(self, job, epoch):
        if self.first("child"):
            child = os.fork()
            if child == 0:
                while True:
                    time.sleep(60)
            Path(self.data, "child.txt").write_text(str(child))


class Greedy(Noted):
    """Takes memory until its process is ended, in the first attempt of one candidate."""

    def noted(self, job, epoch):
        if chosen(job) and self.first("greedy"):
            taken = []
            while True:
                taken.append(bytearray(os.urandom(1 << 20)) * 64)
                time.sleep(0.05)
