"""The user's code on another machine: a process without the files, with the code that was sent, loads the plug-ins."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nas
from nas.errors import EnvironmentFault, PluginError, UserError
from nas.plugins import code
from nas.plugins.code import Code, code_of
from nas.plugins.imports import imported_files

ROOT = Path(__file__).resolve().parents[2]
RULE = "nas.training_rules"
LOAD = """
import pickle, sys
from nas.plugins import load_plugin
with open(sys.argv[1], "rb") as file:
    sent, specs = pickle.load(file)
for code in sent:
    code.install()
for group, spec in specs:
    print(load_plugin(group, spec)())
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder of the user's, on sys.path, whose modules are forgotten afterwards."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(folder, **modules):
    """Write modules by name."""
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)


def plugin(path, name="make"):
    """The specification of a plug-in that the user names."""
    nas.trust(f"{path}:{name}")
    return RULE, f"{path}:{name}"


def elsewhere(sent, specs, tmp_path, **variables):
    """What plug-ins return in a process of another machine: nothing of this one is there but the installed packages."""
    message = tmp_path / "message"
    message.write_bytes(pickle.dumps((sent, specs)))
    other = tmp_path / "other"
    other.mkdir(exist_ok=True)
    environment = {name: os.environ[name] for name in ("PATH",)} | {"PYTHONPATH": str(ROOT), "TMPDIR": str(other)}
    environment |= {"HOME": str(other), "XDG_STATE_HOME": str(other)} | variables
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-P", "-c", LOAD, str(message)],
        capture_output=True,
        text=True,
        cwd=other,
        env=environment,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.split()


def test_a_file_is_loaded_under_its_name_of_the_first_machine(project, tmp_path):
    write(project, rule="def make():\n    return __name__")
    spec = plugin(project / "rule.py")
    here = nas.plugins.load_plugin(*spec)()
    sent = code_of([spec])
    shutil.rmtree(project)
    assert elsewhere([sent], [spec], tmp_path) == [here]


def test_modules_of_the_user_go_along(project, tmp_path):
    write(
        project,
        rule="import sibling\n\ndef make():\n    import late\n    return sibling.VALUE + late.VALUE",
        sibling="from package.deep import VALUE",
        unused="raise RuntimeError('not needed')",
    )
    package = project / "package"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").write_text("")
    (package / "deep.py").write_text(
        "from pathlib import Path\nVALUE = Path(__file__).with_name('value.txt').read_text() + 'b'"
    )
    (package / "value.txt").write_text("a")
    (project / "late.py").write_text("VALUE = 'c'")
    spec = plugin(project / "rule.py")
    sent = code_of([spec])
    assert sorted(sent.modules) == [
        "late.py",
        "package/__init__.py",
        "package/deep.py",
        "package/value.txt",
        "sibling.py",
    ]
    shutil.rmtree(project)
    assert elsewhere([sent], [spec], tmp_path) == ["abc"]


def test_the_sent_version_is_used_beside_another_one(project, tmp_path):
    write(project, rule="import sibling\n\ndef make():\n    return sibling.VALUE", sibling="VALUE = 'sent'")
    spec = plugin(project / "rule.py")
    sent = code_of([spec])
    write(project, rule="def make():\n    return 'other'", sibling="VALUE = 'other'")
    assert elsewhere([sent], [spec], tmp_path, PYTHONPATH=f"{project}{os.pathsep}{ROOT}") == ["sent"]


def test_code_that_is_sent_later_adds_to_the_first(project, tmp_path):
    write(
        project,
        a="def make():\n    return 'a'",
        b="def make():\n    import c\n    return c.VALUE",
        c="VALUE = 'c'",
    )
    first, second = plugin(project / "a.py"), plugin(project / "b.py")

    sent = [code_of([first]), code_of([first, second])]
    shutil.rmtree(project)
    assert elsewhere(sent, [first, second], tmp_path) == ["a", "c"]


def test_only_what_the_user_consented_to_is_sent(project):
    write(project, rule="def make():\n    return 1\n\ndef other():\n    return 2")
    with pytest.raises(PluginError, match="only with your consent"):
        code_of([(RULE, f"{project / 'rule.py'}:make")])
    plugin(project / "rule.py", "make")
    sent = code_of([(RULE, f"{project / 'rule.py'}:make")])
    assert [name for _, name in sent.consents] == ["make"]
    with pytest.raises(PluginError, match="only with your consent"):
        code_of([(RULE, f"{project / 'rule.py'}:other")])


def test_installed_packages_are_not_sent(project):
    write(project, rule="import numpy, torch, nas, evaluators, json, pandas, absent, pytest\n\ndef make(): ...")
    assert code_of([plugin(project / "rule.py")]).modules == {}
    assert code_of([(RULE, "sandwich"), ("nas.evaluators", "training"), ("nas.kinds", "conv")]) == Code()


def test_an_installed_package_with_plugins_of_its_own_is_sent_with_its_names(project, tmp_path, monkeypatch):
    site = tmp_path / "site-packages"
    (site / "their_rules").mkdir(parents=True)
    (site / "their_rules" / "__init__.py").write_text("def make():\n    return 'theirs'")
    folder = site / "their_rules-1.2.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: their-rules\nVersion: 1.2\n")
    (folder / "entry_points.txt").write_text("[nas.training_rules]\ntheirs = their_rules:make\n")
    monkeypatch.syspath_prepend(site)
    sent = code_of([(RULE, "theirs")])
    shutil.rmtree(site)
    assert elsewhere([sent], [(RULE, "theirs")], tmp_path) == ["theirs"]


def test_code_that_is_too_large_names_the_largest_package(project, monkeypatch):
    write(project, rule="import big, small", small="")
    (project / "big").mkdir()
    (project / "big" / "__init__.py").write_text("")
    (project / "big" / "data.bin").write_bytes(b"0" * 3 * 2**20)
    monkeypatch.setattr(code, "LARGEST_MB", 2)
    with pytest.raises(UserError, match=r"at most 2 MB. Got 3 MB in 'big'. Move its data elsewhere"):
        code_of([plugin(project / "rule.py")])


def test_a_file_with_errors_has_no_imports(project):
    write(project, rule="import sibling\n\ndef make(:", sibling="")
    assert imported_files([project / "rule.py"]) == {}


@pytest.mark.parametrize("mode", [0o777, 0o750])
def test_a_folder_of_somebody_else_is_not_used(project, tmp_path, monkeypatch, mode):
    write(project, rule="def make(): ...")
    sent = code_of([plugin(project / "rule.py")])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path / f"nas-code-{os.getuid()}"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(EnvironmentFault, match="writable by its owner only"):
        sent.install()
