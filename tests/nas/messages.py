"""The messages that a module can raise, so that a test can require that each is tested."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable
from types import ModuleType


def untested(module: ModuleType, messages: Iterable[str], error: str = "InvalidArchitecture") -> set[str]:
    """The longest constant part of every message of a kind of error in a module that no tested message contains."""
    parts = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and getattr(node.exc.func, "id", "") == error:
            text = node.exc.args[0]
            pieces = text.values if isinstance(text, ast.JoinedStr) else [text]
            parts.add(max((p.value for p in pieces if isinstance(p, ast.Constant)), key=len))
    tested = list(messages)
    return {part for part in parts if not any(part in message for message in tested)}
