"""The command line: output and its streams, stopping and resuming, display on a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import random
import re
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from typer.main import get_command

import results
from nas.cli.commands import app
from nas.cli.search import settings_from_file
from nas.cli.stopping import STOPS
from nas.errors import UserError
from nas.study import Study
from results.lookups import check_name

from ..searching import (
    arguments,
    assert_same,
    command,
    content,
    environment,
    nas,
    search,
    space,
    start,
    state_of,
    toy,
    workers_of,
)

COMMANDS = get_command(app).commands
SLOWLY = {"train": 8, "generation": 4}


# Commands -------------------------------------------------------------------------------------------------------------


def test_there_are_the_commands_of_the_design():
    names = "search resume status front show select delete spaces references data"
    assert set(COMMANDS) >= set(names.split())


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_has_help(cli, name):
    status, out, err = cli(name, "--help")
    assert (status, err) == (0, "")
    assert COMMANDS[name].help in " ".join(out.split()) or COMMANDS[name].help.split("\n")[0] in out
    for parameter in COMMANDS[name].params:
        assert parameter.help, f"{name} {parameter.name}"


def test_every_setting_is_an_option():
    from dataclasses import fields

    from nas.config import Config

    options = {parameter.name for parameter in COMMANDS["search"].params}
    assert {f.name for f in fields(Config)} - {"spaces"} <= options


def test_without_arguments_it_helps(cli):
    status, out, err = cli()
    assert (status, err) == (0, "")
    assert all(name in out for name in COMMANDS)


def test_installed_plugins_are_listed(cli):
    assert {line.split()[0] for line in cli("spaces")[1].splitlines()} >= {"residual", "mobile", "slimmable"}
    shown = cli("data")[1]
    for form in ("digits", "synthetic", "npz:FILE", "torchvision:", "file.py:"):
        assert form in shown
    assert shown.count("synthetic") == shown.count("moving_digits") == 1


def test_references_are_listed_for_data_and_a_limit(cli):
    status, out, err = cli("references", "slicing", "slimmable", "--max-macs", "3e5")
    lines = [re.split(r"\s{2,}", line) for line in out.splitlines()]
    assert (status, err) == (0, "")
    assert {name for name, *_ in lines} == {"slicing", "slimmable"}
    assert all(float(macs.split()[-3]) <= 0.3 for _, _, macs, *_ in lines)
    assert {rule for _, _, _, rule, _ in lines} >= {"causal", "sandwich"}


def test_references_of_all_spaces_say_which_of_them_cannot_serve_the_data(cli):
    status, out, _ = cli("references", "--data", "moving_digits")
    assert status == 0
    assert "slicing: The space 'slicing' takes images" in out
    assert "throttleable C3D" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("no-such-space",), "Unknown space 'no-such-space'"),
        (("slicing", "--data", "moving_digits"), "takes images"),
        (("slicing", "--max-macs", "-1"), "max_macs must be positive"),
    ],
    ids=["space", "data", "limit"],
)
def test_references_of_mistakes_are_one_clear_line(cli, options, message):
    status, _, err = cli("references", *options)
    assert status == 2
    assert message in err
    assert len(err.splitlines()) == 1


# Output ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def searched(cli, in_process, tmp_path):
    """A study ``toy`` in nas.db of the working directory, and the output of the search."""
    status, out, err = cli(*arguments("nas.db", train=12, generation=6))
    assert (status, err) == (0, "")
    return out


def test_a_search_prints_its_result_and_nothing_else(searched):
    lines = searched.splitlines()
    assert lines[0].split() == ["macs", "params", "accuracy", "test_accuracy", "candidate", "level"]
    points = len(results.open("nas.db").front("toy"))
    assert all(
        re.fullmatch(r" *[\d,]+ +[\d,]+ +0\.\d{4} +0\.\d{4} +[0-9a-f]{16} +\d", line) for line in lines[1 : 1 + points]
    )
    assert lines[1 + points] == ""
    anytime, audit, control, share, stored, next_, *commands = lines[2 + points :]
    assert re.fullmatch(
        r"Anytime accuracy 0\.\d{4} on validation images, 0\.\d{4} on test images, "
        r"for budgets of [\d,]+ to [\d,]+ MACs\.",
        anytime,
    )
    assert audit.startswith("Proxy dtmc")
    assert "anked" in control
    assert re.match(r"dtmc chose \d+% of the candidates of generation \d: its candidates won \d+%", share)
    assert re.fullmatch(
        r"Stored in /.*/nas\.db as study 'toy': The search ended because 12 candidates were trained\.", stored
    )
    assert next_ == "Next:"
    assert commands[0] == "  nas front toy --plot front.png --store nas.db"
    assert [command.split()[0] for command in commands] == ["nas", "nas", "python"]


def test_suggested_commands_work(searched, cli):
    key = re.search(r"nas show (\w+)", searched)[1]
    status, out, _ = cli("show", key, "--store", "nas.db")
    assert status == 0
    assert out.startswith(key)


def test_front(searched, cli, tmp_path):
    status, out, err = cli("front", "toy", "--csv", "front.csv", "--parquet", "front.parquet", "--plot", "front.svg")
    assert (status, err) == (0, "")
    assert searched.startswith(out.rstrip("\n"))
    stored = results.open("nas.db").front("toy")
    for written in (pd.read_csv("front.csv", dtype={"candidate": str}), pd.read_parquet("front.parquet")):
        assert written.macs.tolist() == stored.macs.tolist()
        assert written.accuracy.tolist() == pytest.approx(stored.accuracy.tolist())
    assert "<svg" in (tmp_path / "front.svg").read_text()
    least = stored.macs.min()
    assert len(cli("front", "toy", "--max-macs", least)[1].splitlines()) == 2
    assert "empty" in cli("front", "toy", "--max-macs", least - 1)[1]
    assert cli("front", "toy", "--cost", "params")[0] == 0


@pytest.mark.usefixtures("searched")
def test_status(cli):
    _, out, _ = cli("status")
    candidates = results.open("nas.db").candidates("toy")
    assert out.splitlines()[1].split()[:4] == ["toy", "finished", str(len(candidates)), "12"]
    _, out, _ = cli("status", "toy")
    assert out.startswith("Study 'toy': finished. The search ended because 12 candidates were trained.")
    for status, count in candidates.status.value_counts().items():
        assert re.search(rf"^ *{count} {status} +e\.g\. \w", out, flags=re.MULTILINE)


@pytest.mark.usefixtures("searched")
def test_show(cli):
    key = results.open("nas.db").front("toy").candidate.iloc[0]
    _, out, err = cli("show", key)
    assert err == ""
    for word in (key, "Anytime accuracy", "dtmc", "width =", "Topology", "conv 3×3"):
        assert word in out
    for words in ("Training chain", "Trained like", "high "):
        assert words in out
    _, out, _ = cli("show", key[:6], "--chain")
    study = Study("toy", store="nas.db")
    for part in ("stages", "maps", "operations"):
        tables = study.training_chain(key, part=part), pd.DataFrame(json.loads(out)[part])
        assert len({table.round(9).to_json(orient="records") for table in tables}) == 1
    status, _, err = cli("show", key, "--chain", "--json")
    assert (status, "give one of them" in err) == (2, True)
    with pytest.raises(UserError, match="Unknown part 'map'"):
        study.training_chain(part="map")
    assert "without --plot" in cli("show", key, "--walk", "flow")[2]
    assert "Unknown walk 'drunk'" in cli("show", key, "--walk", "drunk", "--plot", "n.svg")[2]
    _, out, _ = cli("show", key[:6], "--json")
    assert json.loads(out) == results.open("nas.db").architecture(key)
    assert cli("show", key, "--plot", "network.svg")[0] == 0
    assert "<svg" in Path("network.svg").read_text()


@pytest.mark.usefixtures("searched")
def test_delete(cli, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    status, _, err = cli("delete", "toy")
    assert status == 2
    assert "Nothing was deleted" in err
    assert cli("front", "toy")[0] == 0
    assert cli("delete", "toy", "--yes") == (0, "", "")
    assert "holds no study" in cli("status")[1]
    assert not (tmp_path / "nas.db.files" / "toy").exists()


@pytest.mark.usefixtures("searched")
def test_the_store_may_be_named_by_the_environment(cli, monkeypatch):
    Path("nas.db").rename("other.db")
    monkeypatch.setenv("NAS_STORE", "other.db")
    assert cli("status", "toy")[0] == 0


def test_a_dry_run_shows_and_writes_nothing(cli, tmp_path):
    status, out, err = cli(*arguments("nas.db"), "--dry-run")
    assert (status, err) == (0, "")
    for word in ("Data nothing", "1,000 training", "Spaces: Small", "Budgets:", "12 proposals, 4 trained", "(1, 3, 9)"):
        assert word in out
    assert not list(tmp_path.iterdir())


def test_settings_come_from_a_file_and_options_win(cli, in_process, tmp_path):
    names = {"study": "filed", "space": space(), "evaluator": toy(), "data": "x", "device": "cpu", "strategy": "random"}
    numbers = {"pool": 12, "generation": 4, "train": 4, "epochs": 9, "images": 500, "final-epochs": 5, "max-macs": 2e6}
    lines = [f"{name} = {value!r}" for name, value in (names | numbers).items()]
    (tmp_path / "search.toml").write_text("\n".join(lines))
    assert cli("search", "--config", "search.toml", "--train", "5")[0] == 0
    settings = results.open("nas.db").settings("filed")
    assert (settings["_train"], settings["max_macs"], settings["epochs"]) == (5, 2e6, 9)


@pytest.mark.parametrize(("mark", "comment"), [("", ""), ("\ufeff", ""), ("\ufeff", "# größer\n")])
def test_a_settings_file_with_a_byte_order_mark(tmp_path, mark, comment):
    (tmp_path / "search.toml").write_text(f"{mark}{comment}max-macs = 2e6\n", encoding="utf-8")
    assert settings_from_file(tmp_path / "search.toml") == {"max_macs": 2e6}


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (None, "digits"),
        ("synthetic:n=300", "n-300"),
        ("npz:/some/where/fashion_mnist.npz", "fashion_mnist"),
        ("npy:folder/", "folder"),
        ("torchvision:CIFAR10", "CIFAR10"),
        ("/tmp/my_data.py:load", "my_data"),
        ("npz:/.npz", "npz"),
        ("npz:données.npz", "donnees"),
        ("npz:图像-v2.npz", "v2"),
        ("npz:数据.npz", "data-5440f742"),
    ],
)
def test_a_study_is_named_like_its_data(monkeypatch, cli, data, name):
    names = []
    monkeypatch.setattr("nas.launch.preview", lambda config, **_: names.append(config.study) or "")
    cli("search", "--dry-run", *(["--data", data] if data else []))
    assert names[0] == check_name(names[0])
    assert names == [name]


@pytest.mark.parametrize(
    "closed", [*(pytest.param(one, marks=pytest.mark.slow) for one in (">&-", "<&-", "2>&-")), "<&- >&- 2>&-"]
)
def test_closed_standard_streams(tmp_path, closed):
    """A file that is opened afterwards, such as the store, must not become standard output."""
    words = f"{shlex.join(command(*arguments('nas.db', train=3, generation=3)))} {closed}"
    ended = subprocess.run(
        ["bash", "-c", words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(),
        check=False,
    )
    assert (ended.returncode, "Traceback" in ended.stderr) == (0, False)
    assert state_of(tmp_path / "nas.db")[0] == "finished"


@pytest.mark.usefixtures("searched")
def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        command("front", "toy"), stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path, env=environment(), check=False
    )
    os.close(writer)
    assert ended.stderr == b""


@pytest.mark.usefixtures("searched")
def test_terminals_with_only_ascii(tmp_path):
    key = results.open("nas.db").front("toy").candidate.iloc[0]
    shown = environment(PYTHONIOENCODING="ascii")
    ended = subprocess.run(command("show", key), capture_output=True, cwd=tmp_path, env=shown, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert b"conv 3?3 of 0" in ended.stdout


def test_off_a_terminal_nothing_but_the_result_is_printed(tmp_path):
    ended = nas(*arguments("nas.db", train=4, finalists=1), cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.split()[0] == "macs"
    assert "\x1b" not in ended.stdout


def test_on_a_terminal_progress_is_shown(tmp_path):
    """Stage, counts, best so far and the time left, on standard error; the result on standard output."""
    master, terminal = pty.openpty()
    process = subprocess.Popen(
        command(*arguments("nas.db", train=8)),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=terminal,
        env=environment(TOY_SLEEP="0.03", COLUMNS="160", TERM="xterm-256color"),
        text=True,
    )
    os.close(terminal)
    shown = b""
    while select.select([master], [], [], 60)[0]:
        try:
            shown += os.read(master, 65536)
        except OSError:  # the other end is closed
            break
    os.close(master)
    out, _ = process.communicate()
    assert process.returncode == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"generation 1: epoch \d of 9 .* \d+% \d trained · best 0\.\d{4} · ETA \d+ s", text)
    assert re.search(r"1 finalist: epoch 5 of 5 .* 8 trained · best 0\.\d{4} · ETA", text)
    assert out.split()[0] == "macs"


# Stopping and resuming ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The contents of the store after an uninterrupted search."""
    store = tmp_path_factory.mktemp("whole") / "nas.db"
    search(store, **SLOWLY)
    return content(store)


