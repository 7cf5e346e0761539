"""The documentation describes the code as it is; `make docs` checks references and builds the pages."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from dataclasses import fields

import pytest

import nas
import nas.testing
from nas.config import Config
from nas.evaluation import faults
from nas.plugins import installed
from results.columns import FRAMES, names
from results.schema import metadata
from results.store import Store

from .pages import COMMANDS, ROOT, commands_of, links_of, missing_names, python_blocks, unknown_options
from .test_layout import ORDER

DOCS = ROOT / "docs"
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts]
EXTENSIONS = str(DOCS / "_ext")


@pytest.fixture(scope="module")
def generated():
    pytest.importorskip("sphinx")
    sys.path.insert(0, EXTENSIONS)
    try:
        import generated

        yield generated
    finally:
        sys.path.remove(EXTENSIONS)


def first_column(markdown: str) -> list[str]:
    """The names in the first column of a Markdown table."""
    return re.findall(r"^\| `([^`]+)`", markdown, flags=re.MULTILINE)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_has_help(name):
    assert COMMANDS[name].help
    assert all(getattr(parameter, "help", "") for parameter in COMMANDS[name].params if parameter.name != "help")


def test_reference_shows_every_command():
    page = (DOCS / "reference/command-line.md").read_text(encoding="utf-8")
    assert ".. typer:: nas.cli.commands:app" in page
    assert ":show-nested:" in page


@pytest.mark.parametrize(("page", "line"), [(page, line) for page in PAGES for line in commands_of(page)])
def test_shown_commands_and_options_exist(page, line):
    assert not unknown_options(line)


@pytest.mark.parametrize(("page", "block"), [(page, block) for page in PAGES for block in python_blocks(page)])
def test_python_parses_and_names_exist(page, block):
    assert not missing_names(block)


@pytest.mark.parametrize(
    ("page", "target"), [(page, link) for page in PAGES for link in links_of(page) if not link.count("plots/")]
)
def test_links_lead_somewhere(page, target):
    assert (page.parent / target).exists()


def test_api_lists_every_public_name():
    page = (DOCS / "reference/api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^   (\w+)$", page, flags=re.MULTILINE)) == sorted(nas.__all__)


def test_page_of_checks_lists_every_check():
    page = (DOCS / "reference/testing.md").read_text(encoding="utf-8")
    checks = [name for name in nas.testing.__all__ if name not in ("Check", "TASKS")]
    assert sorted(re.findall(r"^   (\w+)$", page, flags=re.MULTILINE)) == sorted(checks)


def test_page_of_search_spaces_lists_every_space_and_network():
    page = (DOCS / "reference/search-spaces.md").read_text(encoding="utf-8")
    spaces = {name: entry.module for name, entry in installed("nas.search_spaces").items()}
    for directive in ("nas-choices", "nas-references"):
        assert sorted(re.findall(rf"{{{directive}}} (\w+)", page)) == sorted(spaces)
    networks = set()
    for module in map(importlib.import_module, spaces.values()):
        for name, each in inspect.getmembers(module, inspect.isfunction):
            if each.__module__ == module.__name__ and each.__annotations__["return"] == "Architecture":
                networks.add(name)
    listed = set(re.findall(r"^   ([a-z]\w+)$", page, flags=re.MULTILINE))
    assert listed == {name for name in networks if not name.startswith("_")}


def test_choices_of_a_space_are_listed(generated):
    listed = generated.choices_markdown("slimmable", proposals=20)
    assert "| `norm` | per_point, recalibrated |" in listed
    assert "| `i.j kernel` | 3, 5 |" in generated.choices_markdown("mobile", proposals=20)


def test_references_of_a_space_are_listed(generated):
    listed = generated.references_markdown("slicing")
    assert "| block-triangular ResNeXt, width 48, 48 branches | " in listed
    assert " | `causal` | " in listed


def test_failures_lists_every_kind(generated):
    lines = generated.failures_markdown().splitlines()[2:]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == [kind.failure for kind in faults.TABLE]


def test_settings_lists_every_setting(generated):
    names = ["space" if each.name == "spaces" else each.name for each in fields(Config)]
    assert sorted(first_column(generated.settings_markdown())) == sorted(names)


def test_contributing_names_files_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = set(
        re.findall(r"`((?:nas|evaluators|results|search_spaces|tests|docs|examples|benchmarks)/[\w./]*)`", text)
    )
    assert len(paths) > 20
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_contributing_lists_the_packages_in_the_order_of_imports():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)(?:/|\.py)` \|", text, flags=re.MULTILINE)
    packages = [name.removeprefix("nas.") for name in ORDER]
    assert listed == packages[packages.index("representation") :]


def sections(markdown: str) -> dict[str, list[str]]:
    """Name of a section → names in the first column of its table, in order."""
    parts = re.split(r"^### (?:Table )?`(?:store\.)?(\w+)`$", markdown, flags=re.MULTILINE)[1:]
    return {name: first_column(text) for name, text in zip(parts[::2], parts[1::2])}


def test_tables_list_every_column_and_nothing_else(generated):
    expected = {name: list(stored.columns.keys()) for name, stored in metadata.tables.items()}
    assert sections(generated.tables_markdown()) == expected
    assert all(column.doc for stored in metadata.tables.values() for column in stored.columns)


def test_frames_list_every_column_and_nothing_else(generated):
    listed = sections(generated.frames_markdown())
    assert listed == {name: names(name) for name in FRAMES}
    assert all(callable(getattr(Store, name)) for name in listed)


def test_page_of_tables_shows_all_of_them():
    page = (DOCS / "reference/tables.md").read_text(encoding="utf-8")
    assert re.findall(r"{nas-(\w+)}", page) == ["frames", "measures", "tables"]


def test_installed_lists_every_entry_point(generated):
    listed = first_column(generated.installed_markdown())
    assert listed == [name for group in generated.GROUPS for name in installed(group)]


def test_every_question_has_a_page_and_a_plot(generated):
    import plots

    pages = {page.stem for page in (DOCS / "evidence").glob("*.md")} - {
        "index",
        "search",
        "pays",
    }  # benchmarks draw those of the last two
    assert set(plots.PLOTS) == pages


def test_plots_are_drawn(generated, tmp_path):
    import plots

    for name in plots.PLOTS:
        plots.draw(name, tmp_path / f"{name}.svg")
        assert (tmp_path / f"{name}.svg").stat().st_size > 1_000
