"""The default names of studies and stores, and stores as a user types them."""

from __future__ import annotations

import re
import shlex
import unicodedata
from hashlib import sha256
from pathlib import Path
from typing import Any

STORE = "sqlite:///nas.db"
"""The default results store: a file in the working directory."""
UNNAMED = "arrays"
"""The name of data without a name."""
ARRAY_FILES = ("npz", "npy")
"""Kinds of data whose specification names a path."""
IMAGE_FILES = ("folder", "parquet", "webdataset")
"""Kinds of data whose specification names a path, and perhaps options after it."""


def split_data(spec: str) -> tuple[str, str, str]:
    """The kind of data, the name that follows, and the options of images with their colon.

    >>> split_data("npz:a:b=c.npz"), split_data("folder:pets:size=32"), split_data("digits")
    (('npz', 'a:b=c.npz', ''), ('folder', 'pets', ':size=32'), ('digits', '', ''))
    """
    kind, _, rest = spec.partition(":")
    if kind not in (*IMAGE_FILES, "hf"):
        return kind, rest, ""
    found = re.fullmatch(r"(.*?)(:[^:/]*=[^:/]*)?", rest)
    assert found is not None, "anything matches"
    return kind, found[1], found[2] or ""


def study_name(data: Any) -> str:
    """The default name of a study: the name of its data; UNNAMED for arrays without a name.

    >>> study_name("npz:images/fashion_mnist.npz"), study_name("own_data.py:gratings"), study_name("npz:données.npz")
    ('fashion_mnist', 'own_data', 'donnees')
    >>> study_name("folder:images/cats.and.dogs:size=32")
    'cats.and.dogs'
    >>> study_name("hf:ylecun/mnist:size=32"), study_name("synthetic:n=60")
    ('mnist', 'n-60')
    """
    if isinstance(data, str):
        kind, rest, options = split_data(data)
        if kind.endswith(".py"):
            name = Path(kind).stem
        elif kind in (*ARRAY_FILES, "parquet"):
            name = Path(rest or kind).stem
        elif kind in (*IMAGE_FILES, "hf"):
            name = Path(rest or kind).name
        else:
            name = rest + options or kind
    else:
        name = str(getattr(data, "name", UNNAMED))
    return _valid_study_name(name)


def _valid_study_name(name: str) -> str:
    """A name that the store accepts: letters without accents, other characters as hyphens, at most 100 of them.

    If nothing remains, "data-" and digits that depend on the name; "search" for an empty name.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    valid = re.sub("[^A-Za-z0-9._-]", "-", plain)[:100].strip("-.")
    if valid or not name:
        return valid or "search"
    return f"data-{sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"


def store_option(label: str, *, absolute: bool = False) -> str:
    """The option that names a store in a command, because the same command elsewhere would read another store.

    Parameters
    ----------
    label
        The label of a store: an absolute path, or a URL.
    absolute
        Whether the command may be read in another working directory.
    """
    return f" --store {shlex.quote(shown_store(label, absolute=absolute))}"


def shown_store(label: str, *, absolute: bool = False) -> str:
    """The label of a store as a user would type it: relative if its file is below the working directory."""
    path = Path(label)
    if absolute or not path.is_absolute() or not path.is_relative_to(Path.cwd()):
        return label
    return str(path.relative_to(Path.cwd()))
