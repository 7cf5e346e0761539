"""The store of search results: writing, reading, comparing and plotting them.

>>> import results
>>> store = results.open("postgresql://me@host/nas")
>>> store
results.open('postgresql://me@host/nas')

`results.front` (dominance, hypervolume, anytime accuracy) needs only numpy, `results.measures` only the standard
library. SQLAlchemy, pandas and matplotlib are imported when they are first used, so that `import results` is quick.
"""

from __future__ import annotations

import importlib
from os import PathLike
from typing import TYPE_CHECKING, Any

from results.errors import NotComparable, SettingsDiffer, StoreError

if TYPE_CHECKING:
    from results.store import Store

__all__ = ["NotComparable", "SettingsDiffer", "StoreError", "columns", "front", "measures", "open", "plots"]

_SUBMODULES = ("columns", "front", "measures", "plots")


def open(url: str | PathLike[str]) -> Store:
    """Name a results store; nothing is read or created until it is used.

    Parameters
    ----------
    url : str or path
        Path of a file, ``sqlite:///nas.db`` or ``postgresql://user@host/database``.

    Returns
    -------
    Store

    Raises
    ------
    StoreError
        If the URL is neither SQLite in a file nor PostgreSQL.
    """
    from results.store import open_store

    return open_store(url)


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"results.{name}")
    raise AttributeError(f"module 'results' has no attribute {name!r}")
