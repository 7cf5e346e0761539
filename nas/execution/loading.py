"""Loading trained networks from the results store or from a folder."""

from __future__ import annotations

import re
from pathlib import Path

from nas.config import STORE
from nas.errors import UserError
from nas.execution.network import AnytimeNetwork
from results.files.places import is_url

_KEY = re.compile("[0-9a-fA-F]{4,}")


def load(
    key_or_folder: str | Path,
    *,
    study: str | None = None,
    store: str = STORE,
    repeat: int | None = None,
    average: bool = False,
) -> AnytimeNetwork:
    """Load a trained network, in evaluation mode.

    Parameters
    ----------
    key_or_folder
        A folder that ``network.save`` wrote, as a path or a URL such as ``s3://bucket/folder``; or the key of a
        candidate in the store, or an unambiguous prefix of it: then the network whose accuracies are in the store, at
        its highest fidelity.
    study
        The study that trained the candidate; needed if several studies did, because each has weights of its own.
    store
        URL or path of the results store.
    repeat
        Number of the training run of a candidate that was trained repeatedly; by default the first one with weights.
    average
        Load the moving average of the weights, which training rules with the setting ``ema`` keep.

    Returns
    -------
    AnytimeNetwork
        Its ``preprocess`` converts raw images to its input.

    Raises
    ------
    UserError
        If the folder contains no network or no moving average, or if the text names a folder and could be a key.
    results.StoreError
        If the store contains no such network, or if several studies trained it.

    Examples
    --------
    >>> network = nas.load("2f9c01", study="digits")  # doctest: +SKIP
    >>> network(network.preprocess(images), level=0)  # doctest: +SKIP
    """
    if is_folder(key_or_folder, study, repeat):
        return AnytimeNetwork.load(key_or_folder, average=average)
    import results

    weights = results.open(store).find_network(str(key_or_folder), study, repeat).weights
    return AnytimeNetwork.load(weights, average=average)


def is_folder(key_or_folder: str | Path, study: str | None = None, repeat: int | None = None) -> bool:
    """Whether a network is named by its folder, not by its key. A path object is a folder.

    Raises UserError if a text could be both or is neither, or for a study or a repeat of a folder.
    """
    is_key = isinstance(key_or_folder, str) and _KEY.fullmatch(key_or_folder.strip()) is not None
    exists = is_url(key_or_folder) or Path(key_or_folder).is_dir()
    if is_key and exists and study is None:
        raise UserError(
            f"A network must be named by a key or a folder. Got {key_or_folder!r}, which could be both: write "
            f"./{key_or_folder} for the folder, or name the study for the key."
        )
    if is_key:
        return False
    if not exists:
        raise UserError(
            "A network must be named by at least 4 hexadecimal digits of its key, or by its folder. "
            f"Got {str(key_or_folder)!r}, which is no folder."
        )
    if study is not None or repeat is not None:
        raise UserError(f"Only a network in the store has a study and a repeat. Got the folder {str(key_or_folder)!r}.")
    return True
