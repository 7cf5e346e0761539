"""Neural architecture search for anytime networks: networks that answer under whatever compute they are given.

>>> import nas
>>> task = nas.Task(input_shape=(1, 8, 8), num_classes=10)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import results

if not hasattr(results, "StoreError"):
    _found = getattr(results, "__file__", None) or list(results.__path__)
    raise ImportError(f"nas needs its own package 'results', and {_found} hides it: rename or move that.")

if TYPE_CHECKING:
    from nas.deploy.controllers import throttle
    from nas.deploy.select import select
    from nas.errors import InvalidArchitecture, UserError
    from nas.execution.controller import Controller
    from nas.execution.gate_policy import GatePolicy
    from nas.execution.network import AnytimeNetwork
    from nas.execution.serialization import load
    from nas.funnel.launch import resume, search
    from nas.representation.builder import Builder
    from nas.representation.cost import macs, params
    from nas.representation.topology import Architecture, FeatureMap, Operation, Subnetwork, Task, Topology, Training
    from nas.study import Study

_WHERE = {
    "nas.representation.builder": ("Builder",),
    "nas.deploy.select": ("select",),
    "nas.execution.controller": ("Controller",),
    "nas.representation.cost": ("macs", "params"),
    "nas.errors": ("InvalidArchitecture", "UserError"),
    "nas.execution.gate_policy": ("GatePolicy",),
    "nas.execution.serialization": ("load",),
    "nas.execution.network": ("AnytimeNetwork",),
    "nas.funnel.launch": ("resume", "search"),
    "nas.study": ("Study",),
    "nas.deploy.controllers": ("throttle",),
    "nas.representation.topology": (
        "Architecture",
        "FeatureMap",
        "Operation",
        "Subnetwork",
        "Task",
        "Topology",
        "Training",
    ),
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "AnytimeNetwork",
    "Architecture",
    "Builder",
    "Controller",
    "FeatureMap",
    "GatePolicy",
    "InvalidArchitecture",
    "Operation",
    "Study",
    "Subnetwork",
    "Task",
    "Topology",
    "Training",
    "UserError",
    "load",
    "macs",
    "params",
    "resume",
    "search",
    "select",
    "throttle",
]


def __getattr__(name: str) -> Any:
    """Names are imported when first used: `import nas` is quick and needs no torch."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'nas' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
