"""Content hashes of a data set: of the whole, which identifies it, and of its parts, which name a difference.

Shape suffixes: N examples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from evaluators.data.arrays import chunks
from nas.evaluation.data_identity import EXAMPLES

HASHED_BYTES = 2**30
"""Bytes of each array that are covered completely; evenly spaced examples of larger arrays."""

_DIGEST_BYTES = 16


@dataclass
class ContentHashes:
    """Hashes of arrays that are added one after the other, each read once.

    whole: SHA-256 of shapes, dtypes and content, in the order of adding; the same in memory and on disk, and for any
    strides. parts: by name. examples: sum over the hashes of all examples with their labels, which depends neither on
    their order nor on the part that they are in.
    """

    whole: hashlib._Hash = field(default_factory=hashlib.sha256)
    parts: dict[str, str] = field(default_factory=dict)
    examples: int = 0

    def add(self, part: str, x: np.ndarray, y_N: np.ndarray) -> None:
        """Add the images and labels of a part, such as "training"."""
        digests = list(self._images(x))
        self.parts[f"{part} images"] = _hex(_form(x), *digests)
        self._update(y_N)
        self.parts[f"{part} labels"] = _hex(_form(y_N), y_N.tobytes())
        for digest, label in zip(digests, y_N[:: _step(x)]):
            self.examples += int.from_bytes(_digest(digest + label.tobytes()), "big")

    def add_text(self, text: str) -> None:
        """Add text to the whole."""
        self.whole.update(text.encode())

    def result(self, classes: str) -> tuple[str, dict[str, str]]:
        """The hash of the whole, and of the parts. classes: text that identifies the classes."""
        examples = format(self.examples % 2 ** (8 * _DIGEST_BYTES), "x")
        return self.whole.hexdigest(), self.parts | {"classes": _hex(classes.encode()), EXAMPLES: examples}

    def _images(self, x: np.ndarray) -> Iterator[bytes]:
        """Add images to the whole; one hash for each of them."""
        self.whole.update(_form(x))
        for chunk in chunks(x[:: _step(x)]):
            contiguous = np.ascontiguousarray(chunk)
            self.whole.update(contiguous.data.cast("B"))
            for row in contiguous:
                yield _digest(row.data.cast("B"))

    def _update(self, y_N: np.ndarray) -> None:
        self.whole.update(_form(y_N))
        for chunk in chunks(y_N[:: _step(y_N)]):
            self.whole.update(np.ascontiguousarray(chunk).data.cast("B"))


def _step(array: np.ndarray) -> int:
    return 1 + array.nbytes // HASHED_BYTES


def _form(array: np.ndarray) -> bytes:
    return f"{array.dtype.str}{array.shape}".encode()


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


def _hex(*data: bytes) -> str:
    return hashlib.sha256(b"".join(data)).hexdigest()[: 2 * _DIGEST_BYTES]
