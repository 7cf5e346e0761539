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
from typing import TYPE_CHECKING, Any, overload

from results.errors import NoAnswer, NotComparable, SettingsDiffer, StoreError

if TYPE_CHECKING:
    from results.reading.stores import Stores
    from results.store import Store

__all__ = [
    "NoAnswer",
    "NotComparable",
    "SettingsDiffer",
    "StoreError",
    "columns",
    "front",
    "measures",
    "open",
    "plots",
]

_SUBMODULES = ("columns", "front", "measures", "plots")


@overload
def open(url: str | PathLike[str], /) -> Store: ...
@overload
def open(url: str | PathLike[str], /, *more: str | PathLike[str]) -> Stores: ...
def open(url: str | PathLike[str], /, *more: str | PathLike[str]) -> Store | Stores:
    """Name a results store, or several that are read as one; nothing is read or created until it is used.

    Parameters
    ----------
    url : str or path
        Path of a file, ``sqlite:///nas.db`` or ``postgresql://user@host/database``.
    *more : str or path
        Further stores.

    Returns
    -------
    Store or Stores
        Stores for several.

    Raises
    ------
    StoreError
        If a URL is neither SQLite in a file nor PostgreSQL.

    Examples
    --------
    >>> import results
    >>> results.open("laptop.db", "postgresql://me@host/nas").front("digits")  # doctest: +SKIP
    """
    from results.store import open_store

    if not more:
        return open_store(url)
    from results.reading.stores import Stores

    return Stores([open_store(each) for each in (url, *more)])


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"results.{name}")
    raise AttributeError(f"module 'results' has no attribute {name!r}")
