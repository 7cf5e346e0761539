"""Rows of a query as a typed DataFrame: read in chunks past SQLAlchemy's rows, which cost more than the query."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from results.columns import dtypes

_CHUNK = 20_000  # rows: bounds the memory of Python objects


def fetch(connection: sa.Connection, query: sa.Select[Any], frame: str) -> pd.DataFrame:
    """The rows of a query, typed as a frame of FRAMES: without rows too, and NULL in a real column is NaN.

    JSON stays text. Columns that FRAMES does not list are text, except ids.
    """
    with connection.execute(query) as result:
        names = list(result.keys())
        types = dict.fromkeys(("candidate_id", "id", "study_id"), "int64") | dtypes(frame)
        chunks: list[list[Any]] = [[] for _ in names]
        cursor = result.cursor
        assert cursor is not None
        while rows := cursor.fetchmany(_CHUNK):
            for name, column, values in zip(names, chunks, zip(*rows)):
                column.append(_array(values, types.get(name)))
    return pd.DataFrame({name: _joined(column, types.get(name)) for name, column in zip(names, chunks)})


def _array(values: tuple[Any, ...], kind: str | None) -> Any:
    """The values of a column as an array of its type."""
    if kind == "Int64":
        return pd.array(values, dtype="Int64")
    return np.array(values, dtype=object if kind is None else kind)


def _joined(chunks: list[Any], kind: str | None) -> pd.Series:
    if not chunks:
        return pd.Series(dtype=kind or object)
    if kind == "Int64":
        return pd.Series(pd.concat([pd.Series(chunk) for chunk in chunks], ignore_index=True))
    values = np.concatenate(chunks)
    return pd.Series(values.tolist() if kind is None else values)  # a list of str is inferred as text
