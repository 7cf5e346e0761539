"""Text of any origin, such as a message of a plug-in, as text that any database, file and terminal accepts."""

from __future__ import annotations


def clean_text(text: str) -> str:
    r"""The text with escapes for NUL characters and lone surrogates.

    >>> clean_text("a\x00b\udcff")
    'a\\x00b\\udcff'
    """
    return text.replace("\x00", r"\x00").encode(errors="backslashreplace").decode()
