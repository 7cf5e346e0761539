"""The spaces of a search that names none: the installed ones that suit; a study keeps its own."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

import results
from nas.errors import PluginError, UserError
from nas.funnel.preparing import default_spaces as module
from nas.funnel.preparing.default_spaces import default_spaces
from nas.launch import preview, resume
from nas.plugins import installed, loading
from nas.reporting.console import study_status
from nas.representation.elements import Task
from nas.study import Study
from search_spaces.cells import Cells
from search_spaces.tips import Tips

from ..searching import config, search, space

TASK = Task(input_shape=(1, 8, 8), num_classes=10)
pytestmark = pytest.mark.usefixtures("in_process")


@pytest.fixture
def install(monkeypatch):
    """Makes spaces of tests/plugins/spaces.py the installed ones, under their names in small letters."""

    def replace(*names):
        found = [EntryPoint(name.lower(), f"tests.plugins.spaces:{name}", "nas.search_spaces") for name in names]
        monkeypatch.setattr(loading, "entry_points", lambda group: [each for each in found if each.group == group])
        monkeypatch.setattr(module, "installed", lambda group: [each.name for each in found])

    return replace


def test_the_spaces_for_images_are_the_default():
    names = {"mobile", "residual", "slicing", "slimmable", "stepping", "throttleable"}
    spaces, left_out = default_spaces(config(spaces=()), TASK)
    assert set(spaces) == names
    assert not left_out
    assert set(installed("nas.search_spaces")) - names == {"cells", "tips"}
    assert Cells.by_name_only  # its networks are enumerated in tables
    assert Tips.by_name_only


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("Refuses", {}, "Only sounds are served"),
        ("Raises", {}, "failed on 20 proposals"),
        ("Unmakeable", {}, "must be made without arguments"),
        ("NoMethod", {}, "must have a method architecture"),
        ("One", {"max_macs": 5_000}, "above --max-macs 5,000"),
        ("One", {"low": 1_000}, "(--low)"),
        ("Invalid", {}, "64 random proposals are not feasible"),
    ],
)
def test_spaces_that_do_not_suit_are_left_out_with_the_reason(install, name, settings, words):
    install("Six", name)
    spaces, left_out = default_spaces(config(spaces=(), **settings), TASK)
    assert list(spaces) == ["six"]
    assert words in left_out[name.lower()]


def test_a_space_that_the_rule_does_not_accept_is_left_out():
    spaces, left_out = default_spaces(config(spaces=(), rule="random_utilization"), TASK)
    assert list(spaces) == ["throttleable"]
    assert "gated modules" in left_out["residual"]


def test_none_that_suits(install):
    install("Refuses", "Raises")
    with pytest.raises(UserError, match=r"Got none of the installed ones. refuses: .* raises: .*Name a space"):
        default_spaces(config(spaces=()), TASK)


def test_a_mistake_in_the_settings_is_no_reason(install):
    install("Small")
    with pytest.raises(PluginError, match="Unknown proxy"):
        default_spaces(config(spaces=(), proxy="nonsense"), TASK)


def test_a_study_keeps_its_default_spaces_whatever_is_installed(install, store):
    install("Small", "Refuses")
    begun = search(store, spaces=(), train=3, generation=3)
    assert begun.config.spaces == ("small",)
    install("Small", "Six", "Refuses")
    assert "Spaces: small." in preview(config(spaces=(), generation=3), store=str(store))
    continued = search(store, spaces=(), train=5, generation=3)
    assert set(continued.candidates().space) == {"small"}
    resumed = resume("toy", store=str(store), train=6)
    assert resumed.config.spaces == ("small",)
    assert "refuses" in results.open(store).settings("toy")["_spaces_left_out"]


def test_a_study_with_named_spaces_is_not_continued_with_the_default(install, store):
    install("Small", "Six")
    search(store, spaces=(space(),), train=3, generation=3)
    with pytest.raises(results.SettingsDiffer, match=r"--space .*spaces.py:Small \(now small, six\)"):
        search(store, spaces=(), train=3, generation=3)


def test_a_preview_and_the_store_say_what_is_left_out_and_where_the_budgets_come_from(install, store):
    install("Small", "Refuses")
    lines = preview(config(spaces=()), store=str(store)).splitlines()
    assert any(line.startswith("Space refuses is left out: ") for line in lines)
    (budgets,) = (line for line in lines if line.startswith("Budgets: "))
    assert "(the median smallest point of random proposals of small)" in budgets
    search(store, spaces=(), train=3, generation=3)
    stored = results.open(store).settings("toy")
    assert stored["_budgets_from"] == {
        "low": "the median smallest point of random proposals of small",
        "high": "the largest random proposal",
    }
    search(store, spaces=(), train=4, generation=3)
    assert results.open(store).settings("toy")["_budgets_from"] == stored["_budgets_from"]
    assert budgets in preview(config(spaces=(), generation=3), store=str(store)).splitlines()
    status = study_status(Study("toy", store=str(store)))
    assert f"{budgets} Floor: " in status
    assert "Space refuses is left out: " in status
