"""Errors of a results store; each message is one line that a user can act on."""

from __future__ import annotations


class StoreError(ValueError):
    """A results store, a study, a key or a value is unsuitable for the call.

    The message names the requirement, the value received and the remedy. An error of the database is the `__cause__`.
    """


class NoAnswer(StoreError):
    """A database server refuses connections or has lost one, for example because it is being restarted."""


class NotComparable(StoreError):
    """The results of several studies cannot be compared, such as accuracies on different images."""


class SettingsDiffer(StoreError):
    """A study of that name exists with other settings.

    Parameters
    ----------
    study : str
        Name of the study.
    differences : dict
        Setting → (stored value, new value); a missing one is the string "not set".
    message : str, optional
        Message in the words of the caller's users, in place of one with the names of the settings.
    """

    def __init__(self, study: str, differences: dict[str, tuple[object, object]], message: str | None = None) -> None:
        self.study = study
        self.differences = differences
        listed = "; ".join(f"{name} {old!r}, now {new!r}" for name, (old, new) in differences.items())
        super().__init__(
            message
            or f"A study keeps its settings. Study {study!r} was started with {listed}. "
            "Use its settings, or another name for a new study."
        )

    def __reduce__(self) -> tuple[type[SettingsDiffer], tuple[str, dict[str, tuple[object, object]], str]]:
        """Rebuild from all arguments, so that it survives pickling between processes."""
        return type(self), (self.study, self.differences, str(self))
