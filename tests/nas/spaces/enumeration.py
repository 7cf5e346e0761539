"""All sets of choices of a small space."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nas.errors import UserError
from nas.spaces.choices import Choose, Domains, Options, Primitive, Recorder


def enumerate_choices(function: Callable[[Choose], object], limit: int) -> Iterator[dict[str, Primitive]]:
    """Enumerate the complete sets of choices of a define-by-run function, depth first; the last name varies fastest.

    Parameters
    ----------
    function : callable
        Called with a `Choose` once per set of choices. Its return value is ignored; an exception ends the enumeration.
    limit : int
        Largest number of sets of choices.

    Yields
    ------
    dict
        Choices by name.

    Raises
    ------
    UserError
        After `limit` sets of choices, if there are more.

    Examples
    --------
    >>> def space(choose):
    ...     if choose("skip", (False, True)):
    ...         choose("kernel", (3, 5))
    >>> list(enumerate_choices(space, 10))
    [{'skip': False}, {'skip': True, 'kernel': 3}, {'skip': True, 'kernel': 5}]
    """
    domains = Domains()
    path: list[int] = []
    sizes: list[int] = []

    def decide(name: str, options: Options) -> int:
        depth = len(sizes)
        sizes.append(len(options))
        if depth == len(path):
            path.append(0)
        return path[depth]

    for _ in range(limit):
        sizes.clear()
        recorder = Recorder(decide, domains)
        function(recorder)
        yield recorder.choices
        while path and path[-1] + 1 == sizes[len(path) - 1]:
            path.pop()
        if not path:
            return
        path[-1] += 1
    raise UserError(
        f"A space to enumerate must have at most {limit} sets of choices. Got more. Raise the limit if you can wait."
    )
