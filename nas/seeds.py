"""Seeds derived from their purpose, so that results do not depend on the order of execution."""

from __future__ import annotations

from hashlib import sha256


def seed(*parts: str | int) -> int:
    """A seed that depends only on the parts.

    Parameters
    ----------
    *parts : str or int
        The purpose of the seed. The encoding is unambiguous: `seed("ab", "c")`, `seed("a", "bc")`, `seed(1)` and
        `seed("1")` are four different seeds.

    Returns
    -------
    int
        In [0, 2**63); the same in every process, on every platform and Python version.

    Raises
    ------
    TypeError
        If a part is neither `str` nor `int`. A bool or a float could equal another part as a number.

    Examples
    --------
    >>> seed("study", 7)
    2030381609963905715
    """
    digest = sha256()
    for part in parts:
        if type(part) is str:
            tag, payload = b"s", part.encode("utf-8", "surrogatepass")
        elif type(part) is int:
            tag, payload = b"i", hex(part).encode("ascii")
        else:
            raise TypeError(f"The parts of a seed must be str or int. Got {part!r} of type {type(part).__name__}.")
        digest.update(b"%b%d:%b" % (tag, len(payload), payload))
    return int.from_bytes(digest.digest()[:8], "big") >> 1
