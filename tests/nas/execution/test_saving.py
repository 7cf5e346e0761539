"""Saving and loading networks; damaged folders are rejected with a message."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import nas
from nas.errors import UserError
from nas.execution.network import AnytimeNetwork
from nas.execution.preprocessing import Preprocessing

from ..hand_built import ALL
from ..networks import random_images, random_network, random_statistics

PREPROCESSING = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), scale=1 / 255)


@pytest.fixture
def saved(tmp_path) -> Path:
    network = random_statistics(random_network(ALL["residual"]())).eval()
    network.preprocess, network.augmented = PREPROCESSING, 0.25
    network.save(tmp_path / "some" / "net")
    return tmp_path / "some" / "net"


@pytest.mark.parametrize("name", ALL)
def test_a_loaded_network_equals_the_saved_network(name: str, tmp_path) -> None:
    network = random_statistics(random_network(ALL[name]())).eval()
    network.save(tmp_path / "net")
    again, x = nas.load(tmp_path / "net"), random_images(network)
    assert again.architecture == network.architecture
    assert not again.training
    for level in range(network.levels):
        assert torch.equal(again(x, level), network(x, level))


def test_a_folder_contains_json_and_tensors_only(saved: Path) -> None:
    assert sorted(p.name for p in saved.iterdir()) == ["manifest.json", "network.json", "weights.safetensors"]
    assert set(json.loads((saved / "network.json").read_text())) == {"architecture", "augmented", "preprocessing"}


def test_preprocessing_comes_back(saved: Path) -> None:
    network = nas.load(str(saved))
    assert (network.preprocess, network.augmented) == (PREPROCESSING, 0.25)
    raw = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(network(network.preprocess(raw)), network.extract(2)(PREPROCESSING(raw)))
    assert network.extract(0).preprocess == PREPROCESSING


def test_a_network_can_be_saved_over_another(saved: Path) -> None:
    other = random_statistics(random_network(ALL["mobile"]())).eval()
    other.save(saved)
    x = random_images(other)
    assert torch.equal(nas.load(saved)(x), other(x))
    assert nas.load(saved).preprocess is None


def test_an_uncalibrated_network_stays_uncalibrated(tmp_path) -> None:
    network = random_network(ALL["residual"]())
    network.save(tmp_path)
    again = nas.load(tmp_path)
    with pytest.raises(UserError, match="recalibrated"):
        again(random_images(again))
    again.calibrate([random_images(again)])
    assert again(random_images(again)).shape == (6, 5)


def test_precision_and_memory_format_are_not_saved(tmp_path) -> None:
    network = random_statistics(random_network(ALL["residual"]())).eval()
    x = random_images(network)
    before = network(x)
    network.to(memory_format=torch.channels_last).save(tmp_path)
    assert torch.equal(nas.load(tmp_path)(x), before)
    network.double().save(tmp_path)
    assert torch.equal(nas.load(tmp_path)(x), before)


def test_loading_draws_nothing_from_global_randomness(saved: Path) -> None:
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    nas.load(saved)
    assert torch.equal(state, torch.random.get_rng_state())


# Damaged folders ----------------------------------------------------------------------------------------------------


def _edit(folder: Path, change: Any) -> None:
    data = json.loads((folder / "network.json").read_text())
    change(data)
    (folder / "network.json").write_text(json.dumps(data))


def _edit_weights(folder: Path, change: Any) -> None:
    tensors = load_file(folder / "weights.safetensors")
    change(tensors)
    save_file(tensors, folder / "weights.safetensors")


def _others_weights(folder: Path) -> None:
    random_network(ALL["mobile"]()).save(folder.parent / "other")
    shutil.copy(folder.parent / "other" / "weights.safetensors", folder)


BROKEN: dict[str, Any] = {
    "no description": (lambda f: (f / "network.json").unlink(), "must be a folder that network.save wrote.*No such"),
    "an empty description": (lambda f: (f / "network.json").write_text(""), "network.save wrote: JSONDecodeError"),
    "half a description": (
        lambda f: (f / "network.json").write_text((f / "network.json").read_text()[:99]),
        "network.save wrote: JSONDecodeError",
    ),
    "bytes": (lambda f: (f / "network.json").write_bytes(b"\xff\xfe\x00"), "network.save wrote: UnicodeDecodeError"),
    "a list": (lambda f: (f / "network.json").write_text("[]"), "network.save wrote: TypeError"),
    "no architecture": (lambda f: _edit(f, lambda d: d.pop("architecture")), "KeyError: 'architecture'"),
    "an odd architecture": (lambda f: _edit(f, lambda d: d.update(architecture=7)), "format 1. Got format 'int'"),
    "an invalid architecture": (
        lambda f: _edit(f, lambda d: d["architecture"]["points"].reverse()),
        "Operating points must grow",
    ),
    "an unknown kind": (
        lambda f: _edit(f, lambda d: d["architecture"]["operations"][0].update(kind="konv")),
        "PluginError: Unknown kind 'konv'",
    ),
    "odd preprocessing": (lambda f: _edit(f, lambda d: d.update(preprocessing={"mean": []})), "Preprocessing needs"),
    "no word on preprocessing": (lambda f: _edit(f, lambda d: d.pop("preprocessing")), "KeyError: 'preprocessing'"),
    "no weights": (lambda f: (f / "weights.safetensors").unlink(), "must be a file of weights: FileNotFoundError"),
    "empty weights": (lambda f: (f / "weights.safetensors").write_bytes(b""), "must be a file of weights"),
    "garbage for weights": (lambda f: (f / "weights.safetensors").write_bytes(b"x" * 999), "must be a file of weights"),
    "half the weights": (
        lambda f: (f / "weights.safetensors").write_bytes((f / "weights.safetensors").read_bytes()[:-100]),
        "must be a file of weights",
    ),
    "a pickle for weights": (lambda f: torch.save({}, f / "weights.safetensors"), "must be a file of weights"),
    "another network's weights": (_others_weights, "must hold the weights of this very network. Got shape"),
    "a weight too few": (
        lambda f: _edit_weights(f, lambda w: w.pop("layers.0.weight")),
        r"Got shape None for layers.0.weight, expected \(12, 3, 3, 3\)",
    ),
    "a weight too many": (
        lambda f: _edit_weights(f, lambda w: w.update(more=torch.ones(2))),
        r"Got shape \(2,\) for more, expected None",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_damaged_folders_are_rejected_with_a_message(saved: Path, name: str) -> None:
    damage, message = BROKEN[name]
    damage(saved)
    with pytest.raises(UserError, match=message) as caught:
        nas.load(saved)
    assert "\n" not in str(caught.value)
    assert str(saved) in str(caught.value)


def test_wrong_weights_do_not_change_the_network(saved: Path, tmp_path) -> None:
    network = AnytimeNetwork(ALL["mobile"]())
    before = {name: t.clone() for name, t in network.state_dict().items()}
    with pytest.raises(UserError, match="very network"):
        network.read_weights(saved / "weights.safetensors")
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
