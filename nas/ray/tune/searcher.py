"""A searcher for Ray Tune that proposes screened, ranked networks and learns from their results."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune
from ray.tune.search.sample import Domain

from nas.audit.reliance import decide
from nas.errors import UserError
from nas.funnel.ranking import TwoOrders, mixed
from nas.ray.tune.problem import CHOICES, CODE, PROPOSING, SETTINGS, SPACES, TRAINING, Problem, problem_of
from nas.screening.pool import pool
from nas.screening.proposals import Proposal
from nas.screening.screener import Screener
from nas.screening.strategy_calls import new_strategy
from nas.seeds import seed
from nas.spaces.choices import Domains, Primitive, replay
from nas.spaces.loading import Spaces
from nas.strategies.contract import Trial

METRIC = "anytime_accuracy"
PENDING = "TUNE_MAX_PENDING_TRIALS_PG"
"""Environment variable of Tune: trials that wait for resources. Without it, a searcher's trials start one by one."""


@dataclass(kw_only=True)
class _Network:
    """A network that the searcher has proposed.

    by_proxy: whether the proxy chose it, or the strategy. accuracy: anytime accuracy by epoch. ended: "", or
    "finished", "stopped" or "failed".
    """

    choices: dict[str, Primitive]
    key: str
    generation: int
    proxy: float
    by_proxy: bool
    accuracy: dict[int, float] = field(default_factory=dict)
    ended: str = ""


