"""Colours, fonts and number formats that all figures share; figures are drawn without a display and without pyplot."""

from __future__ import annotations

import io
import math
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from results.errors import StoreError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

ENDINGS = (".png", ".svg", ".pdf")

INK, MUTED, GRID, SHADE = "#1b1f24", "#6b7280", "#e7e9ec", "#f3f5f8"
COLOURS = ("#3f78b5", "#d9822b", "#3f9c6e", "#8c64b0", "#c2504d", "#5aa7b8", "#a07f3d", "#c86fa5")
"""By space, or by study if there are several."""
MARKERS = ("o", "s", "^", "v", "P", "X", "p", "*")
"""By study, if there are several."""
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "svg.fonttype": "none",
    "svg.hashsalt": "anytime-nas",  # the same figure is the same file
}


class Drawing(Figure):
    """A figure of this package, which a notebook shows when a cell ends with it."""

    def __init__(self, width: float, height: float) -> None:
        """width, height: in inches."""
        super().__init__(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))

    def _repr_png_(self) -> bytes:
        written = io.BytesIO()
        with rc_context(STYLE):
            self.savefig(written, format="png", dpi=120)
        return written.getvalue()


def in_legend(label: str) -> str:
    """A label that has an entry: matplotlib leaves out those that begin with an underscore."""
    return f" {label}" if label.startswith("_") else label


def check_ending(path: str | PathLike[str]) -> Path:
    """The path of a figure. Raises StoreError unless it ends in one of ENDINGS."""
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise StoreError(f"A figure's file must end in {', '.join(ENDINGS)}. Got {path.name!r}.")
    return path


def write(figure: Figure, path: Path) -> None:
    """Write a figure; equal figures are equal SVG files. Raises StoreError if the file cannot be written."""
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
    with rc_context(STYLE):
        try:
            figure.savefig(path, dpi=200, metadata=metadata)
        except OSError as error:
            raise StoreError(f"The figure {path} must be writable: {error.strerror or error}.") from error


def as_svg(figure: Figure) -> str:
    """A figure as SVG text that looks the same everywhere: letters are outlines. Equal figures give equal text."""
    written = io.StringIO()
    with rc_context(STYLE | {"svg.fonttype": "path"}):
        figure.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()


def engineering(value: float, _: object = None) -> str:
    """Short form with a prefix: 1.5k, 20M, 3G; plain below a thousand.

    >>> engineering(1.5e6), engineering(20e6), engineering(0.25)
    ('1.5M', '20M', '0.25')
    """
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{prefix}"
    return f"{value:.3g}"


def percent_labels(axis: Axis) -> None:
    """Ticks of fractions at round percentages, each with as many digits as it needs."""
    axis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(100 * value, 6):g}%"))


def log_labels(axis: Axis, low: float, high: float) -> None:
    """Ticks of a logarithmic axis from low to high at numbers of one digit; small ticks show that it is logarithmic."""
    decades = math.log10(high / low)
    subs = (1.0,) if decades > 4 else (1.0, 2.0, 5.0) if decades > 0.7 else tuple(float(n) for n in range(1, 10))
    axis.set_major_locator(LogLocator(subs=subs) if decades > 0.25 else MaxNLocator(6, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(engineering))
    axis.set_minor_locator(LogLocator(subs=tuple(float(n) for n in range(2, 10)), numticks=100))
    axis.set_minor_formatter(NullFormatter())


def plain_axes(axes: Axes) -> None:
    """Horizontal grid lines, and only the lower spine."""
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=4, width=0.8)
    axes.tick_params(which="minor", length=2, width=0.6)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", which="both", length=0)


def legend(axes: Axes) -> None:
    """The legend beside the axes."""
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0,
        frameon=False,
        fontsize=9.5,
        handlelength=1.8,
        labelspacing=0.7,
    )
