"""Plug-ins by name and by file, and the messages if they cannot be loaded."""

from __future__ import annotations

import os
import pickle
from importlib.metadata import EntryPoint

import pytest

from nas.errors import PluginError
from nas.plugins import canonical_spec, describe, installed, load_plugin, trust
from nas.plugins import loading as plugins

GROUP = "nas.strategies"
SOURCE = '''
from __future__ import annotations
from dataclasses import dataclass
from math import pi

@dataclass(frozen=True, slots=True, kw_only=True)
class Toy:
    """A toy."""
    width: int = 8

def helper(): ...
'''


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "toy.py"
    _write(path, SOURCE)
    return path


def _write(path, source):
    """Write a plug-in's file to which the user consents."""
    path.write_text(source)
    trust(path)


@pytest.fixture
def metadata(monkeypatch):
    """Replaces the installed entry points by a list of (name, value, distribution)."""

    class Dist:
        def __init__(self, name):
            self.name = name

    def replace(*rows):
        entries = []
        for name, value, dist in rows:
            entry = EntryPoint(name, value, GROUP)
            vars(entry)["dist"] = Dist(dist)
            entries.append(entry)
        monkeypatch.setattr(plugins, "entry_points", lambda group: [e for e in entries if e.group == group])

    return replace


def test_shipped_strategies_without_metadata(metadata):
    metadata()
    assert list(installed(GROUP)) == ["evolution", "guided", "nsga2", "random", "tpe"]
    from nas.strategies.random import Random

    assert load_plugin(GROUP, "random") is Random
    assert describe(GROUP)["random"].startswith("Random search: every option with equal probability")
    assert installed("nas.no_such_group") == {}


def test_without_metadata_and_without_checkout(metadata, monkeypatch):
    metadata()
    monkeypatch.setattr(plugins, "checkout_tables", dict)
    with pytest.raises(PluginError, match=r"Unknown strategy 'random'. Valid: none is installed\."):
        load_plugin(GROUP, "random")


def test_the_checkout_wins_over_a_stale_install(metadata):
    metadata(
        ("random", "nas.old:Random", "anytime-nas"),
        ("removed", "nas.old:Removed", "anytime-nas"),
        ("mine", "json:dumps", "mine"),
        ("mine", "json:dumps", "copy"),
    )
    assert list(installed(GROUP)) == ["evolution", "guided", "mine", "nsga2", "random", "tpe"]
    assert installed(GROUP)["random"].value == "nas.strategies.random:Random"
    assert load_plugin(GROUP, "mine").__name__ == "dumps"


def test_a_name_that_two_distributions_claim(metadata):
    metadata(("mine", "json:dumps", "one"), ("mine", "json:loads", "two"), ("tpe", "json:loads", "two"))
    with pytest.raises(PluginError, match=r"must be unique.*json:dumps \(one\), json:loads \(two\)"):
        load_plugin(GROUP, "mine")
    with pytest.raises(PluginError, match="must be unique"):
        load_plugin(GROUP, "tpe")
    assert "must be unique" in describe(GROUP)["mine"]


def test_unknown_name_lists_the_valid_ones():
    for function in (load_plugin, canonical_spec):
        with pytest.raises(
            PluginError,
            match=r"Unknown strategy 'rando'. Did you mean 'random'\? Valid: evolution, guided, nsga2, random, tpe",
        ):
            function(GROUP, "rando")


def test_broken_plugins_are_described(metadata):
    metadata(
        ("gone", "no_such_module:X", "other"), ("nameless", "json:no_such_name", "other"), ("mute", "json:x", "other")
    )
    lines = describe(GROUP)
    assert lines["gone"].startswith(
        "broken: The strategy 'gone' (no_such_module:X) does not import: ModuleNotFoundError"
    )
    assert "AttributeError" in lines["nameless"]
    with pytest.raises(PluginError) as caught:
        load_plugin(GROUP, "gone")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_file(file):
    toy = load_plugin(GROUP, f"{file}:Toy")
    assert toy().width == 8
    assert load_plugin(GROUP, f"{file}:Toy") is toy
    assert pickle.loads(pickle.dumps(toy(width=3))) == toy(width=3)
    assert not (file.parent / "__pycache__").exists()


def test_relative_path_and_canonical_spec(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = canonical_spec(GROUP, "toy.py:Toy")
    assert spec == f"{file.resolve()}:Toy"
    assert canonical_spec(GROUP, spec) == spec
    assert canonical_spec(GROUP, "tpe") == "tpe"
    toy = load_plugin(GROUP, "toy.py:Toy")
    monkeypatch.chdir("/")
    assert load_plugin(GROUP, spec) is toy


def test_a_changed_file_is_loaded_anew(file):
    old = load_plugin(GROUP, f"{file}:Toy")
    stat = file.stat()
    _write(file, SOURCE.replace("8", "9"))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert load_plugin(GROUP, f"{file}:Toy")().width == 9
    assert old().width == 8
    assert pickle.loads(pickle.dumps(old())) == old()


def test_two_files_of_one_name_do_not_meet(file, tmp_path):
    other = tmp_path / "other" / "toy.py"
    other.parent.mkdir()
    _write(other, SOURCE)
    assert load_plugin(GROUP, f"{file}:Toy") is not load_plugin(GROUP, f"{other}:Toy")


def test_file_errors(file, tmp_path):
    with pytest.raises(PluginError, match=r"must exist. Got '.*gone\.py:Toy'"):
        load_plugin(GROUP, f"{tmp_path}/gone.py:Toy")
    with pytest.raises(PluginError, match=r"Did you mean 'Toy'\? Valid: Toy, helper\."):
        load_plugin(GROUP, f"{file}:Toi")
    for spec in (f"{file}", f"{file}:", f"{file}:a b"):
        with pytest.raises(PluginError, match="the name of the object in it"):
            load_plugin(GROUP, spec)


@pytest.mark.parametrize(
    ("source", "last_line"),
    [
        ("import no_such_module_here", "ModuleNotFoundError: No module named 'no_such_module_here'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_file_that_does_not_import(tmp_path, source, last_line):
    path = tmp_path / "bad.py"
    _write(path, source)
    for _ in range(2):
        with pytest.raises(PluginError, match=last_line) as caught:
            load_plugin(GROUP, f"{path}:Toy")
        assert caught.value.__cause__ is not None
    _write(path, SOURCE)
    assert load_plugin(GROUP, f"{path}:Toy")
