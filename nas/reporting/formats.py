"""Short forms of numbers and names, shared by the displays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.study import Study


def warm_start_text(study: Study) -> str:
    """The study from which a study started, with the number of its candidates; empty for none."""
    count = study.store.transferred_count(study.name)
    return f"warm start from {study.config.warm_start}, {count:,} trained candidates" if count else ""


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