def wait_for(condition, process):
    """Until something is so, while a process runs; False when it ended first."""
    while not condition():
        if process.poll() is not None:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_stops_cleanly_and_the_study_continues(cli, tmp_path, whole, number):
    store = tmp_path / "nas.db"
    process = start(*arguments(store, **SLOWLY, workers=2), TOY_SLEEP="0.1")
    checkpoints = store.with_name("nas.db.files")
    assert wait_for(lambda: list(checkpoints.rglob("checkpoint.json")), process)
    for _ in range(5):  # the impatient change nothing
        process.send_signal(number)
        time.sleep(0.01)
    out, err = process.communicate()
    assert process.returncode == 128 + number
    assert out == ""
    assert err == "\nStopped. All results so far are stored; continue with: nas resume toy --store nas.db\n"
    assert not workers_of(tmp_path)
    assert state_of(store)[0] == "interrupted"
    status, _, err = cli("resume", "toy", "--store", store)
    assert (status, err) == (0, "")
    assert_same(whole, content(store), settings=False)


def test_a_signal_before_anything_is_stored(cli, monkeypatch, tmp_path):
    def interrupted(*_):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("nas.screening.budgets.budget_range", interrupted)
    assert cli(*arguments("nas.db")) == (130, "", "\nStopped. Nothing was stored yet.\n")
    assert not list(tmp_path.iterdir())


