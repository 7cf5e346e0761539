"""A candidate as a trial of Ray Tune: an epoch of training and a measurement in every step."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.result import DONE, RESULT_DUPLICATE

from nas.config import Config, settings_of
from nas.errors import PluginError
from nas.evaluation.data_identity import DataIdentity, checked_evaluator
from nas.evaluation.evaluator import Evaluator
from nas.evaluation.jobs import Job, Outcome
from nas.funnel.preparing.preparation import evaluator_of
from nas.ray.job_files import working_folder
from nas.ray.tune.problem import CHOICES, CODE, SETTINGS, SPACES, SentCode
from nas.representation.elements import Task
from nas.screening.proposals import Proposal, Rejected, own_choices
from nas.screening.screener import screener_of
from nas.seeds import seed
from nas.spaces.choices import replay
from nas.spaces.contract import SearchSpace
from nas.spaces.loading import load_spaces
from nas.workers.outcome_checks import checked_outcome
from results.front import Score

PROGRESS = "progress.json"
"""File of a checkpoint with the number of completed epochs."""


class Trainable(tune.Trainable):
    """Trains the network of one configuration for an epoch in every step, and measures its operating points.

    Pass the class to ``ray.tune.Tuner``, which constructs it. A trial ends after the epochs of its schedule, unless a
    scheduler stops it earlier.

    Parameters
    ----------
    config
        From :class:`nas.tune.Searcher` or :func:`nas.tune.param_space`.
    storage
        Tune's.

    Notes
    -----
    Every result has ``anytime_accuracy`` (to be maximised), ``epoch``, ``key`` (of the architecture), and for every
    operating point ``macs/level_0``, ``accuracy/level_0`` and so on, on the validation images. ``epoch`` equals Tune's
    ``training_iteration``, so schedulers need no ``time_attr``.

    A checkpoint contains the state of the training and, with the evaluator "training", the network, for
    :func:`nas.load`. With ``reuse_actors=True`` a worker loads the data once.

    A trial requests one CPU per thread, and a GPU if the cluster has one and the device allows it;
    ``ray.tune.with_resources`` requests something else.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """See :class:`ray.tune.Trainable`: one CPU per thread, and perhaps a GPU."""
        settings = config[SETTINGS]
        bundle = {"CPU": float(settings.get("threads") or 1)}
        device = settings["device"]
        if device.startswith("cuda") or (device == "auto" and ray.cluster_resources().get("GPU", 0) >= 1):
            bundle["GPU"] = 1.0
        return tune.PlacementGroupFactory([bundle])

    _epoch: int
    _job: Job

    def setup(self, config: dict[str, Any]) -> None:
        """See :class:`ray.tune.Trainable`: begin the first trial of a worker."""
        self._evaluator: Evaluator | None = None
        self._evaluated: dict[str, Any] = {}
        self._code: SentCode | None = None
        self._folder = working_folder()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """See :class:`ray.tune.Trainable`: begin another trial of a worker."""
        self._clear()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """See :class:`ray.tune.Trainable`: train for an epoch, and measure."""
        if self._epoch == self._job.epochs:  # a result with "done" would not reach the scheduler
            return {RESULT_DUPLICATE: True, DONE: True}
        assert self._evaluator is not None
        job = replace(self._job, until=self._epoch + 1)
        outcome = checked_outcome(job, self._evaluator.evaluate(job, lambda epoch: None), self._evaluator.measures)
        self._epoch = job.until
        return self._result(outcome)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """See :class:`ray.tune.Trainable`: copy the state of the training to a folder."""
        shutil.copytree(self._folder, checkpoint_dir, dirs_exist_ok=True)
        Path(checkpoint_dir, PROGRESS).write_text(json.dumps({"epoch": self._epoch}))

    def load_checkpoint(self, checkpoint: Any) -> None:
        """See :class:`ray.tune.Trainable`: continue from a folder that was saved."""
        self._clear()
        shutil.copytree(checkpoint, self._folder, dirs_exist_ok=True)
        self._epoch = json.loads(Path(self._folder, PROGRESS).read_text())["epoch"]

    def cleanup(self) -> None:
        """See :class:`ray.tune.Trainable`: remove the files of the worker."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _clear(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        Path(self._folder).mkdir()

    def _begin(self, config: Mapping[str, Any]) -> None:
        """Take a configuration; evaluator and data are kept if their settings are equal."""
        settings, objects, code = dict(config[SETTINGS]), config.get(SPACES, {}), config.get(CODE)
        if code is not None and code != self._code:
            code.install()
            self._code = code
        resolved = _config(settings)
        if self._evaluator is None or self._evaluated != settings:
            identity = DataIdentity(fingerprint=settings["data_fingerprint"])
            self._evaluator, self._info = checked_evaluator(lambda: evaluator_of(resolved), resolved.data, identity)
            self._evaluated = settings
        proposal = _proposal(resolved, self._info.task, objects, config[CHOICES])
        architecture = proposal.architecture
        self._score = Score(low=settings["low"], high=settings["high"], floor=settings["floor"])
        self._key, self._epoch = architecture.key, 0
        assert resolved.epochs is not None
        self._job = Job(
            candidate=0,
            architecture=architecture.to_json(),
            seed=seed(resolved.seed, architecture.network_key, 0),
            epochs=resolved.epochs,
            until=1,
            images=resolved.images,
            folder=self._folder,
            save=True,
            space=proposal.space,
            choices=own_choices(proposal.space, proposal.choices),
        )

    def _result(self, outcome: Outcome) -> dict[str, Any]:
        measured = {
            name: {f"level_{point['level']}": point[name] for point in outcome.points} for name in ("macs", "accuracy")
        }
        costs, accuracies = ([point[name] for point in outcome.points] for name in ("macs", "accuracy"))
        score = self._score(costs, accuracies)
        return {"anytime_accuracy": score, "epoch": self._epoch, "key": self._key, **measured}


def _config(settings: Mapping[str, Any]) -> Config:
    """The settings of a trial, as of a study."""
    named = {each.name for each in settings_of(Config)} - {"low"}  # a part of the score, and a limit of screening
    values = {name: value for name, value in settings.items() if name in named}
    return Config(study="tune", **{**values, "spaces": tuple(settings["spaces"])})


def _proposal(config: Config, task: Task, objects: Mapping[str, SearchSpace], choices: Mapping[str, Any]) -> Proposal:
    """The proposal of stored choices."""
    screener = screener_of(replace(config, proxy="macs"), task, load_spaces(config.spaces, objects))
    proposal = screener.propose(replay(choices))
    if isinstance(proposal, Rejected):
        raise PluginError(f"The choices of a trial must give a network, as they did when proposed. {proposal.reason}")
    return proposal
