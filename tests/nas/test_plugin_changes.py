"""A study is not continued with plug-ins that have changed, unless the user accepts them."""

from __future__ import annotations

import pytest

import nas
import results
from nas.errors import PluginError
from nas.evaluation.training_rules import load_rule
from nas.execution.network import AnytimeNetwork
from nas.plugins import identity, trust
from nas.plugins import loading as plugins
from nas.representation.elements import TrainingSpec

from .searching import PLUGINS, arguments, content, search, space

SPACE = '''
from tests.plugins.spaces import Small

class Mine(Small):
    """Other kernels are possible."""

    def architecture(self, choose, task, *, points=4):
        {body}
'''
SAME = "return super().architecture(choose, task, points=points)"
OTHER = """architecture = super().architecture(choose, task, points=points)
        from dataclasses import replace
        return replace(architecture, norm="per_point")"""
EVALUATOR = '''
from tests.plugins.toy import Toy

class Mine(Toy):
    """Accuracies may be halved."""

    def points(self, job, state):
        return [point | {{"accuracy": point["accuracy"] * {factor}}} for point in super().points(job, state)]
'''
LAST = {"train": 3, "generation": 3}
MORE = {"train": 6, "generation": 3}


@pytest.fixture
def file(tmp_path):
    """Writes the file of a plug-in and returns its specification."""

    def write(text, **values):
        path = tmp_path / "mine.py"
        path.write_text(text.format(**values))
        return f"{path}:Mine"

    return write


@pytest.mark.parametrize(
    ("setting", "text", "before", "after"),
    [
        ("spaces", SPACE, {"body": SAME}, {"body": OTHER}),
        ("evaluator", EVALUATOR, {"factor": 1.0}, {"factor": 0.5}),
        (
            "strategy",
            "from nas.strategies.{module} import {name} as Mine",
            *2 * ({"module": "random", "name": "Random"},),
        ),
        ("proxy", "from nas.proxies.sizes import {name} as Mine", {"name": "count"}, {"name": "depth"}),
        ("rule", "from evaluators.rules.{module} import {name} as Mine", *2 * ({"module": "joint", "name": "Joint"},)),
        ("data", "from evaluators.data import {name} as Mine", {"name": "digits"}, {"name": "synthetic"}),
    ],
)
@pytest.mark.usefixtures("in_process")
def test_a_plugin_that_changes_is_refused(store, file, setting, text, before, after):
    def given(spec):
        return {setting: (spec,) if setting == "spaces" else spec}

    spec = file(text, **before)
    search(store, **LAST, **given(spec))
    stored = content(store)
    file(text + "\n# another version", **after)
    refused = (
        r"plug-ins of a study stay the same\. .*mine\.py:Mine was sha256 [0-9a-f]{12} and is sha256 .*--accept-plugin"
    )
    with pytest.raises(PluginError, match=refused):
        search(store, **MORE, **given(spec))
    with pytest.raises(PluginError, match=refused):
        nas.resume("toy", store=str(store), train=6)
    assert content(store)["candidates"].equals(stored["candidates"])
    nas.resume("toy", store=str(store), train=6, accept_plugin_change=True)
    versions = results.open(str(store)).settings("toy")["_plugins"]
    assert len(next(used for name, used in versions.items() if name.endswith(spec))) == 2
    nas.resume("toy", store=str(store), train=7)


@pytest.mark.usefixtures("in_process")
def test_a_space_that_builds_other_networks_is_refused(store, tmp_path, monkeypatch):
    """The file of the space is the same; a module that it imports has changed."""
    (tmp_path / "helper_of_a_space.py").write_text("NORM = 'recalibrated'")
    monkeypatch.syspath_prepend(tmp_path)
    spec = tmp_path / "mine.py"
    body = OTHER.replace('"per_point"', "helper_of_a_space.NORM").replace(
        "from dataclasses", "import helper_of_a_space\n        from dataclasses"
    )
    spec.write_text(SPACE.format(body=body))
    search(store, **LAST, spaces=(f"{spec}:Mine",))
    search(store, **LAST, spaces=(f"{spec}:Mine",))
    import helper_of_a_space

    monkeypatch.setattr(helper_of_a_space, "NORM", "per_point")
    with pytest.raises(
        PluginError, match=r"'Mine' of a study must build the same network from the same choices, \w{16}\. Got \w{16}\."
    ):
        search(store, **MORE, spaces=(f"{spec}:Mine",))
    monkeypatch.setattr(helper_of_a_space, "NORM", "nonsense")
    with pytest.raises(PluginError, match=r"Got a rejection: norm must be one of"):
        nas.resume("toy", store=str(store), train=6)


