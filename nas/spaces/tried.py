"""The choices that were tried, as a tree, so that none is proposed twice and the end of a space is noticed.

A space is a function of choices, so equal answers lead to the same next name. The tried choices form a tree: a node is
a name, its branches are the options. A branch of which all choices were tried is closed. This needs no enumeration of
the space in advance, and names may depend on earlier answers.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nas.spaces.choices import Decide, Domains, Options, Primitive, index_of

MOST_NODES = 200_000
"""Further choices are not remembered: bounds the memory, to about 60 MB. Smaller spaces are remembered completely."""


class _Node:
    """A name with the branches that were tried. open: number of options whose branch is not closed."""

    __slots__ = ("branches", "name", "open", "options")

    def __init__(self, name: str, options: Options) -> None:
        self.name, self.options, self.open = name, options, len(options)
        self.branches: dict[int, _Node | None] = {}  # by index of the option; None if the branch is closed


class Tried:
    """The choices that were tried in one or several spaces.

    Examples
    --------
    >>> domains, tried = Domains({"width": (16, 32)}), Tried()
    >>> tried.add({"width": 16}, domains)
    >>> tried.new(lambda name, options: 0), tried.exhausted
    ((None, {'width': 16}), False)
    >>> tried.add({"width": 32}, domains)
    >>> tried.exhausted
    True
    """

    def __init__(self) -> None:
        self._root: _Node | None = None
        self._nodes = 0
        self.exhausted = False
        """Whether all choices of the space were tried."""

    def add(self, choices: Mapping[str, Primitive], domains: Domains) -> None:
        """Add choices, in the order in which the space asked for them: complete, or as far as the space rejects them.

        Choices whose names do not follow each other as before, because the space has changed, are left out.
        """
        if self._nodes >= MOST_NODES or self.exhausted:
            return
        if not choices:
            self.exhausted = True
            return
        path: list[tuple[_Node, int]] = []
        for name, value in choices.items():
            node = self._node_after(path, name, domains.options[name])
            if node is None or node.name != name:
                return
            path.append((node, index_of(node.options, value)))
        self._close(path)

    def new(self, decide: Decide) -> tuple[Decide | None, dict[str, Primitive]]:
        """The same decision if it leads to choices that were not tried, otherwise None; and the choices so far.

        The decision is asked for the names up to the first new branch; the returned one does not ask it again for them.
        """
        answers: dict[str, int] = {}
        choices: dict[str, Primitive] = {}
        if self.exhausted:
            return None, choices
        node = self._root
        while node is not None:
            index = answers[node.name] = decide(node.name, node.options)
            if index not in node.branches:
                break
            choices[node.name] = node.options[index]
            node = node.branches[index]
            if node is None:
                return None, choices
        return _with_answers(answers, decide), choices

    def nearest(self, decide: Decide, rng: np.random.Generator) -> Decide:
        """A decision that follows the given one, except that it takes a random open branch in place of a closed one.

        Only if the space is not exhausted.
        """
        assert not self.exhausted
        answers: dict[str, int] = {}
        node = self._root
        while node is not None:
            index = decide(node.name, node.options)
            if node.branches.get(index, node) is None:
                still_open = [i for i in range(len(node.options)) if node.branches.get(i, node) is not None]
                index = still_open[int(rng.integers(len(still_open)))]
            answers[node.name] = index
            node = node.branches.get(index)
        return _with_answers(answers, decide)

    def _node_after(self, path: list[tuple[_Node, int]], name: str, options: Options) -> _Node | None:
        """The node at the end of a path, new if there is none; None if the branch is closed."""
        if not path:
            if self._root is None:
                self._root = self._new_node(name, options)
            return self._root
        parent, index = path[-1]
        if index not in parent.branches:
            parent.branches[index] = self._new_node(name, options)
        return parent.branches[index]

    def _new_node(self, name: str, options: Options) -> _Node:
        self._nodes += 1
        return _Node(name, options)

    def _close(self, path: list[tuple[_Node, int]]) -> None:
        """Close the last branch of a path, and the branches above it that have no open option any more."""
        for node, index in reversed(path):
            if index in node.branches and node.branches[index] is None:
                return
            node.branches[index] = None
            node.open -= 1
            if node.open:
                return
        self.exhausted = True


def _with_answers(answers: Mapping[str, int], decide: Decide) -> Decide:
    """A decision with known answers."""

    def known_first(name: str, options: Options) -> int:
        index = answers.get(name)
        return decide(name, options) if index is None else index

    return known_first
