"""Text and data of any origin, such as messages of plug-ins, in a form that databases, files and JSON accept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def clean_text(text: str) -> str:
    r"""The text with escapes for NUL characters and lone surrogates.

    >>> clean_text("a\x00b\udcff")
    'a\\x00b\\udcff'
    """
    return text.replace("\x00", r"\x00").encode(errors="backslashreplace").decode()


def json_data(value: Any) -> Any:
    """A value as JSON data: numbers of NumPy become those of Python; NaN and infinity, which JSON lacks, None."""
    if isinstance(value, Mapping):
        return {str(name): json_data(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [json_data(each) for each in value]
    plain = value.item() if hasattr(value, "item") else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