INTERRUPTED_IMPORT = """
import signal, sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            signal.raise_signal({number})

sys.meta_path.insert(0, Interrupts())
from nas.cli import main
main()
"""


@pytest.mark.parametrize("module", ["typer", "nas.launch", "sqlalchemy", "torch", "search_spaces.residual"])
def test_a_signal_during_an_import_prints_no_traceback(tmp_path, module):
    number = int(signal.SIGTERM if module == "sqlalchemy" else signal.SIGINT)
    code = INTERRUPTED_IMPORT.format(module=module, number=number)
    ended = subprocess.run(
        [sys.executable, "-P", "-c", code, "search", "--device=cpu"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(),
        check=False,
    )
    assert ended.returncode == 128 + number
    assert ended.stdout == ""
    assert re.fullmatch(r"\nStopped\.( Nothing was stored yet\.)?\n", ended.stderr)
    assert not list(tmp_path.iterdir())


def test_a_signal_stops_commands_that_do_not_search(cli, monkeypatch):
    monkeypatch.setattr("results.open", lambda url: signal.raise_signal(signal.SIGTERM))
    assert cli("status") == (143, "", "\nStopped.\n")


def test_a_terminal_that_is_closed_ends_search_and_workers(tmp_path):
    store = tmp_path / "nas.db"
    master, terminal = os.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *command(*arguments(store, **SLOWLY, workers=2))],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment(TOY_SLEEP="0.1"),
    )
    os.close(terminal)
    threading.Thread(target=_read_all, args=(master,), daemon=True).start()
    assert wait_for(lambda: list(store.with_name("nas.db.files").rglob("checkpoint.json")), process)
    os.close(master)
    assert process.wait() == 129
    assert not workers_of(tmp_path)
    assert state_of(store)[0] == "interrupted"