class Searcher(tune.search.Searcher):
    """Proposes networks within the limits, ranked by a proxy and by a strategy that learns from the trained ones.

    Pass it to ``tune.TuneConfig(search_alg=…)`` with :class:`nas.tune.Trainable`. It proposes complete configurations,
    so no ``param_space`` is necessary. Any scheduler may stop the trials; ``tune.TuneConfig`` limits their number, and
    by ``max_concurrent_trials`` the number of trials side by side.

    Parameters
    ----------
    data
        Data specification, which the workers load: a name, or a path that exists on all nodes.
    space
        One or more names, ``file.py:Name``, classes or objects with a method ``architecture``. By default all
        installed spaces that suit the data and the settings.
    **settings
        Settings of :func:`nas.search` with their defaults: strategy, proxy, pool and generation, which determine the
        proposals, and the settings of :func:`nas.tune.param_space`.

    Raises
    ------
    UserError
        For an unknown setting, a value that cannot be used, or limits that no network keeps.

    Notes
    -----
    As in :func:`nas.search`, a pool is screened, and proxy and strategy choose ``generation`` networks of it; the share
    of the proxy follows from the results of its networks. They are proposed in turn, then those of the next pool, which
    is based on all results by then. Trials that a scheduler stops count as stopped at their last result, failed
    ones as no better than a constant answer.

    It maximises ``anytime_accuracy``, whatever metric ``tune.TuneConfig`` names for the scheduler and the best result.
    It holds plain data only, so Tune can pickle it, and ``tune.Tuner.restore`` continues it.

    Examples
    --------
    >>> from ray import tune  # doctest: +SKIP
    >>> tuner = tune.Tuner(
    ...     nas.tune.Trainable,
    ...     tune_config=tune.TuneConfig(
    ...         search_alg=nas.tune.Searcher("digits", space="residual", max_macs=1e6),
    ...         scheduler=tune.schedulers.ASHAScheduler(max_t=9),
    ...         metric="anytime_accuracy", mode="max", num_samples=20,
    ...     ),
    ... )  # doctest: +SKIP
    """

    def __init__(self, data: str = "digits", *, space: Spaces = (), **settings: Any) -> None:
        super().__init__(metric=METRIC, mode="max")
        self.problem: Problem = problem_of(data, space, settings, (*TRAINING, *PROPOSING))
        self._networks: dict[str, _Network] = {}  # by id of the trial, in order of proposal
        self._waiting: list[_Network] = []  # proposals of the present pool
        self._pools = 0
        self._exhausted_after = -1  # ended trials, when a pool gave nothing new
        self._domains = Domains()
        self._given: tuple[str, ...] = ()  # parts that a param_space has: Tune cannot replace objects
        self._screener: Screener | None = None
        os.environ.setdefault(PENDING, "8")

    # Called by Tune ----------------------------------------------------------------------------------------------

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """See :class:`ray.tune.search.Searcher`: False if Tune shall draw values that the searcher does not propose.

        Raises UserError if a ``param_space`` has other settings than the searcher.
        """
        given, own = config.get(SETTINGS), self.problem.trial_settings()[SETTINGS]
        if given is not None and given != own:
            different = sorted(name for name in {*given, *own} if given.get(name) != own.get(name))
            name = different[0]
            raise UserError(
                f"nas.tune.Searcher and nas.tune.param_space must have the same settings. Got {name} "
                f"{own.get(name)!r} and {given.get(name)!r}. The searcher needs no param_space: leave it out."
            )
        self._given = tuple(name for name in (SPACES, CODE) if name in config)
        return not any(isinstance(value, Domain) for name, value in config.items() if name != CHOICES)

    def suggest(self, trial_id: str) -> Any:
        """See :class:`ray.tune.search.Searcher`: the configuration of a new trial.

        None if no new network is found before the next trial ends; FINISHED if none is in training.
        """
        ended = sum(bool(network.ended) for network in self._networks.values())
        if not self._waiting and ended != self._exhausted_after:
            self._waiting = self._next_pool()
            self._pools += 1
        if not self._waiting:
            self._exhausted_after = ended
            return None if ended < len(self._networks) else tune.search.Searcher.FINISHED
        network = self._networks[trial_id] = self._waiting.pop(0)
        shared = {name: value for name, value in self.problem.trial_settings().items() if name not in self._given}
        return shared | {CHOICES: dict(network.choices)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """See :class:`ray.tune.search.Searcher`: note a result."""
        if METRIC in result:
            self._networks[trial_id].accuracy[int(result["epoch"])] = float(result[METRIC])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """See :class:`ray.tune.search.Searcher`: learn from a trial, which was stopped if epochs are missing."""
        network = self._networks[trial_id]
        if result and not error:
            self.on_trial_result(trial_id, result)
        complete = self.problem.config.epochs in network.accuracy
        network.ended = "failed" if error else "finished" if complete else "stopped"

    def save(self, checkpoint_path: str) -> None:
        """See :class:`ray.tune.search.Searcher`: write the state to a file."""
        state = {
            "networks": {trial: asdict(network) for trial, network in self._networks.items()},
            "waiting": [asdict(network) for network in self._waiting],
            "pools": self._pools,
            "domains": {name: list(options) for name, options in self._domains.options.items()},
        }
        Path(checkpoint_path).write_text(json.dumps(state))

    def restore(self, checkpoint_path: str) -> None:
        """See :class:`ray.tune.search.Searcher`: take the state from a file."""
        state = json.loads(Path(checkpoint_path).read_text())
        self._networks = {trial: _network(data) for trial, data in state["networks"].items()}
        self._waiting = [_network(data) for data in state["waiting"]]
        self._pools, self._domains, self._screener = state["pools"], Domains(state["domains"]), None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_screener": None}  # plug-ins from files cannot be pickled

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        os.environ.setdefault(PENDING, "8")

    # Proposing ---------------------------------------------------------------------------------------------------

    def _next_pool(self) -> list[_Network]:
        """The best new networks of a pool, in order of training."""
        config, screener = self.problem.config, self._open()
        known = {network.key for network in self._networks.values()}
        history = [self._trial(network) for network in self._networks.values() if network.ended]
        strategy = new_strategy(self.problem.strategy, seed(config.seed, "strategy", self._pools), history)
        rng = np.random.default_rng(seed(config.seed, "mutation", self._pools))
        share = decide(self._comparisons(), trained=len(history)).share
        order = np.random.default_rng(seed(config.seed, "order", self._pools))
        by_proxy = int(share * config.generation + order.random())  # on average, the share
        orders = TwoOrders(strategy, config.generation, with_proxy=by_proxy > 0)
        size = min(config.pool, strategy.pool_limit or config.pool)
        for proposal in pool(screener, strategy, size, known=known, history=history, rng=rng):
            if isinstance(proposal, Proposal):
                orders.add(proposal)
                if orders.complete:
                    break
        picks = mixed(orders.by_proxy(), orders.own(), of_first=by_proxy, count=config.generation)
        return [
            _Network(choices=dict(p.choices), key=p.key, generation=self._pools, proxy=self._proxy(p), by_proxy=by)
            for p, by in picks
        ]

    def _comparisons(self) -> list[tuple[list[float], list[float]]]:
        """By pool: the first accuracies of the networks that the proxy chose, and of those that the strategy chose."""
        compared: list[tuple[list[float], list[float]]] = [([], []) for _ in range(self._pools)]
        for network in self._networks.values():
            group = compared[network.generation][not network.by_proxy]
            if network.ended == "failed":
                group.append(self.problem.score.floor)
            elif network.accuracy:
                group.append(network.accuracy[min(network.accuracy)])
        return compared

    def _open(self) -> Screener:
        """The screener, with the options of all choices so far."""
        if self._screener is None:
            self._screener = self.problem.screener()
            self._screener.domains = self._domains
        return self._screener

    def _proxy(self, proposal: Proposal) -> float:
        """The score by the proxy, which a strategy's score may have replaced."""
        return float(self._open().proxy(proposal.architecture)) if proposal.ranked_by_strategy else proposal.score

    def _trial(self, network: _Network) -> Trial:
        """A network that was trained, for the strategy."""
        reached = network.accuracy if network.ended != "failed" else {}
        architecture = None
        if self.problem.strategy.reads_architectures:
            proposal = self._open().propose(replay(network.choices))
            architecture = proposal.architecture if isinstance(proposal, Proposal) else None
        return Trial(
            choices=network.choices,
            domains=self._domains.of(network.choices),
            value=reached[max(reached)] if reached else self.problem.score.floor,
            complete=network.ended != "stopped",
            intermediate=reached,
            generation=network.generation,
            architecture=architecture,
            proxy=network.proxy,
        )


def _network(data: Mapping[str, Any]) -> _Network:
    """A network from JSON, whose keys are texts."""
    return _Network(**{**data, "accuracy": {int(epoch): value for epoch, value in data["accuracy"].items()}})
