"""Printing a table of a command, as text or JSON, and writing it to files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from results.text import json_data

if TYPE_CHECKING:
    import pandas as pd

Csv = Annotated[Path | None, typer.Option(help="Write the table to this CSV file.")]
Parquet = Annotated[Path | None, typer.Option(help="Write the table to this Parquet file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the table as JSON in place of text.")]


def emit(
    frame: pd.DataFrame, text: Callable[[], str], *, csv: Path | None, parquet: Path | None, as_json: bool
) -> None:
    """Write a table to the files that were named, and print it. Raises UserError if a file cannot be written."""
    from nas.reporting.console import write_frame

    for path, kind in ((csv, "csv"), (parquet, "parquet")):
        if path is not None:
            write_frame(frame, path, kind)
    print(json.dumps(records(frame), indent=1) if as_json else text())


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as plain JSON data: missing values are None, times ISO 8601, choices objects."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(name): _plain(str(name), value) for name, value in row.items()} for row in plain.to_dict("records")]


def _plain(name: str, value: Any) -> Any:
    if name == "choices" and isinstance(value, str):
        return json.loads(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return json_data(value)
