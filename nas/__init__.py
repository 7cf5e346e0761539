"""Neural architecture search for anytime networks: networks that answer under any compute budget.

>>> import nas
>>> task = nas.Task(input_shape=(1, 8, 8), num_classes=10)
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from os.path import abspath, dirname, join, realpath
from typing import TYPE_CHECKING, Any


def _check_siblings() -> None:
    """Raise ImportError if a user's file or folder hides one of the packages that are installed beside this one."""
    root = dirname(dirname(abspath(__file__)))
    for name in ("results", "evaluators", "search_spaces"):
        spec = find_spec(name)
        places = list(spec.submodule_search_locations or [str(spec.origin)]) if spec else ["nothing"]
        if realpath(join(root, name)) not in map(realpath, places):
            raise ImportError(f"nas needs its own package {name!r}. Got {places[0]}: rename or move it.")


_check_siblings()

if TYPE_CHECKING:
    from evaluators.data import load_data
    from nas.chain.graph import to_networkx
    from nas.deploy.controllers import throttle
    from nas.deploy.select import select
    from nas.deploy.train import train
    from nas.errors import InvalidArchitecture, UserError
    from nas.evaluation.evaluator import Evaluator
    from nas.evaluation.training_rules import TrainingRule
    from nas.execution.controlled_network import ControlledNetwork
    from nas.execution.controller import Controller
    from nas.execution.gate_policy import GatePolicy
    from nas.execution.loading import load
    from nas.execution.network import AnytimeNetwork
    from nas.launch import resume, search
    from nas.plugins import trust
    from nas.proxies.contract import Proxy
    from nas.representation.architecture import Architecture, macs, params
    from nas.representation.builder import Builder
    from nas.representation.elements import FeatureMap, Operation, Subnetwork, Task, TrainingSpec
    from nas.representation.kinds import Kind
    from nas.representation.topology import Topology
    from nas.spaces.choices import Choose
    from nas.spaces.contract import SearchSpace
    from nas.spaces.references import Reference
    from nas.strategies.contract import Strategy
    from nas.study import Study
    from results.measures import Measure
    from results.store import open_store

_NAMES_OF_MODULE = {
    "evaluators.data": ("load_data",),
    "nas.chain.graph": ("to_networkx",),
    "nas.deploy.controllers": ("throttle",),
    "nas.deploy.select": ("select",),
    "nas.deploy.train": ("train",),
    "nas.errors": ("InvalidArchitecture", "UserError"),
    "nas.evaluation.evaluator": ("Evaluator",),
    "nas.evaluation.training_rules": ("TrainingRule",),
    "nas.execution.controlled_network": ("ControlledNetwork",),
    "nas.execution.controller": ("Controller",),
    "nas.execution.gate_policy": ("GatePolicy",),
    "nas.execution.network": ("AnytimeNetwork",),
    "nas.execution.loading": ("load",),
    "nas.launch": ("resume", "search"),
    "nas.plugins": ("trust",),
    "nas.proxies.contract": ("Proxy",),
    "nas.representation.architecture": ("Architecture", "macs", "params"),
    "nas.representation.builder": ("Builder",),
    "nas.representation.elements": ("FeatureMap", "Operation", "Subnetwork", "Task", "TrainingSpec"),
    "nas.representation.kinds": ("Kind",),
    "nas.representation.topology": ("Topology",),
    "nas.spaces.choices": ("Choose",),
    "nas.spaces.contract": ("SearchSpace",),
    "nas.spaces.references": ("Reference",),
    "nas.strategies.contract": ("Strategy",),
    "nas.study": ("Study",),
    "results.measures": ("Measure",),
    "results.store": ("open_store",),
}
_MODULE_OF = {name: module for module, names in _NAMES_OF_MODULE.items() for name in names}

__all__ = [
    "AnytimeNetwork",
    "Architecture",
    "Builder",
    "Choose",
    "ControlledNetwork",
    "Controller",
    "Evaluator",
    "FeatureMap",
    "GatePolicy",
    "InvalidArchitecture",
    "Kind",
    "Measure",
    "Operation",
    "Proxy",
    "Reference",
    "SearchSpace",
    "Strategy",
    "Study",
    "Subnetwork",
    "Task",
    "Topology",
    "TrainingRule",
    "TrainingSpec",
    "UserError",
    "load",
    "load_data",
    "macs",
    "open_store",
    "params",
    "resume",
    "search",
    "select",
    "throttle",
    "to_networkx",
    "train",
    "trust",
]


def __getattr__(name: str) -> Any:
    """Names are imported when first used: `import nas` is quick and needs no torch."""
    if name == "tune":  # Ray Tune is imported with it
        return importlib.import_module("nas.tune")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'nas' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
