"""Labels with a hierarchy: python examples/hierarchy.py

Small operating points answer in coarse labels, here even and odd, large ones in fine labels, here digits.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch

import nas

PARITY = {str(digit): "odd" if digit % 2 else "even" for digit in range(10)}
"""Class, by number or name, to coarse label; coarse labels are numbered in alphabetical order."""


def main(data: str = "digits", *, store: str = "sqlite:///nas.db", **settings: Any) -> nas.Study:
    """Search, show both accuracies, and let every operating point classify an image; returns the study."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "parity.json")
        file.write_text(json.dumps(PARITY), encoding="utf-8")
        study = nas.search(data, study="parity", space="slicing", hierarchy=str(file), store=store, **settings)
    front = study.front()
    print(front[["macs", "accuracy", "fine_accuracy", "coarse_accuracy"]].to_string(index=False))

    network = study.network()
    x = network.preprocess(torch.from_numpy(nas.load_data(data).x_test[:1]))
    names = [["even", "odd"], list(map(str, range(10)))]
    for level, macs in enumerate(network.macs):
        logits = network(x, level)
        labels = names[logits.shape[1] > 2]
        print(f"{labels[int(logits.argmax())]:5} for {macs:,} MACs")
    return study


if __name__ == "__main__":
    main(train=9)
