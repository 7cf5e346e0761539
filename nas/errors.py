"""What can go wrong through a user's doing: one line of text, no traceback, exit status 2."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A mistake that its message lets the user mend: what must hold, what came, the way out."""


class InvalidArchitecture(UserError):
    """Plain data that is no network: a shape that does not fit, a point that does not grow, a map that nothing
    feeds.
    """


class PluginError(UserError):
    """A plug-in that cannot be found or loaded, or that does not keep its contract."""


class DataError(UserError):
    """Data that cannot be learned from as it is."""


class Unsatisfiable(UserError):
    """Constraints that no proposal of the spaces satisfies."""


def unknown_name(what: str, got: object, valid: Iterable[str]) -> str:
    """The message for a wrong name: lists the valid ones, the likeliest first.

    >>> unknown_name("space", "residul", ["mobile", "residual"])
    "Unknown space 'residul'. Did you mean 'residual'? Valid: mobile, residual."
    """
    names = sorted(valid)
    close = get_close_matches(str(got), names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"Unknown {what} {got!r}.{hint} Valid: {', '.join(names) or 'none is installed'}."
