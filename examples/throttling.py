"""Throttling: python examples/throttling.py

Searches for a throttleable network, sets its utilization by hand, then trains controllers that choose the utilization
of each input.
"""

from typing import Any

import torch

import nas


def main(data: str = "digits", *, store: str = "sqlite:///nas.db", passes: int = 40, **settings: Any) -> nas.Study:
    """Search, throttle by hand, throttle by a controller; returns the study."""
    study = nas.search(data, study="throttling", space="throttleable", store=store, **settings)
    network = study.network()
    images = network.preprocess(torch.from_numpy(nas.load_data(data).x_test[:8]))  # (N, C, H, W)

    with torch.no_grad():  # without gradients only the components that are on run
        for utilization in (0.0, 0.5, 1.0):
            macs = network.set_utilization(utilization)
            print(f"utilization {utilization}: {macs:,} MACs, classes {network(images).argmax(1).tolist()}")

    key = str(study.best().key)
    trained = nas.throttle(key, store=store, penalties=(0.03, 0.3), epochs=passes)
    print(trained.policies[["penalty", "macs", "accuracy", "test_macs", "test_accuracy"]].to_string(index=False))

    controlled = nas.ControlledNetwork(network, trained.controllers[0])
    print(f"a utilization for each input: classes {controlled(images).argmax(1).tolist()}")
    return study


if __name__ == "__main__":
    main(train=9)