def _read_all(terminal):
    """Read what a program writes to its terminal, so that it need not wait."""
    with suppress(OSError):
        while os.read(terminal, 4096):
            pass


def test_nohup_keeps_a_search_running(tmp_path):
    process = start(*arguments(tmp_path / "nas.db", **SLOWLY), TOY_SLEEP="0.02", prefix=("nohup",))
    assert wait_for(lambda: list((tmp_path / "nas.db.files").rglob("checkpoint.json")), process)
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate()
    assert process.returncode == 0, err


@pytest.mark.parametrize("resumed", [pytest.param(True, id="resume"), pytest.param(False, id="same command")])
def test_kill_9_loses_nothing(cli, tmp_path, whole, resumed):
    rng = random.Random(resumed)
    store = tmp_path / "nas.db"
    settings = arguments(store, **SLOWLY, workers=2)
    for _ in range(2):
        _kill_at_random(start(*settings, TOY_SLEEP="0.04"), store, rng)
    status, _, err = cli("resume", "toy", "--store", store) if resumed else cli(*settings)
    assert (status, err) == (0, "")
    assert_same(whole, content(store), settings=False)
    assert not workers_of(tmp_path)


def _kill_at_random(process, store, rng):
    """Kill a driver some time after it began to write, and see its workers end by themselves."""
    if wait_for(lambda: (store.with_name("nas.db.files") / "toy" / "log.txt").exists(), process):
        time.sleep(rng.uniform(0, 1.5))
        process.kill()
    process.communicate()
    while workers_of(store.parent):  # they end by themselves
        time.sleep(0.05)


