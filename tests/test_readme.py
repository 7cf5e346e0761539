"""Commands, options, Python code and files of the README exist, and the README is short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .pages import ROOT, commands_of, links_of, missing_names, python_blocks, unknown_options

README = Path(ROOT, "README.md")


def test_is_short():
    words = re.findall(r"\w[\w.'’-]*", README.read_text(encoding="utf-8"))
    assert 700 <= len(words) <= 950, len(words)


@pytest.mark.parametrize("line", commands_of(README))
def test_shown_commands_and_options_exist(line):
    assert not unknown_options(line)


@pytest.mark.parametrize("block", python_blocks(README))
def test_python_parses_and_names_exist(block):
    assert not missing_names(block)


@pytest.mark.parametrize("target", links_of(README))
def test_links_lead_somewhere(target):
    assert (ROOT / target).exists()


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make ([a-z-]+)", README.read_text(encoding="utf-8")):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
