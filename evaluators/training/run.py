"""One training of one architecture, epoch by epoch: network, optimiser and position in the schedule."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from evaluators.data.batches import channels_last
from evaluators.data.source import ImageSource
from evaluators.training.checkpoint import Best, Checkpoint
from evaluators.training.measurement import measure_points
from evaluators.training.schedule import autocast, optimiser_of
from evaluators.training.selection import select_points
from evaluators.training.stages import StageInSteps, in_steps
from nas.config.recipes import Recipe
from nas.evaluation.averaging import MovingAverage
from nas.evaluation.jobs import Diverged, Job, Outcome
from nas.evaluation.operating_points import MeasuredSubnetwork, SelectionSettings
from nas.evaluation.training_rules import ConstructingRule, Construction, TrainingRule, check_accepts, load_rule
from nas.execution.network import AnytimeNetwork
from nas.execution.serialization import WEIGHTS
from nas.files import write_folder
from nas.representation.architecture import Architecture
from nas.representation.elements import DROPOUT
from nas.seeds import seed

BEST_IMAGES = 4_000
"""Validation images on which epochs are compared, at most: the same for all epochs, whatever a rung measures on."""
AVERAGE_MEASURES = {"average_accuracy": "accuracy", "test_average_accuracy": "test_accuracy"}
"""Measures of the moving average of the weights, and the measures of a network that they are."""


class TrainingRun:
    """The state of one training.

    Parameters
    ----------
    source
        The images.
    recipe
        Optimiser and schedule.
    precision
        One of :data:`evaluators.training.schedule.PRECISIONS`.
    job
        Architecture, seed and schedule.
    data_settings
        Settings of the data. Together with the job and the recipe they determine the result, and a checkpoint
        is continued only if all of them are equal.
    """

    waited = trained = 0.0
    """Seconds that the epochs of this run waited for the disk, and all of their seconds."""
    best: Best | None = None
    """The network of the best epoch so far, if the recipe keeps it."""

    def __init__(
        self, source: ImageSource, recipe: Recipe, precision: str, job: Job, data_settings: dict[str, Any]
    ) -> None:
        self.source, self.recipe, self.job = source, recipe, job
        self.device = torch.device(source.device)
        architecture = job.parsed_architecture
        self.rule = load_rule(architecture.training)
        check_accepts(self.rule, architecture)
        self.stages = in_steps(job.all_stages, recipe, architecture, len(source.training_rows))
        self.augmented = source.augmentation.share(self._stage_after(job.until - 1).passes)
        self.calibration = source.calibration(source.training_rows, job.seed, share=self.augmented)
        self._start(architecture)
        self._autocast = autocast(precision, self.device)
        self._drops = any(DROPOUT in (*o.before, *o.after) for o in architecture.topology.operations)
        self._identity = {
            "architecture": architecture.key,
            "seed": job.seed,
            **data_settings,
            "recipe": recipe.settings(),
            "precision": precision,
        }
        if job.weights:
            self._identity["weights"] = sha256(Path(job.weights, WEIGHTS).read_bytes()).hexdigest()

    def train_epoch(self, epoch: int) -> None:
        """One pass over the training images; all random numbers follow from the seed and the epoch's number.

        Raises Diverged if the loss becomes infinite or NaN.
        """
        generator = torch.Generator().manual_seed(seed(self.job.seed, "epoch", epoch))
        self.state.train()
        if self.average is not None:
            self.average.teach()
        stage = self._stage_after(epoch)
        share = self.source.augmentation.share(stage.passes)
        batches = self.source.training(self.source.training_subset(stage.images, epoch), stage.batch_size, share=share)
        started = time.monotonic()
        for step, (x, y) in enumerate(batches.train(generator), start=stage.first_step(epoch)):
            for group in self.optimiser.param_groups:
                group["lr"] = stage.rate(step)
            self.optimiser.zero_grad(set_to_none=True)
            total_loss = torch.zeros((), device=x.device)
            if hasattr(self.rule, "progress"):
                self.rule.progress = step / self.stages[-1].after
            for loss in self._losses(step, x, y, generator):
                loss.backward()
                total_loss += loss.detach()
            if not torch.isfinite(total_loss):  # the only synchronisation with the device in a step
                raise Diverged(f"The loss became {total_loss.item()} in epoch {epoch + 1} of {self.job.epochs}.")
            if self.recipe.clip:
                for module in self._trained_modules():
                    torch.nn.utils.clip_grad_norm_(module.parameters(), self.recipe.clip)
            self.optimiser.step()
            if self.average is not None:
                self.average.update(self.network)
            if self.construction is not None:
                self._advance(self.construction, step, generator)
        self.waited += batches.waited
        self.trained += time.monotonic() - started

    def keep_best(self, epoch: int) -> None:
        """After an epoch, keep a copy of the network if the recipe says so and its mean accuracy is the highest."""
        if not self.recipe.best:
            return
        network = self.current_network(epoch + 1)
        points = measure_points(network, self.source, self.calibration, test=False, images=BEST_IMAGES)
        accuracy = sum(point["accuracy"] for point in points) / len(points)
        if self.best is None or accuracy > self.best.accuracy:
            self.best = Best(accuracy=accuracy, network=network.copy())

    def outcome(self, seconds: Callable[[], float], alive: Callable[[], None] = lambda: None) -> Outcome:
        """Choose operating points if the job requires it, measure them, and save the network at the end or on demand.

        seconds: the time spent so far, called after the measurement. alive: called while points are chosen.
        """
        job = self.job
        network = self.best.network if self.best else self.current_network(job.until)
        selected: list[MeasuredSubnetwork] = []
        if job.selection:
            network, selected, _ = select_points(
                self.source,
                network,
                SelectionSettings(**job.selection),
                images=job.images,
                seed=job.seed,
                report=lambda done, total: alive(),
            )
        points = measure_points(network, self.source, self.calibration, test=job.test, images=job.measured_images)
        for point, measured in zip(points, selected):
            if measured.latency_ms is not None:  # the latency by which the point was selected
                point["latency_ms"] = measured.latency_ms
        save = job.save or job.until == job.epochs
        if save:
            average = self._measured_average(network, points)
            write_folder(job.folder, network.files(average=average))
        return Outcome(
            points=points,
            epochs=job.until,
            images=self._stage_after(job.until - 1).images,
            seconds=seconds(),
            realised=network.architecture.to_json() if job.selection or self.construction is not None else None,
            saved=save,
            waiting=self.waited / self.trained if self.trained else 0.0,
        )

    def _measured_average(self, network: AnytimeNetwork, points: list[dict[str, Any]]) -> AnytimeNetwork | None:
        """The moving average of the weights, if there is one, with the points of a network; adds its accuracies."""
        if self.average is None:
            return None
        average = self.average.network
        if self.job.selection:
            average = average.with_points(network.architecture.points)
        job = self.job
        measured = measure_points(average, self.source, self.calibration, test=job.test, images=job.measured_images)
        for point, own in zip(points, measured):
            point |= {name: own[key] for name, key in AVERAGE_MEASURES.items() if key in own}
        return average

    def current_network(self, epochs: int) -> AnytimeNetwork:
        """The network to measure after some epochs: if a construction is not finished, a copy within the budgets."""
        if self.construction is None:
            return self.network
        steps = self._stage_after(epochs - 1).first_step(epochs)
        generator = torch.Generator().manual_seed(seed(self.job.seed, "finished", steps))
        images = (x for x, _ in self.calibration.train(torch.Generator().manual_seed(0)))
        return self.construction.finished(steps, images, generator)

    def checkpoint(self, epoch: int, seconds: float, outcome: Outcome | None) -> Checkpoint:
        """The present state, as a checkpoint after an epoch."""
        optimiser = {
            f"{index}.{name}": tensor
            for index, parameter in enumerate(self._parameters())
            for name, tensor in self._optimiser_state(parameter).items()
        }
        return Checkpoint(
            job=self._identity,
            epoch=epoch,
            seconds=seconds,
            architecture=self.network.architecture,
            network=self.state.state_dict(),
            optimiser=optimiser,
            average={} if self.average is None else self.average.network.state_dict(),
            best=self.best,
            outcome=outcome,
            stages=self.job.all_stages,
            test=self.job.test,
            selection=self.job.selection,
            measured_images=self.job.measured_images,
        )

    def resume(self, checkpoint: Checkpoint) -> bool:
        """Take the state of a checkpoint. False if it belongs to another job, goes further, or is incomplete.

        The state is then as before: training from the start gives the same result.
        """
        same = checkpoint.job == self._identity and checkpoint.begins(self.job.all_stages)
        if not (same and 0 < checkpoint.epoch <= self.job.until):
            return False
        if self.construction is not None:
            self.construction.restore(checkpoint.architecture)
            self._adopt()
        average = {} if self.average is None else self.average.network.state_dict()
        same = _shapes(checkpoint.network) == _shapes(self.state.state_dict())
        if not (same and _shapes(checkpoint.average) == _shapes(average)):
            self._start(self.job.parsed_architecture)
            return False
        self.state.load_state_dict(checkpoint.network)
        if self.average is not None:
            self.average.network.load_state_dict(checkpoint.average)
        self.best = checkpoint.best
        parameters = list(self._parameters())
        for key, tensor in checkpoint.optimiser.items():
            index, name = key.split(".")
            self.optimiser.state[parameters[int(index)]][name] = tensor
        return True

    def _start(self, architecture: Architecture) -> None:
        """The state before the first step."""
        generator = torch.Generator().manual_seed(seed(self.job.seed, "weights"))
        self.construction: Construction | None = None
        self.average: MovingAverage | None = None
        self.best = None
        if isinstance(self.rule, ConstructingRule):
            self.construction = self.rule.construct(architecture, steps=self.stages[-1].after, generator=generator)
        else:
            self.network = AnytimeNetwork(architecture, generator=generator)
            if self.job.weights:
                self.network.read_weights(Path(self.job.weights, WEIGHTS))
            elif hasattr(self.rule, "initialise"):
                self.rule.initialise(self.network)
        self._adopt()
        if self.construction is None and (decay := getattr(self.rule, "ema", 0.0)):
            self.average = MovingAverage(self.network, decay)
            channels_last(self.average.network, architecture.task.input_shape)
            cast(Any, self.rule).averaged = self.average.network

    def _adopt(self) -> None:
        """Take the construction's present network, if there is a construction, and make a new optimiser."""
        if self.construction is not None:
            self.network = self.construction.network
        self.state = cast(torch.nn.Module, self.construction or self.network)
        self.network.preprocess, self.network.augmented = self.source.preprocessing, self.augmented
        self.state.to(self.device)
        channels_last(self.state, self.network.architecture.task.input_shape)
        self.optimiser = optimiser_of(self._trained_modules(), self.recipe)

    def _stage_after(self, epoch: int) -> StageInSteps:
        """The stage of the epoch that follows this number of epochs."""
        return next(stage for stage in self.stages if epoch < stage.stage.end)

    def _trained_modules(self) -> list[torch.nn.Module]:
        """The trained modules; the gradients of each are clipped separately."""
        return [self.network] if self.construction is None else self.construction.trained()

    def _advance(self, construction: Construction, step: int, generator: torch.Generator) -> None:
        """Continue the construction after a step, and carry the optimiser's state over to a new network."""
        states = {name: self._optimiser_state(parameter) for name, parameter in self.state.named_parameters()}
        carry = construction.advance(step, generator)
        if carry is None:
            return
        self._adopt()
        for name, parameter in self.state.named_parameters():
            for key, old in states[name].items():  # a number without dimensions counts steps
                self.optimiser.state[parameter][key] = carry(name, old) if old.dim() else old

    def _optimiser_state(self, parameter: torch.nn.Parameter) -> dict[str, Tensor]:
        state = self.optimiser.state.get(parameter, {})
        return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}

    def _parameters(self) -> Iterator[torch.nn.Parameter]:
        for group in self.optimiser.param_groups:
            yield from group["params"]

    def _losses(self, step: int, x: Tensor, y: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
        """The rule's losses, each computed under autocast."""
        if self.construction is not None:
            losses = self.construction.losses(step, x, y, generator)
        else:
            losses = cast(TrainingRule, self.rule).losses(self.network, x, y, generator)
        while True:
            with self._precision(), self._randomness(generator):
                loss = next(losses, None)
            if loss is None:
                return
            yield loss

    @contextlib.contextmanager
    def _randomness(self, generator: torch.Generator) -> Iterator[None]:
        """Numbers of the generator for dropout, which draws from torch's global one."""
        if not self._drops:
            yield
            return
        number = int(torch.randint(2**62, (), generator=generator))
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(number)
            yield

    def _precision(self) -> contextlib.AbstractContextManager:
        return torch.autocast(self._autocast, torch.bfloat16) if self._autocast else contextlib.nullcontext()


def _shapes(tensors: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