@pytest.mark.usefixtures("in_process")
def test_an_object_as_space_is_compared_too(store):
    class Mine(plugins.load_plugin("nas.search_spaces", space())):
        wide = 4

        def architecture(self, choose, task, *, points=4):
            architecture = super().architecture(choose, task, points=points)
            return architecture if self.wide == 4 else architecture.with_points(architecture.points[-1:] * 1)

    settings = {"study": "toy", "evaluator": f"{PLUGINS}/toy.py:Toy", "pool": 4, "device": "cpu", "epochs": 9, **LAST}
    nas.search("nothing", space=Mine, store=str(store), **settings)
    Mine.wide = 5
    with pytest.raises(PluginError, match="'Mine' of a study must build the same network"):
        nas.resume("toy", space=Mine, store=str(store), train=6)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("command", ["select", "throttle"])
def test_commands_on_networks_compare_the_evaluator(cli, store, file, monkeypatch, command):
    spec = file(EVALUATOR, factor=1.0)
    study = search(store, **LAST, evaluator=spec)
    key = str(study.front().candidate.iloc[0])
    file(EVALUATOR, factor=0.5)
    network = AnytimeNetwork(nas.Architecture.from_json(study.store.architecture(key))).eval()
    monkeypatch.setattr(AnytimeNetwork, "load", staticmethod(lambda folder: network))  # toys save none
    words = [command, key, "out", "--store", str(store), "-q"]
    status, _, err = cli(*words)
    assert status == 2
    assert f"{spec} was sha256" in err
    assert "use the present ones: --accept-plugin-change" in err
    status, _, err = cli(*words, "--accept-plugin-change")
    assert "Mine runs no final search" in err or "Mine trains no controllers" in err


def test_the_identity_of_an_installed_plugin(monkeypatch):
    class Dist:
        name, version = "mine", "1.2"

        def read_text(self, name):
            return self.direct_url

    entry = plugins.EntryPoint("mine", "tests.plugins.toy:Toy", "nas.evaluators")
    vars(entry)["dist"] = Dist()
    monkeypatch.setattr(plugins, "entry_points", lambda group: [entry] if group == "nas.evaluators" else [])
    Dist.direct_url = None
    assert identity("nas.evaluators", "mine") == "mine 1.2"
    Dist.direct_url = '{"dir_info": {"editable": true}, "url": "file:///mine"}'
    edited = identity("nas.evaluators", "mine")
    assert edited.startswith("mine 1.2, sha256 ")
    assert edited.split()[-1] == identity("nas.evaluators", f"{PLUGINS}/toy.py:Toy").split()[-1]
    assert identity("nas.proxies", "dtmc") == "anytime-nas 0.1.0"


@pytest.mark.usefixtures("in_process")
def test_another_version_of_a_distribution_is_refused(cli, monkeypatch, tmp_path):
    assert cli(*arguments("nas.db", **LAST), "-q")[0] == 0
    monkeypatch.setattr(plugins, "_checkout", lambda: {**checkout, "version": "0.2.0"})
    status, _, err = cli("resume", "toy", "--store", "nas.db", "--train", "6")
    assert status == 2
    assert "dtmc was anytime-nas 0.1.0 and is anytime-nas 0.2.0." in err
    assert "nas resume toy --store nas.db --accept-plugin-change" in err
    changed = "dtmc was anytime-nas 0.1.0 and is anytime-nas 0.2.0."
    assert f"Changed since the last run: {changed}" in cli("status", "toy", "--store", "nas.db")[1]
    assert cli("report", "toy", "--store", "nas.db", "--proxy", "count", "-q")[0] == 0
    assert f"Changed since the study: {changed}" in (tmp_path / "toy.html").read_text()
    assert cli("resume", "toy", "--store", "nas.db", "--train", "6", "--accept-plugin-change", "-q")[0] == 0


checkout = plugins._checkout()


@pytest.mark.usefixtures("in_process")
def test_a_rule_that_a_space_names_is_compared(store, tmp_path):
    rule, mine = tmp_path / "rule.py", tmp_path / "mine.py"
    rule.write_text("from evaluators.rules.joint import Joint as Rule")
    body = OTHER.replace('norm="per_point"', f"training=TrainingSpec(rule={str(rule) + ':Rule'!r})")
    mine.write_text("from nas.representation.elements import TrainingSpec\n" + SPACE.format(body=body))
    search(store, **LAST, spaces=(f"{mine}:Mine",))
    rule.write_text("from evaluators.rules.sandwich import Sandwich as Rule")
    with pytest.raises(PluginError, match=r"rule\.py:Rule was sha256"):
        nas.resume("toy", store=str(store), train=6)
    trust(rule)
    assert load_rule(TrainingSpec(rule=f"{rule}:Rule")).sampled == 1
