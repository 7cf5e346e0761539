"""The machines of a search's workers: equal ones give equal rows, and a mixture of them is reported."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_NAMES = {
    "device": "device",
    "cpu": "CPU",
    "instructions": "instructions",
    "torch": "torch",
    "blas": "BLAS",
    "program": "anytime-nas",
}
"""Properties of a machine → their names in messages."""
_FEW = 3


def usable_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the results of a worker depend on beside its job. Empty text: unknown, or not used.

    device: "CPU", or the name of the GPU. cpu: model. instructions: the set that torch uses, such as AVX512. torch:
    its version. blas: the library. program: version of this project.
    """

    device: str = "CPU"
    cpu: str = ""
    instructions: str = ""
    torch: str = ""
    blas: str = ""
    program: str = ""

    @staticmethod
    def present(device: str) -> Machine:
        """Describe this machine, as a process sees it after its evaluator is loaded.

        Parameters
        ----------
        device
            Name of the torch device of the training, or "auto".
        """
        torch: Any = sys.modules.get("torch")  # of evaluators that do not use it, it has no influence
        try:
            program = version("anytime-nas")
        except PackageNotFoundError:
            program = ""
        if torch is None:
            return Machine(cpu=_cpu(), program=program)
        on_gpu = torch.cuda.is_available() and device.partition(":")[0] in ("auto", "cuda")
        return Machine(
            device=torch.cuda.get_device_name() if on_gpu else "CPU",
            cpu=_cpu(),
            instructions=torch.backends.cpu.get_cpu_capability(),
            torch=torch.__version__,
            blas=torch.__config__.show().partition("BLAS_INFO=")[2].partition(",")[0],
            program=program,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data: the arguments of the constructor."""
        return asdict(self)


class Machines:
    """The machines of the workers so far, by the name of their node."""

    def __init__(self) -> None:
        self._of_node: dict[str, Machine] = {}

    def add(self, node: str, machine: Machine) -> str | None:
        """Note the machine of a worker.

        Returns
        -------
        str or None
            A sentence, if it is of a kind that the search has not used before, and not the first.
        """
        known = set(self._of_node.values())
        self._of_node[node] = machine
        if not known or machine in known:
            return None
        return mixture(self._of_node)


def mixture(machines: Mapping[str, Machine]) -> str | None:
    """The differences between nodes in a sentence; None for equal ones."""
    differences = []
    for each in fields(Machine):
        nodes: dict[str, list[str]] = {}
        for node, machine in machines.items():
            nodes.setdefault(getattr(machine, each.name) or "unknown", []).append(node)
        if len(nodes) > 1:
            values = ", ".join(f"{value} on {_few(names)}" for value, names in sorted(nodes.items()))
            differences.append(f"{_NAMES[each.name]} {values}")
    if not differences:
        return None
    return f"The nodes differ, so equal trainings may give different rows: {'; '.join(differences)}."


def _few(names: list[str]) -> str:
    """Up to three names."""
    more = len(names) - _FEW
    return " and ".join(filter(None, [", ".join(names[:_FEW]), f"{more} more" if more > 0 else ""]))


@cache
def _cpu() -> str:
    """The model of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
