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
    from nas.builder import Builder
    from nas.choosing import select
    from nas.controller import Controller
    from nas.cost import macs, params
    from nas.errors import InvalidArchitecture, UserError
    from nas.gate_policy import GatePolicy
    from nas.launch import resume, search
    from nas.loading import load
    from nas.network import AnytimeNetwork
    from nas.study import Study
    from nas.throttling import throttle
    from nas.topology import Architecture, FeatureMap, Operation, Subnetwork, Task, Topology, Training

_WHERE = {
    "nas.builder": ("Builder",),
    "nas.choosing": ("select",),
    "nas.controller": ("Controller",),
    "nas.cost": ("macs", "params"),
    "nas.errors": ("InvalidArchitecture", "UserError"),
    "nas.gate_policy": ("GatePolicy",),
    "nas.loading": ("load",),
    "nas.network": ("AnytimeNetwork",),
    "nas.launch": ("resume", "search"),
    "nas.study": ("Study",),
    "nas.throttling": ("throttle",),
    "nas.topology": ("Architecture", "FeatureMap", "Operation", "Subnetwork", "Task", "Topology", "Training"),
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
