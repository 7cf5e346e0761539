"""Every message that a module can raise, so that a test can see to it that each is tested."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable
from types import ModuleType


def untested(module: ModuleType, seen: Iterable[str], error: str = "InvalidArchitecture") -> set[str]:
    """The constant beginnings of the messages of a kind of error in a module that none of the seen texts holds."""
    found = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and getattr(node.exc.func, "id", "") == error:
            text = node.exc.args[0]
            pieces = text.values if isinstance(text, ast.JoinedStr) else [text]
            constants = [p.value for p in pieces if isinstance(p, ast.Constant)]
            found.add(max(constants, key=len))
    seen = list(seen)
    return {text for text in found if not any(text in other for other in seen)}
