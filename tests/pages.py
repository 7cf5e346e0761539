"""Commands, Python and links of a Markdown page, and whether they exist."""

from __future__ import annotations

import ast
import pkgutil
import re
from pathlib import Path

from typer.main import get_command

from nas.cli.commands import app

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("nas", "results", "evaluators", "search_spaces")
COMMANDS = get_command(app).commands


def commands_of(page: Path) -> list[str]:
    """The lines of code blocks that call ``nas``."""
    return sorted(set(re.findall(r"^nas [^\n#]*", page.read_text(encoding="utf-8"), flags=re.MULTILINE)))


def unknown_options(line: str) -> set[str]:
    """The options of a command line that its command does not have; a KeyError if there is no such command."""
    words = line.split()
    options = {name for parameter in COMMANDS[words[1]].params for name in parameter.opts}
    return {word for word in words if word.startswith("--")} - options


def python_blocks(page: Path) -> list[str]:
    """The Python of a page."""
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def missing_names(block: str) -> set[str]:
    """The names of our packages in Python that do not exist; a SyntaxError if it does not parse."""
    names = {dotted_name(node) for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Attribute)}
    return {name for name in names if name.partition(".")[0] in PACKAGES and not exists(name)}


def dotted_name(node: ast.expr) -> str:
    """``nas.testing.check_kind`` of an expression; empty if it is not of this form."""
    if isinstance(node, ast.Name):
        return node.id
    if not isinstance(node, ast.Attribute):
        return ""
    holder = dotted_name(node.value)
    return f"{holder}.{node.attr}" if holder else ""


def exists(name: str) -> bool:
    """Whether a dotted name is a module or an attribute of one."""
    try:
        pkgutil.resolve_name(name)
    except (AttributeError, ImportError):
        return False
    return True


def links_of(page: Path) -> list[str]:
    """The files that a page links to."""
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    return sorted({link for link in links if "://" not in link})
