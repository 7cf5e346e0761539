"""Parts that the checks of all contracts share: the plug-in under test, named checks, and their failures."""

from __future__ import annotations

import contextlib
import inspect
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from nas.errors import PluginError, UserError
from nas.plugins import load_plugin, trust_named

Check = tuple[str, Callable[[], None]]
"""The name of a check, and a function without arguments that raises PluginError if the check fails."""
T = TypeVar("T")


@dataclass(frozen=True)
class Subject:
    """The plug-in under test.

    plugin: an object, a class, or the name or ``file.py:Name`` of one, which is loaded when a check runs.
    group: the entry point group that names are looked up in.
    """

    plugin: Any
    group: str

    def load(self) -> Any:
        """The plug-in itself."""
        if not isinstance(self.plugin, str):
            return self.plugin
        trust_named(self.plugin)
        return load_plugin(self.group, self.plugin)

    def instance(self) -> Any:
        """A new object of the plug-in's class."""
        loaded = self.load()
        return loaded() if isinstance(loaded, type) else type(loaded)()

    def __str__(self) -> str:
        if isinstance(self.plugin, str):
            return self.plugin
        return getattr(self.plugin, "__name__", type(self.plugin).__name__)


def named(checks: Sequence[Callable[[T], None]], subject: T) -> list[Check]:
    """The checks of a subject, each under the name of its function."""
    return [(name := check.__name__.removeprefix("_"), partial(_run, name, check, subject)) for check in checks]


def run_all(checks: Sequence[Check]) -> None:
    """Run checks in order; raises PluginError at the first failure."""
    for _, check in checks:
        check()


def require(condition: object, message: str) -> None:
    """Fail the running check with this message unless the condition holds."""
    if not condition:
        raise PluginError(message)


@contextlib.contextmanager
def global_randomness_untouched() -> Iterator[None]:
    """Fail the running check if the block draws from, or seeds, a global random generator."""
    before = _global_states()
    yield
    after = _global_states()
    touched = [name for name, state in before.items() if state != after[name]]
    require(not touched, f"Global random state must not be used. It changed in: {', '.join(touched)}.")


def has_docstring(plugin: Any) -> None:
    """Fail the running check unless the plug-in's docstring has a first line."""
    first_line = inspect.cleandoc(getattr(plugin, "__doc__", None) or "").partition("\n")[0].strip()
    require(first_line, "The docstring must begin with a one-line description, for listings. Got none.")


def _run(name: str, check: Callable[[T], None], subject: T) -> None:
    try:
        check(subject)
    except Exception as error:
        reason = str(error) if isinstance(error, UserError) else f"It raised {type(error).__name__}: {error}"
        raise PluginError(f"{subject} fails the check {name!r}. {reason}") from error


def _global_states() -> dict[str, Any]:
    states: dict[str, Any] = {
        "random": repr(random.getstate()),
        "numpy.random": repr(np.random.get_state(legacy=False)),  # noqa: NPY002
    }
    if "torch" in sys.modules:
        states["torch"] = sys.modules["torch"].get_rng_state().tolist()
    return states