def test_workers_end_with_a_killed_search_though_a_plugin_holds_the_interpreter_lock(tmp_path):
    files = tmp_path / "nas.db.files"
    process = start(*arguments(tmp_path / "nas.db", evaluator=toy("HoldsTheLock"), workers=2))
    assert wait_for(lambda: len(list(files.rglob("holds-*"))) == 4, process)  # two workers and a child of each
    assert len(workers_of(tmp_path)) == 4
    process.kill()
    process.communicate()
    while workers_of(tmp_path):
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["tpe", "random", "nsga2"])
def test_kill_9_again_and_again_loses_nothing(tmp_path, strategy):
    settings = SLOWLY | {"strategy": strategy, "train": 20}
    search(tmp_path / "whole.db", **settings)
    rng, store = random.Random(strategy), tmp_path / "nas.db"
    for _ in range(12):
        _kill_at_random(start(*arguments(store, **settings, workers=3), TOY_SLEEP="0.03"), store, rng)
    assert nas("resume", "toy", "--store", str(store)).returncode == 0
    assert_same(content(tmp_path / "whole.db"), content(store), settings=False)


def test_workers_that_are_killed_change_nothing(tmp_path, whole):
    store = tmp_path / "nas.db"
    process = start(*arguments(store, **SLOWLY, workers=2), TOY_SLEEP="0.04")
    assert wait_for(lambda: list(store.with_name("nas.db.files").rglob("checkpoint.json")), process)
    killed = workers_of(tmp_path)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == 0
    assert len(killed) == 2
    assert err == ""
    assert_same(whole, content(store), settings=False)


def test_limits_may_be_given_anew(cli, in_process):
    assert cli(*arguments("nas.db", train=4))[0] == 0
    assert cli("resume", "toy", "--train", "9", "--workers", "1")[0] == 0
    assert results.open("nas.db").candidates("toy").position.notna().sum() == 9
    assert cli(*arguments("nas.db", train=12))[0] == 0
    assert results.open("nas.db").candidates("toy").position.notna().sum() == 12
