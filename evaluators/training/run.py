"""One training of one architecture, epoch by epoch: network, optimiser and position in the schedule."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor

from evaluators.data.batches import channels_last
from evaluators.data.source import ImageSource
from evaluators.training.checkpoint import Checkpoint
from evaluators.training.measurement import measure_points
from evaluators.training.schedule import Optimisation, split_by_decay
from evaluators.training.selection import select_points
from evaluators.training.stages import StageInSteps, in_steps
from nas.evaluation.jobs import Diverged, Job, Outcome
from nas.evaluation.operating_points import MeasuredSubnetwork, SelectionSettings
from nas.evaluation.training_rules import ConstructingRule, Construction, TrainingRule, check_accepts, load_rule
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.seeds import seed

MOMENTUM = 0.9
LARGEST_GRADIENT = 5.0
"""Gradients of a module with a larger norm are clipped."""


class TrainingRun:
    """The state of one training.

    Parameters
    ----------
    source
        The images.
    optimisation
        Settings of the optimiser.
    job
        Architecture, seed and schedule.
    data_settings
        Settings of the data. Together with the job and the optimisation they determine the result, and a checkpoint
        is continued only if all of them are equal.
    """

    def __init__(self, source: ImageSource, optimisation: Optimisation, job: Job, data_settings: dict[str, Any]):
        self.source, self.optimisation, self.job = source, optimisation, job
        self.device = torch.device(source.device)
        architecture = job.parsed_architecture
        self.rule = load_rule(architecture.training)
        check_accepts(self.rule, architecture)
        self.stages = in_steps(job.all_stages, optimisation, architecture, len(source.training_rows))
        self.augmented = source.augmentation.share(self._stage_after(job.until - 1).passes)
        self.calibration = source.calibration(source.training_rows, job.seed, share=self.augmented)
        self._start(architecture)
        self._autocast = optimisation.autocast(self.device)
        self._identity = {
            "architecture": architecture.key,
            "seed": job.seed,
            **data_settings,
            "weight_decay": optimisation.weight_decay,
            "precision": optimisation.precision,
            "batch": optimisation.batch_size,
            "rate": optimisation.learning_rate,
        }

    def train_epoch(self, epoch: int) -> None:
        """One pass over the training images; all random numbers follow from the seed and the epoch's number.

        Raises Diverged if the loss becomes infinite or NaN.
        """
        generator = torch.Generator().manual_seed(seed(self.job.seed, "epoch", epoch))
        self.state.train()
        stage = self._stage_after(epoch)
        share = self.source.augmentation.share(stage.passes)
        batches = self.source.training(self.source.training_subset(stage.images, epoch), stage.batch_size, share=share)
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
            for module in self._trained_modules():
                torch.nn.utils.clip_grad_norm_(module.parameters(), LARGEST_GRADIENT)
            self.optimiser.step()
            if self.construction is not None:
                self._advance(self.construction, step, generator)

    def outcome(self, seconds: Callable[[], float], alive: Callable[[], None] = lambda: None) -> Outcome:
        """Choose operating points if the job requires it, measure them, and save the network at the end or on demand.

        seconds: the time spent so far, called after the measurement. alive: called while points are chosen.
        """
        job, network = self.job, self.current_network()
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
            network.save(job.folder)
        return Outcome(
            points=points,
            epochs=job.until,
            images=self._stage_after(job.until - 1).images,
            seconds=seconds(),
            realised=network.architecture.to_json() if job.selection or self.construction is not None else None,
            saved=save,
        )

    def current_network(self) -> AnytimeNetwork:
        """The network to measure now: if a construction is not finished, a copy within the budgets."""
        if self.construction is None:
            return self.network
        steps = self._stage_after(self.job.until - 1).first_step(self.job.until)
        generator = torch.Generator().manual_seed(seed(self.job.seed, "finished", steps))
        images = (x for x, _ in self.calibration.train(torch.Generator().manual_seed(0)))
        return self.construction.finished(steps, images, generator)

    def checkpoint(self, epoch: int, seconds: float, outcome: Outcome | None) -> Checkpoint:
        """The present state, as a checkpoint after an epoch."""
        momentum = {index: self._momentum(parameter) for index, parameter in enumerate(self._parameters())}
        return Checkpoint(
            job=self._identity,
            epoch=epoch,
            seconds=seconds,
            architecture=self.network.architecture,
            network=self.state.state_dict(),
            momentum={index: tensor for index, tensor in momentum.items() if tensor is not None},
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
        if _shapes(checkpoint.network) != _shapes(self.state.state_dict()):
            self._start(self.job.parsed_architecture)
            return False
        self.state.load_state_dict(checkpoint.network)
        for index, parameter in enumerate(self._parameters()):
            if index in checkpoint.momentum:
                self.optimiser.state[parameter]["momentum_buffer"] = checkpoint.momentum[index]
        return True

    def _start(self, architecture: Architecture) -> None:
        """The state before the first step."""
        generator = torch.Generator().manual_seed(seed(self.job.seed, "weights"))
        self.construction: Construction | None = None
        if isinstance(self.rule, ConstructingRule):
            self.construction = self.rule.construct(architecture, steps=self.stages[-1].after, generator=generator)
        else:
            self.network = AnytimeNetwork(architecture, generator=generator)
        self._adopt()

    def _adopt(self) -> None:
        """Take the construction's present network, if there is a construction, and make a new optimiser."""
        if self.construction is not None:
            self.network = self.construction.network
        self.state = cast(torch.nn.Module, self.construction or self.network)
        self.network.preprocess, self.network.augmented = self.source.preprocessing, self.augmented
        self.state.to(self.device)
        channels_last(self.state, self.network.architecture.task.input_shape)
        groups: list[dict[str, Any]] = []
        for module in self._trained_modules():
            decayed, others = split_by_decay(module)
            groups.append({"params": decayed, "weight_decay": self.optimisation.weight_decay})
            groups.append({"params": others, "weight_decay": 0.0})
        self.optimiser = torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True)  # the rate is set at each step

    def _stage_after(self, epoch: int) -> StageInSteps:
        """The stage of the epoch that follows this number of epochs."""
        return next(stage for stage in self.stages if epoch < stage.stage.end)

    def _trained_modules(self) -> list[torch.nn.Module]:
        """The trained modules; the gradients of each are clipped separately."""
        return [self.network] if self.construction is None else self.construction.trained()

    def _advance(self, construction: Construction, step: int, generator: torch.Generator) -> None:
        """Continue the construction after a step, and carry the momentum over to a new network."""
        momentum = {name: self._momentum(parameter) for name, parameter in self.state.named_parameters()}
        carry = construction.advance(step, generator)
        if carry is None:
            return
        self._adopt()
        for name, parameter in self.state.named_parameters():
            if (old := momentum[name]) is not None:
                self.optimiser.state[parameter]["momentum_buffer"] = carry(name, old)

    def _momentum(self, parameter: torch.nn.Parameter) -> Tensor | None:
        return self.optimiser.state.get(parameter, {}).get("momentum_buffer")

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
            with self._precision():
                loss = next(losses, None)
            if loss is None:
                return
            yield loss

    def _precision(self) -> contextlib.AbstractContextManager:
        return torch.autocast(self._autocast, torch.bfloat16) if self._autocast else contextlib.nullcontext()


def _shapes(tensors: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
