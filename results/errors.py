"""Errors of a results store; each message is one line that a user can act on."""

from __future__ import annotations


class StoreError(ValueError):
    """A results store, a study, a key or a value is unsuitable for the call.

    The message names the requirement, the value received and the remedy. An error of the database is the `__cause__`.
    """


class SettingsDiffer(StoreError):
    """A study of that name exists with other settings.

    differences: setting → (stored value, value given); a missing one is the string "not set".
    """

    def __init__(self, study: str, differences: dict[str, tuple[object, object]]) -> None:
        self.study = study
        self.differences = differences
        listed = "; ".join(f"{key} is {old!r} there and {new!r} here" for key, (old, new) in differences.items())
        super().__init__(
            f"A study is continued with the settings it began with. Study {study!r} has others: {listed}. "
            "Use those, choose another study name, or delete the study."
        )

    def __reduce__(self) -> tuple[type[SettingsDiffer], tuple[str, dict[str, tuple[object, object]]]]:
        """Rebuild from the arguments, not from the message, so that it survives pickling between processes."""
        return type(self), (self.study, self.differences)
