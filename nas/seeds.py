"""Seeds derived from what they are for, so that nothing depends on the order in which things ran."""

from __future__ import annotations

from hashlib import sha256


def seed(*parts: str | int) -> int:
    """A seed in [0, 2**63) that is a function of the parts and of nothing else.

    The same in every process, on every platform and Python version. The encoding is unambiguous: `seed("ab", "c")`,
    `seed("a", "bc")`, `seed(1)` and `seed("1")` are four different seeds.

    Raises
    ------
    TypeError
        For a part that is neither `str` nor `int`; a bool or a float would be equal to another part as a number.

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
