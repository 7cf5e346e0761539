"""The data of a study stay the same: every process compares them with the study's before it trains or measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nas.config.naming import ARRAY_FILES, IMAGE_FILES
from nas.errors import EnvironmentFault, UserError
from nas.evaluation.evaluator import DataInfo, Evaluator, LoadedData

EXAMPLES = "examples"
"""Name of the part that depends neither on the order of the examples nor on their split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataIdentity:
    """The content hashes of a study's data.

    Parameters
    ----------
    fingerprint
        Of the whole data, see :class:`nas.evaluation.evaluator.DataInfo`.
    parts
        Of parts by name; empty if unknown.
    """

    fingerprint: str
    parts: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(info: DataInfo) -> DataIdentity:
        """The identity of data that are loaded."""
        return DataIdentity(fingerprint=info.fingerprint, parts=dict(info.parts))

    @staticmethod
    def from_settings(settings: Mapping[str, Any]) -> DataIdentity:
        """The identity in the stored settings of a study."""
        return DataIdentity(
            fingerprint=settings.get("data_fingerprint", "unknown"), parts=settings.get("_data_parts") or {}
        )

    def to_settings(self) -> dict[str, Any]:
        """Settings for the store. Only the fingerprint is compared when a study is continued."""
        return {"data_fingerprint": self.fingerprint, "_data_parts": dict(self.parts)}

    def difference(self, other: DataIdentity) -> str:
        """What differs in other data, in words; empty if nothing does."""
        if self.fingerprint == other.fingerprint:
            return ""
        names = [name for name in {**self.parts, **other.parts} if self.parts.get(name) != other.parts.get(name)]
        if not (self.parts and other.parts and names):
            return "other data"
        of_examples = all(name.endswith(("images", "labels")) for name in names)
        if EXAMPLES not in names and self.parts.get(EXAMPLES) and of_examples:
            return "another split or order of the same examples"
        return f"other {', '.join(name for name in names if name != EXAMPLES)}"


def is_fixed(data: str | LoadedData) -> bool:
    """Whether data are in memory or in files, so that every load gives equal data unless somebody changes them."""
    return not isinstance(data, str) or data.partition(":")[0] in (*ARRAY_FILES, *IMAGE_FILES, "hf", "torchvision")


def checked_evaluator(
    load: Callable[[], Evaluator], data: str | LoadedData, expected: DataIdentity
) -> tuple[Evaluator, DataInfo]:
    """Load an evaluator, and compare its data with the data of the study.

    Parameters
    ----------
    load
        Returns a new evaluator.
    data
        Its data specification, or its data in memory.
    expected
        The data of the study.

    Returns
    -------
    evaluator, info
        The evaluator, and the description of its data.

    Raises
    ------
    EnvironmentFault
        If the data cannot be loaded, or differ from those of the study.
    """
    evaluator = load()
    info = described(evaluator)
    if difference := expected.difference(DataIdentity.of(info)):
        check_repeatable(load, data, info)
        hint = "" if is_fixed(data) else " If nothing changed, processes load different data: seed the function."
        raise EnvironmentFault(
            f"The data of a study must stay the same. Got {difference} in {info.name}. Restore the data.{hint}"
        )
    return evaluator, info


def check_repeatable(load: Callable[[], Evaluator], data: str | LoadedData, first: DataInfo) -> None:
    """Load data once more that are neither in memory nor in files. Raises EnvironmentFault if the two loads differ."""
    if is_fixed(data):
        return
    second = described(load())
    if difference := DataIdentity.of(first).difference(DataIdentity.of(second)):
        raise EnvironmentFault(
            f"Data must be equal whenever they are loaded. Two loads of {first.name} differ: {difference}. Seed the "
            "function, such as train_test_split(…, random_state=0)."
        )


def described(evaluator: Evaluator) -> DataInfo:
    """The description of an evaluator's data. Raises EnvironmentFault for any exception of the evaluator."""
    try:
        return evaluator.info()
    except UserError as error:
        raise EnvironmentFault(str(error)) from error
    except Exception as error:  # of a plug-in
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise EnvironmentFault(f"The data of a study must be readable in every process. Got {text}") from error
