"""Progress: a bar and lines on a terminal, only lines otherwise; errors never corrupt the output."""

from __future__ import annotations

import io
import re
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest

from nas.progress import NOTEBOOK_SECONDS, Live, Notebook, Silent, State, for_python


class Terminal(io.StringIO):
    """Text that believes to be shown."""

    def isatty(self):
        return True


STATE = State(stage="generation 1", done=3, total=10, trained=2, best=0.51234, seconds_left=65)


@pytest.mark.parametrize("text", ["plain", "Got levels [0, 1, 2] of [/tmp/x] in [red]", "naïve – λ"])
def test_lines_on_a_terminal_are_shown_as_they_are(monkeypatch, text):
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with Live() as progress:
        progress.say(text)
        progress.show(STATE)
    assert text in terminal.getvalue().replace("\n", "")


def test_lines_elsewhere(monkeypatch):
    for lines, expected in ((True, "one\n"), (False, "")):
        monkeypatch.setattr("sys.stderr", file := io.StringIO())
        with Live(lines=lines) as progress:
            progress.say("one")
            progress.show(STATE)
        assert file.getvalue() == expected


def test_a_line_per_minute_without_a_terminal(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("nas.progress.time.monotonic", lambda: now[0])
    for lines in (True, False):
        monkeypatch.setattr("sys.stderr", file := io.StringIO())
        now[0] = 0.0
        with Live(lines=lines) as progress:
            for second in range(0, 150, 10):
                now[0] = second
                progress.show(STATE)
        shown = file.getvalue().splitlines()
        assert len(shown) == 2 * lines
        for text in shown:
            assert re.fullmatch(r"\d\d:\d\d generation 1 · 30 % · 2 trained · best 0.5123 · ETA 1 min 05 s", text)


def test_a_bar_shows_stage_counts_best_and_time_left(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with Live() as progress:
        progress.show(STATE)
        assert progress._bar is not None
        progress._bar.refresh()
    for words in ("generation 1", "30%", "2 trained", "best 0.5123", "ETA 1 min 05 s"):
        assert words in terminal.getvalue()


@pytest.mark.parametrize("change", [{"total": 0.0}, {"best": None}, {"seconds_left": None}, {"done": 20.0}])
def test_a_bar_takes_whatever_is_not_known_yet(monkeypatch, change):
    monkeypatch.setattr("sys.stderr", Terminal())
    state = {name: getattr(STATE, name) for name in State.__slots__} | change
    with Live() as progress:
        progress.show(State(**state))


def test_silence(capsys):
    Silent().say("x")
    Silent().show(STATE)
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def shown(monkeypatch):
    """What a notebook shows, by cell output: the present HTML of each."""
    outputs = []

    class Handle:
        def __init__(self, html):
            outputs.append(html)
            self.place = len(outputs) - 1

        def update(self, html):
            outputs[self.place] = html

    shell = ModuleType("IPython")
    shell.get_ipython = lambda: SimpleNamespace(kernel=object())
    display = ModuleType("IPython.display")
    display.HTML = str
    display.display = lambda html, display_id: Handle(html)
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return outputs


def test_a_notebook_has_one_bar_that_changes(shown, monkeypatch, capsys):
    now = [10.0]
    monkeypatch.setattr("nas.progress.time.monotonic", lambda: now[0])
    progress = for_python()
    assert isinstance(progress, Notebook)
    progress.show(replace(STATE, stage="generation <1>"))
    assert len(shown) == 1
    assert 'value="0.3000"' in shown[0]
    assert "generation &lt;1&gt; · 30 % · 2 trained · best 0.5123" in shown[0]
    progress.show(replace(STATE, done=9))
    assert 'value="0.3000"' in shown[0], "too early"
    now[0] += NOTEBOOK_SECONDS
    progress.show(replace(STATE, done=9))
    assert len(shown) == 1
    assert 'value="0.9000"' in shown[0]
    progress.say("one")
    assert capsys.readouterr().out == "one\n"


def test_a_script_has_no_display():
    assert isinstance(for_python(), Silent)
