"""Evaluators are loaded with checks of the plug-in, the data specification and the device."""

from __future__ import annotations

import pytest

from nas.errors import PluginError, UserError
from nas.evaluation.loading import absolute_data, check_device, load_evaluator

from ..searching import toy


def test_an_evaluator_is_constructed_from_data_and_settings():
    assert load_evaluator(toy(), "nothing", {"device": "cpu", "threads": 1}).info().task.num_classes > 1


def test_plugins_that_are_no_evaluators_are_rejected():
    with pytest.raises(PluginError, match="must be a subclass of nas"):
        load_evaluator(toy("not_an_evaluator"), "nothing", {})
    with pytest.raises(PluginError, match=r"must accept data and settings\. It raised TypeError"):
        load_evaluator(toy(), "nothing", {"data": "given twice"})


def test_devices(monkeypatch):
    import torch

    for name in ("auto", "cpu", "cpu:0"):
        check_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_device("cuda")
    check_device("cuda:1")
    with pytest.raises(UserError, match="torch sees 2 CUDA devices"):
        check_device("cuda:2")
    with pytest.raises(UserError, match=r"must be auto, cpu, cuda, cuda:0 or another device of torch\. Got 'foo'\.$"):
        check_device("foo")


def test_paths_are_the_same_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_data("npz:x.npz") == f"npz:{tmp_path}/x.npz"
    assert absolute_data("npy:folder") == f"npy:{tmp_path}/folder"
    assert absolute_data("synthetic:n=3") == "synthetic:n=3"
    (tmp_path / "mine.py").touch()
    assert absolute_data("mine.py:data") == f"{tmp_path}/mine.py:data"
