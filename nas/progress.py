"""Display of a running search: stage, counts, best result, estimated time left (ETA)."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from html import escape
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from results.text import clean_text

LINE_SECONDS = 60.0
"""Time between two lines without a terminal."""
NOTEBOOK_SECONDS = 0.25
"""Time between two updates in a notebook."""

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """State of a running search.

    Parameters
    ----------
    stage
        The present step, in words.
    done, total
        Finished and planned work, in the same unit.
    trained
        Candidates trained so far.
    best
        Best anytime accuracy so far.
    seconds_left
        Estimate (ETA); None while unknown.
    """

    stage: str
    done: float
    total: float
    trained: int
    best: float | None = None
    seconds_left: float | None = None


class Progress(Protocol):
    """A display. The driver calls both methods in its own thread."""

    def say(self, text: str) -> None:
        """Print a line of text that stays."""

    def show(self, state: State) -> None:
        """Show the state; called often."""


class Silent:
    """A display that shows nothing."""

    def say(self, text: str) -> None:
        pass

    def show(self, state: State) -> None:
        pass


class Live:
    """A progress bar on a terminal, updated at most ten times a second; without a terminal, a line of text per minute.

    Parameters
    ----------
    lines
        Whether to print lines of text without a terminal.
    """

    def __init__(self, *, lines: bool = True) -> None:
        self._lines = lines
        self._bar: Bar | None = None
        self._last = 0.0
        self._last_line = time.monotonic()

    def __enter__(self) -> Live:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.percentage:>3.0f}%"),
                TextColumn("{task.fields[trained]} trained · best {task.fields[best]} · ETA {task.fields[left]}"),
                TimeElapsedColumn(),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("starting", trained=0, best="–", left="–")
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, text: str) -> None:
        text = clean_text(text)  # of an exception
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)  # an error may say [/x]
        elif self._lines:
            print(text, file=sys.stderr, flush=True)

    def show(self, state: State) -> None:
        now = time.monotonic()
        if self._bar is None:
            if self._lines and now - self._last_line >= LINE_SECONDS:
                self._last_line = now
                self.say(line(state))
            return
        if now - self._last < 0.1:
            return
        self._last = now
        self._bar.update(
            self._task,
            description=state.stage,
            completed=state.done,
            total=max(state.total, 1e-9),
            trained=state.trained,
            best=_best(state),
            left=duration(state.seconds_left),
        )


class Notebook:
    """A progress bar in a notebook, updated at most four times a second; lines of text are printed."""

    def __init__(self) -> None:
        self._shown: Any = None
        self._last = 0.0

    def say(self, text: str) -> None:
        print(clean_text(text), flush=True)

    def show(self, state: State) -> None:
        from IPython.display import HTML, display  # is there, because a notebook runs

        now = time.monotonic()
        if now - self._last < NOTEBOOK_SECONDS:
            return
        self._last = now
        share = min(1.0, state.done / max(state.total, 1e-9))
        bar = f'<progress value="{share:.4f}" max="1" style="width: 20em"></progress> {escape(line(state))}'
        if self._shown is None:
            self._shown = display(HTML(bar), display_id=True)
        else:
            self._shown.update(HTML(bar))


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = sys.modules.get("IPython")
    return shell is not None and getattr(shell.get_ipython(), "kernel", None) is not None


def for_python() -> Progress:
    """The display of a call in Python: a bar in a notebook, nothing in a script."""
    return Notebook() if in_notebook() else Silent()


def line(state: State) -> str:
    """A state in a line of text, with the time of day.

    >>> line(State(stage="generation 2", done=3, total=4, trained=9, best=0.95, seconds_left=62))[6:]
    'generation 2 · 75 % · 9 trained · best 0.9500 · ETA 1 min 02 s'
    """
    share = 100 * min(1.0, state.done / max(state.total, 1e-9))
    counts = f"{share:.0f} % · {state.trained} trained · best {_best(state)} · ETA {duration(state.seconds_left)}"
    return f"{time.strftime('%H:%M')} {state.stage} · {counts}"


def _best(state: State) -> str:
    return "–" if state.best is None else f"{state.best:.4f}"


def duration(seconds: float | None) -> str:
    """A time span in words.

    >>> duration(None), duration(42), duration(200), duration(7300)
    ('–', '42 s', '3 min 20 s', '2 h 01 min')
    """
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
