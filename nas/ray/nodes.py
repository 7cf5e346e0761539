"""The nodes of a cluster: their resources, and how many trainings fit."""

from __future__ import annotations

import json
import math
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray

ANSWER_SECONDS = 30.0
"""Time in which a cluster behind ``ray://`` must answer a question about itself."""
HEAD = "node:__internal_head__"
"""The resource that only the head of a cluster has."""
NODE_LABEL = "ray.io/node-id"
"""The label by which actors are kept away from nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The resources that a training reserves. custom: amounts by name."""

    cpus: float = 1.0
    gpus: float = 0.0
    custom: Mapping[str, float] = field(default_factory=dict)

    @property
    def amounts(self) -> dict[str, float]:
        """Amounts by Ray's names of resources; those of zero are left out."""
        every = {"CPU": self.cpus, "GPU": self.gpus, **self.custom}
        return {name: amount for name, amount in every.items() if amount > 0}

    def __str__(self) -> str:
        return ", ".join(f"{amount:g} {name}" for name, amount in self.amounts.items()) or "nothing"

    def options(self, avoided: Iterable[str]) -> dict[str, Any]:
        """Options of an actor. avoided: ids of nodes that it must not run on."""
        options: dict[str, Any] = {"num_cpus": self.cpus, "num_gpus": self.gpus, "resources": dict(self.custom)}
        if names := sorted(avoided):
            options["label_selector"] = {NODE_LABEL: f"!in({','.join(names)})"}
        return options


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node that is alive. name: its host or address. resources: total amounts by name."""

    id: str
    name: str
    resources: Mapping[str, float]

    def slots(self, request: Request) -> int:
        """How many trainings with this request fit."""
        shares = [self.resources.get(name, 0.0) / amount for name, amount in request.amounts.items()]
        return math.floor(min(shares) + 1e-9) if shares else 1


def living_nodes(avoided: Container[str] = ()) -> list[Node]:
    """The nodes that are alive, without those that are avoided."""
    return [
        Node(id=node["NodeID"], name=node["NodeManagerHostname"] or node["NodeName"], resources=node["Resources"])
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] not in avoided
    ]


def node_names() -> dict[str, str]:
    """Names of the nodes by address; the empty address is of the head."""
    names = {node["NodeManagerAddress"]: node["NodeManagerHostname"] for node in ray.nodes()}
    head = [node["NodeManagerHostname"] for node in ray.nodes() if HEAD in node["Resources"]]
    return names | {"": head[0] if head else "head"}


def described(nodes: Iterable[Node]) -> str:
    """The resources of nodes, for messages."""
    kinds: dict[str, int] = {}
    for node in nodes:
        amounts = {
            name: amount
            for name, amount in node.resources.items()
            if not name.startswith(("node:", "accelerator_type:")) and "memory" not in name
        }
        text = ", ".join(f"{amount:g} {name}" for name, amount in sorted(amounts.items())) or "nothing"
        kinds[text] = kinds.get(text, 0) + 1
    return "; ".join(f"{count} × {text}" for text, count in sorted(kinds.items())) or "no nodes"


def autoscales() -> bool:
    """Whether an autoscaler may add nodes to the cluster. A client behind ``ray://`` asks a node."""
    if not ray.util.client.ray.is_connected():
        return _autoscales()
    try:
        return bool(ray.get(ray.remote(num_cpus=0)(_autoscales).remote(), timeout=ANSWER_SECONDS))
    except ray.exceptions.RayError:  # no node has answered
        return False


def _autoscales() -> bool:
    """The answer of a member of the cluster. Without autoscaler each node is reported as a type "node_ID"."""
    from ray.autoscaler.v2.utils import is_autoscaler_v2
    from ray.experimental.internal_kv import _internal_kv_get

    if is_autoscaler_v2():
        return True
    status = json.loads(_internal_kv_get(b"__autoscaling_status") or "{}")
    types = status.get("autoscaler_report", {}).get("active_nodes", {})
    return any(not name.startswith("node_") for name in types)
