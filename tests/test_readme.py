"""What the README shows exists: its commands and options, its Python, its files."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from typer.main import get_command

from nas.cli import app

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = get_command(app).commands
SHOWN = sorted(set(re.findall(r"^nas [^\n#]*", README, flags=re.MULTILINE)))


@pytest.mark.parametrize("line", SHOWN)
def test_shown_commands_have_these_options(line):
    words = line.split()
    command = COMMANDS[words[1]]
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_shown_and_has_help(name):
    assert any(line.split()[1] == name for line in SHOWN)
    assert COMMANDS[name].help
    assert all(getattr(parameter, "help", "") for parameter in COMMANDS[name].params if parameter.name != "help")


def test_python_parses_and_names_exist():
    import nas

    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "nas":
                assert hasattr(nas, node.attr), node.attr


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_links_lead_somewhere(target):
    assert (ROOT / target).exists()


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
