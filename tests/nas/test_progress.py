"""Progress: a bar and lines on a terminal, only lines otherwise; errors never corrupt the output."""

from __future__ import annotations

import io
import re

import pytest

from nas.progress import Live, Silent, State


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
