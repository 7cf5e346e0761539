"""Short forms of numbers and names, shared by the displays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nas.audit.wording import number, span

if TYPE_CHECKING:
    from nas.study import Study
    from results.reading.best import AgainstReference


def warm_start_text(study: Study) -> str:
    """The study from which a study started, with the number of its candidates; empty for none."""
    count = study.store.transferred_count(study.name)
    return f"warm start from {study.config.warm_start}, {count:,} trained candidates" if count else ""


def reference_text(comparison: AgainstReference) -> str:
    """The comparison of a search with its reference as a sentence; differences are in points of anytime accuracy."""
    name, fidelity = comparison.reference.reference, comparison.fidelity
    if comparison.is_reference:
        return f"The best network is the reference {name}."
    verb = "is behind" if comparison.difference < 0 else "against"
    repeated = ""
    if comparison.repeats > 1:
        clear = "" if comparison.low > 0 or comparison.high < 0 else ", no clear difference"
        repeated = f" (mean of {comparison.repeats} repeats{clear})"
    parts = [
        f"{_points(comparison.difference)}{span(100 * comparison.low, 100 * comparison.high, 1)} points of anytime "
        f"accuracy{repeated}"
    ]
    if not math.isnan(comparison.test_difference):
        parts.append(f"{_points(comparison.test_difference)} on test images")
    if not math.isnan(ratio := comparison.macs_ratio):
        times = f"{max(ratio, 1 / ratio):.1f} × {'fewer' if ratio > 1 else 'more'}"
        parts.append(f"{'equal' if times.startswith('1.0') else times} MACs at equal accuracy")
    length = f"{fidelity:.3g} pass{'es' * (fidelity != 1)} over the training images"
    return f"This search {verb} its reference {name}: {', '.join(parts)}. Both were trained for {length}."


def reference_mark(name: str | float | None) -> str:
    """A reference architecture, after the name of its space; empty for other candidates, whose name is missing.

    >>> reference_mark("ResNet-8, width 16"), reference_mark(None)
    (', reference ResNet-8, width 16', '')
    """
    return f", reference {name}" if isinstance(name, str) else ""


def _points(difference: float) -> str:
    """A difference of fractions in points, with its sign."""
    text = number(100 * difference, 1)
    return text if text.startswith("-") else f"+{text}"


def plugin_name(spec: str) -> str:
    """The name of a plug-in without the path of its file.

    >>> plugin_name("dtmc"), plugin_name("/home/me/own.py:Mine")
    ('dtmc', 'Mine')
    """
    return spec.rpartition(":")[2]


def fraction(value: float) -> str:
    """A fraction with four digits, or a dash for NaN.

    >>> fraction(0.98765), fraction(float("nan"))
    ('0.9877', '–')
    """
    return "–" if math.isnan(value) else f"{value:.4f}"


def measured(value: float) -> str:
    """A measure of any size with four digits, or a dash for NaN.

    >>> measured(0.98765), measured(1.23456e-5), measured(123456.7), measured(float("nan"))
    ('0.9877', '1.235e-05', '1.235e+05', '–')
    """
    return fraction(value) if math.isnan(value) or value == 0 or 0.01 <= abs(value) < 10 else f"{value:.4g}"


def whole(value: float) -> str:
    """A number without decimals, its thousands separated.

    >>> whole(1234567.8)
    '1,234,568'
    """
    return f"{value:,.0f}"


def percent(value: float) -> str:
    """A fraction in percent.

    >>> percent(0.98765)
    '98.77%'
    """
    return f"{value:.2%}"
