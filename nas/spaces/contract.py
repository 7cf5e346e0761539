"""What a search space promises: the contract between the driver, which decides, and a space, which describes.

The shipped checks of :mod:`nas.testing` hold a space to it. The other contracts stand with their first implementations:
`Strategy` in :mod:`nas.strategies`, `Kind` in :mod:`nas.kinds`.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from nas.representation.architecture import Architecture
from nas.representation.elements import Task
from nas.spaces.choices import Choose


@runtime_checkable
class SearchSpace(Protocol):
    """A family of anytime networks, as one function of choices. Inheriting from this class is not needed.

    Life cycle
    ----------
    A study constructs its spaces once, without arguments, and calls `architecture` once for each proposal, thousands of
    times; again for a stored proposal when it is replayed, possibly in another process. The object may be pickled, and
    may be shared between threads.

    The space is pure: its answer depends on the choices, the task and the number of points alone. It uses no random
    state, keeps no state between calls and reads no files.

    The first line of the class's docstring is what `nas spaces` shows.
    """

    def architecture(self, choose: Choose, task: Task, *, points: int = 4) -> Architecture:
        """The network that the choices describe, for this task.

        Define-by-run: `choose(name, options)` may be called any number of times, later calls may depend on earlier
        answers, and the same name always comes with the same options: what they depend on belongs into the name (see
        `nas.spaces.choices.Choose`). Options may differ between tasks and between numbers of points: a study fixes
        these.

        Parameters
        ----------
        choose: picks one of the options, under a name.
        task: the shape of the input, and the classes.
        points: number of operating points that the answer must have, at least 1.

        Raises
        ------
        InvalidArchitecture
            When what was chosen is no network: the proposal is rejected and counted, the study goes on. Fewer than half
            of random proposals should end so.
        UserError
            When the space cannot serve this task, or this number of points, whatever is chosen: the study ends with the
            message.
        """
        ...
