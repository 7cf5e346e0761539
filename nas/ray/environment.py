"""The user's code on the nodes of a cluster.

It travels through the object store, because plug-ins become known while a search runs, and Ray's runtime environments
are fixed when a program joins the cluster. Whoever joins a cluster may run code there, so nodes do not ask for consent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import ray

from nas.evaluation.evaluator import LoadedData
from nas.plugins import installed
from nas.plugins.code import Code, Plugin, code_of
from nas.workers.session import EvaluatorCall


class CodeSender:
    """Sends the user's code to workers, when a plug-in is first used.

    Parameters
    ----------
    plugins
        Those that every worker loads.
    """

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        self._plugins: set[Plugin] = set()
        self._code = Code()
        self._reference: ray.ObjectRef | None = None
        self.reference(plugins)

    def reference(self, plugins: Iterable[Plugin] = ()) -> ray.ObjectRef | None:
        """Reference to all code so far and the code of these plug-ins; None if every node has it.

        Raises
        ------
        UserError
            If the code is too large. PluginError: a file does not exist, or the user has not consented to run it.
        """
        if new := set(plugins) - self._plugins:
            self._plugins |= new
            code = self._code.with_new(code_of(new))
            if code != self._code:
                self._code, self._reference = code, ray.put(code)
        return self._reference


def plugins_of_worker(call: EvaluatorCall, data: LoadedData | None) -> set[Plugin]:
    """The plug-ins that every worker loads: its evaluator, and its data if they are not in memory."""
    plugins = {("nas.evaluators", call.evaluator)}
    if data is None and isinstance(call.data, str):
        kind = call.data.partition(":")[0]
        if kind.endswith(".py"):
            plugins.add(("nas.data", call.data))
        elif kind in installed("nas.data"):
            plugins.add(("nas.data", kind))
    return plugins


def plugins_of_job(architecture: Mapping[str, Any]) -> set[Plugin]:
    """The plug-ins that a job needs beside these: its training rule, and the kinds of its operations."""
    plugins = {("nas.kinds", operation["kind"]) for operation in architecture.get("operations", ())}
    if rule := architecture.get("training", {}).get("rule"):
        plugins.add(("nas.training_rules", rule))
    return plugins
