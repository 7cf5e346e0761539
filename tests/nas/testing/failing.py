"""A check that is expected to fail."""

from __future__ import annotations

import pytest

from nas.errors import PluginError


def fails(checks, name, message):
    """The check of this name fails with this message."""
    with pytest.raises(PluginError, match=message) as caught:
        dict(checks)[name]()
    assert f"fails the check {name!r}" in str(caught.value)
