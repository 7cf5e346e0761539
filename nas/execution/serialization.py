"""From a key or a folder back to the trained network."""

from __future__ import annotations

from pathlib import Path

from nas.execution.network import AnytimeNetwork


def load(key_or_folder: str | Path, *, store: str = "sqlite:///nas.db", repeat: int | None = None) -> AnytimeNetwork:
    """A trained network, in evaluation mode, with ``preprocess`` for raw images.

    key_or_folder: the folder that ``network.save`` wrote, or the key (or an unambiguous prefix of it) of a candidate in
        the store: then the very network whose accuracies are in the store, at its highest fidelity.
    repeat: which training of a candidate, where there are several; by default the first that was kept.
    Raises UserError or results.StoreError when there is none.
    """
    if Path(key_or_folder).is_dir():
        return AnytimeNetwork.load(key_or_folder)
    import results

    return AnytimeNetwork.load(results.open(store).weights(str(key_or_folder), repeat=repeat))
