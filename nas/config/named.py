"""Named things with settings, as a user types them: ``name:setting=value,setting=value``."""

from __future__ import annotations

import json
from typing import Any

from nas.errors import UserError


def parse_named(text: str, kind: str, example: str) -> tuple[str, dict[str, Any]]:
    """The name and the settings in a text.

    Parameters
    ----------
    text
        The name, which may contain colons; then ``:`` and settings as ``name=value``, separated by commas.
    kind
        The named thing, such as "rule", for messages.
    example
        A valid text.

    Raises
    ------
    UserError
        For malformed settings, or a setting that is given twice.

    Examples
    --------
    >>> parse_named("file.py:Mine:soft=true,weights=2", "rule", "sandwich:sampled=2")
    ('file.py:Mine', {'soft': True, 'weights': 2})
    """
    name, _, rest = text.rpartition(":")
    if "=" not in rest:
        name, rest = text, ""
    settings: dict[str, Any] = {}
    for pair in filter(None, rest.split(",")):
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise UserError(f"Settings of a {kind} must be like {example}. Got {text!r}.")
        if key.strip() in settings:
            raise UserError(f"Each setting of a {kind} may be given once. Got {key.strip()} twice in {text!r}.")
        settings[key.strip()] = _value(value.strip())
    return name, settings


def _value(text: str) -> str | int | float | bool | None:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return text if isinstance(value, list | dict) else value
