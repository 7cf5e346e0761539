"""Loading trained networks from the results store or from a folder."""

from __future__ import annotations

from pathlib import Path

from nas.config import STORE
from nas.execution.network import AnytimeNetwork


def load(key_or_folder: str | Path, *, store: str = STORE, repeat: int | None = None) -> AnytimeNetwork:
    """Load a trained network, in evaluation mode.

    Parameters
    ----------
    key_or_folder
        A folder that ``network.save`` wrote; or the key of a candidate in the store, or an unambiguous prefix of it:
        then the network whose accuracies are in the store, at its highest fidelity.
    store
        URL or path of the results store.
    repeat
        Number of the training run of a candidate that was trained repeatedly; by default the first one with weights.

    Returns
    -------
    AnytimeNetwork
        Its ``preprocess`` converts raw images to its input.

    Raises
    ------
    UserError
        If the folder contains no network.
    results.StoreError
        If the store contains no such network.

    Examples
    --------
    >>> network = nas.load("2f9c01")  # doctest: +SKIP
    >>> network(network.preprocess(images), level=0)  # doctest: +SKIP
    """
    if Path(key_or_folder).is_dir():
        return AnytimeNetwork.load(key_or_folder)
    import results

    return AnytimeNetwork.load(results.open(store).weights(str(key_or_folder), repeat=repeat))
