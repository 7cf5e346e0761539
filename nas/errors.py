"""Errors that users cause. The command line shows them as one line, without traceback, and exits with status 2."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A mistake of the user; the message gives the requirement, the value received and the remedy."""


class InvalidArchitecture(UserError):
    """Data that describe no valid network: sizes that do not fit, operating points that do not grow, and so on."""


class PluginError(UserError):
    """A plug-in that cannot be found or loaded, or that violates its contract."""


class DataError(UserError):
    """A data set that cannot be used for training."""


class EnvironmentFault(UserError):
    """A fault of data, disk, device, store, or of the loading of a plug-in: of no candidate.

    It stops a study; nothing is recorded for the running candidates, and resuming continues.
    """


class Unsatisfiable(UserError):
    """Constraints that no proposal of the search spaces satisfies."""


def last_line(error: BaseException) -> str:
    """The type of an exception and its message, or the last line of a longer message."""
    return f"{type(error).__name__}: {error}".strip().splitlines()[-1]


def one_line(error: BaseException) -> str:
    """The message of an exception on one line, without its final stop."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def unknown_name(what: str, got: object, valid: Iterable[str]) -> str:
    """Write the message for an unknown name, with the closest valid name and all valid names.

    Parameters
    ----------
    what : str
        The kind of thing that has the name, such as "space".
    got : object
        The unknown name.
    valid : iterable of str
        The valid names.

    Examples
    --------
    >>> unknown_name("space", "residul", ["mobile", "residual"])
    "Unknown space 'residul'. Did you mean 'residual'? Valid: mobile, residual."
    """
    names = sorted(valid)
    close = get_close_matches(str(got), names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"Unknown {what} {got!r}.{hint} Valid: {', '.join(names) or 'none is installed'}."
