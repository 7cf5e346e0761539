"""Directives whose content is read from the code and from the rows of benchmarks: settings, columns and tables.

In a page::

    ```{nas-settings}
    ```

The functions return Markdown; ``tests/test_docs.py`` compares it with the code.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from docutils import nodes
from docutils.parsers.rst import directives
from plots import rows
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from nas.config import CHANGEABLE, Config, default_of, description_of, option, settings_of
from nas.config.recipes import RECIPES
from nas.errors import InvalidArchitecture
from nas.evaluation.faults import TABLE
from nas.plugins import describe, load_plugin
from nas.representation.elements import Task
from nas.spaces.choices import Domains, Recorder, at_random
from nas.spaces.references import built_references
from results.columns import FRAMES
from results.measures import BUILT_IN
from results.schema import metadata

GROUPS = {
    "nas.search_spaces": "Search spaces",
    "nas.data": "Data",
    "nas.strategies": "Strategies",
    "nas.proxies": "Proxies",
    "nas.evaluators": "Evaluators",
    "nas.training_rules": "Training rules",
    "nas.kinds": "Kinds of operations",
}
"""Group of entry points → title in the reference."""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def settings_markdown() -> str:
    """All settings: name, option, type, default, meaning, and whether resuming may change them."""
    rows = []
    for each in settings_of(Config):
        form = {"study": "argument `STUDY`", "spaces": "`--space`"}.get(each.name, f"`{option(each.name)}`")
        default = default_of(each)
        rows.append(
            (
                f"`{'space' if each.name == 'spaces' else each.name}`",
                form,
                each.type.removesuffix(" | None").replace("tuple[str, ...]", "str"),
                default if default is not None else "none",
                description_of(each).help,
                "yes" if each.name in CHANGEABLE else "",
            )
        )
    return table(("setting", "option", "type", "default", "meaning", "changes on resume"), rows)


def recipes_markdown() -> str:
    """The recipes, with the settings that differ from the default."""
    usual = RECIPES["default"].settings()
    rows = []
    for name, recipe in RECIPES.items():
        settings = recipe.settings() if name == "default" else _changes(recipe.settings(), usual)
        listed = ", ".join(f"{key}={show_setting(value)}" for key, value in settings.items() if value is not None)
        rows.append((f"`{name}`", listed, f"`{recipe.rule}`" if recipe.rule else "of the space"))
    return table(("recipe", "settings", "training rule"), rows)


def _changes(settings: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value != usual[name]}


def show_setting(value: Any) -> str:
    """A setting as it is typed."""
    return str(value).lower() if isinstance(value, bool) else f"{value:.3g}" if isinstance(value, float) else str(value)


def failures_markdown() -> str:
    """Whose fault each kind of failure is, and whether the training is first repeated."""
    rows = [(kind.failure, kind.owner.value, "once, alone" if kind.repeated else "") for kind in TABLE]
    return table(("failure", "whose fault", "repeated first"), rows)


def frames_markdown() -> str:
    """The columns of the DataFrames that a store returns, a section per method."""
    sections = []
    for name, columns in FRAMES.items():
        rows = [(f"`{column.name}`", column.type, column.unit, column.meaning) for column in columns]
        sections.append(f"### `store.{name}`\n\n{table(('column', 'type', 'unit', 'meaning'), rows)}")
    return "\n\n".join(sections)


def tables_markdown() -> str:
    """The columns of the tables of the database, a section per table."""
    sections = []
    for name, stored in sorted(metadata.tables.items()):
        rows = [
            (
                f"`{column.name}`",
                str(column.type),
                "" if column.nullable else "required",
                column.info.get("unit", ""),
                column.doc or "",
            )
            for column in stored.columns
        ]
        sections.append(f"### Table `{name}`\n\n{table(('column', 'type', '', 'unit', 'meaning'), rows)}")
    return "\n\n".join(sections)


def installed_markdown() -> str:
    """The installed plug-ins, a section per kind."""
    sections = []
    for group, title in GROUPS.items():
        rows = [(f"`{name}`", text) for name, text in describe(group).items()]
        sections.append(f"## {title}\n\n{table(('name', 'description'), rows)}")
    return "\n\n".join(sections)


def measures_markdown() -> str:
    """The built-in measures."""
    rows = [(f"`{each.name}`", each.unit, "larger" if each.maximise else "smaller", each.meaning) for each in BUILT_IN]
    return table(("measure", "unit", "better if", "meaning"), rows)


def choices_markdown(space: str, *, proposals: int = 60) -> str:
    """The choices that random proposals of a search space make; one row for all stages or blocks with equal options."""
    domains, rng, task = Domains(), np.random.default_rng(0), Task(input_shape=(3, 32, 32), num_classes=10)
    for _ in range(proposals):
        with contextlib.suppress(InvalidArchitecture):
            load_plugin("nas.search_spaces", space)().architecture(Recorder(at_random(rng), domains), task)
    rows: dict[tuple[str, str], None] = {}
    for name, options in domains.options.items():
        name = re.sub(r"\b\d+\b", "i", re.sub(r"\b\d+\.\d+\b", "i.j", name))
        rows[name, ", ".join(map(str, options))] = None
    return table(("choice", "options"), ((f"`{name}`", options) for name, options in sorted(rows)))


def references_markdown(space: str) -> str:
    """The references of a search space, with the millions of MACs of their operating points."""
    task = Task(input_shape=(3, 32, 32), num_classes=10)
    rows = []
    for each in built_references(load_plugin("nas.search_spaces", space)(), task):
        cost = ", ".join(f"{macs / 1e6:.3g}" for macs in each.architecture.costs)
        rows.append((each.reference.name, cost, f"`{each.architecture.training.rule}`", each.reference.origin))
    return table(("reference", "MACs in millions", "training rule", "origin"), rows)


class Generated(SphinxDirective):
    """A directive that shows the Markdown of a function."""

    has_content = False
    markdown: ClassVar[Callable[[], str]]

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(type(self).markdown(), allow_section_headings=True)


def generated(function: Callable[[], str]) -> type[Generated]:
    """The directive of a function."""
    return type(function.__name__, (Generated,), {"markdown": staticmethod(function)})


class Choices(SphinxDirective):
    """The table of the choices of a search space."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(choices_markdown(self.arguments[0]))


class References(SphinxDirective):
    """The table of the references of a search space."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(references_markdown(self.arguments[0]))


class Rows(SphinxDirective):
    """A table of rows of a benchmark, chosen by a pandas query and by columns."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"columns": directives.unchanged, "where": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        frame = rows(self.arguments[0])
        if "where" in self.options:
            frame = frame.query(self.options["where"])
        names = self.options.get("columns", " ".join(frame.columns)).split()
        cells = ([show_cell(value) for value in row] for row in frame[names].itertuples(index=False))
        return self.parse_text_to_nodes(table(names, cells))


def show_cell(value: Any) -> str:
    """A value of a table: numbers with four significant digits or as integers, nothing for NaN."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{int(value):,}" if value.is_integer() else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directives."""
    app.add_directive("nas-rows", Rows)
    app.add_directive("nas-choices", Choices)
    app.add_directive("nas-references", References)
    for function in (
        settings_markdown,
        recipes_markdown,
        failures_markdown,
        frames_markdown,
        tables_markdown,
        measures_markdown,
        installed_markdown,
    ):
        app.add_directive("nas-" + function.__name__.removesuffix("_markdown"), generated(function))
    return {"parallel_read_safe": True, "version": "1"}
