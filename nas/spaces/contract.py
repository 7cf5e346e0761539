"""The contract of search spaces: a space describes networks, and the driver decides among them.

:func:`nas.testing.check_search_space` tests an implementation.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from nas.representation.architecture import Architecture
from nas.representation.elements import Task
from nas.spaces.choices import Choose


@runtime_checkable
class SearchSpace(Protocol):
    """A family of anytime networks, as a function of choices. A space need not inherit from this class.

    Notes
    -----
    Life cycle: a study constructs its spaces once, without arguments, and calls `architecture` once per proposal,
    thousands of times; again when a stored proposal is replayed, possibly in another process. The object may be pickled
    and shared between threads.

    The space is pure: the architecture depends only on the choices, the task and the number of points. A space uses no
    random state, keeps no state between calls and reads no files.

    `nas spaces` shows the first line of the class's docstring.

    A space may have a second method, :meth:`nas.spaces.references.ReferringSpace.references`, that names known good
    designs among its networks; `nas references` lists them.

    A search without named spaces covers all installed ones that suit its data. A space that is made for another
    purpose, such as one whose networks are enumerated in a table, sets the attribute ``by_name_only = True``: a search
    covers it only if the user names it.
    """

    def architecture(self, choose: Choose, task: Task, *, points: int = 4) -> Architecture:
        """The network of one set of choices.

        Parameters
        ----------
        choose : callable
            ``choose(name, options)`` returns one of the options; see :class:`nas.spaces.choices.Choose`. Options may
            depend on the task and the number of points, which are fixed in a study.
        task : Task
            Input shape and classes.
        points : int
            Number of operating points, at least 1.

        Returns
        -------
        Architecture
            For this task, with this number of operating points.

        Raises
        ------
        InvalidArchitecture
            If the choices describe no valid network: the proposal is rejected and counted, and the study continues.
            Fewer than half of random proposals may be rejected.
        UserError
            If the space cannot serve this task or this number of points: the study ends with the message.
        """
        ...
