"""One crash-safe writer a study: transactions, idempotent records, locks between processes, and clear refusals."""

import math
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Connection, Engine, Pool, event

import results

CHILD = """
import sys, results
print("started", flush=True)
store = results.open(sys.argv[1])
writer = store.writer(sys.argv[2], {})
row = {"key": "abcd1234", "space": "residual", "generation": 0, "status": "queued"}
(number,) = writer.add_candidates([row])
with writer.transaction():
    writer.update_candidates({number: {"status": "training"}})
    writer.add_candidates([row | {"generation": 1}] * 5000)
    print("ready", flush=True)
    sys.stdin.read(1)
writer.finish()
"""


def launch(store, study):
    """A process that is about to open the store for writing."""
    path = os.pathsep.join([str(Path(results.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, store.url, study],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert child.stdout.readline() == "started\n"
    return child


def start_writer(store, study):
    """A process in the middle of a transaction; it commits when its input ends."""
    child = launch(store, study)
    assert child.stdout.readline() == "ready\n"
    return child


def test_a_second_writer_is_refused_and_kill_9_leaves_the_state_before(store):
    child = start_writer(store, "s")
    with child:
        with pytest.raises(results.StoreError, match=rf"'s' is being written by process {child.pid} on "):
            store.writer("s", {})
        assert store.candidates("s")["status"].tolist() == ["queued"]  # readers see committed rows
        os.kill(child.pid, signal.SIGKILL)
    while True:  # PostgreSQL notices a moment later
        try:
            writer = store.writer("s", {})
            break
        except results.StoreError:
            time.sleep(0.05)
    with writer:
        assert [row["status"] for row in writer.rows()] == ["queued"]
        writer.finish()
    assert store.studies()["state"].tolist() == ["finished"]


@pytest.mark.parametrize("what", ["moved", "deleted", "replaced"])
def test_a_store_that_is_lost_is_noticed(sqlite_store, tmp_path, rows, what):
    """SQLite would go on writing to the file that is gone."""
    file = tmp_path / "nas.db"
    with pytest.raises(results.StoreError, match="moved, deleted or replaced"):
        _write_twice(sqlite_store, rows, lambda: _lose(file, what))
    if what == "moved":  # put back
        os.replace(tmp_path / "elsewhere.db", file)
        os.replace(tmp_path / "elsewhere.db-wal", tmp_path / "nas.db-wal")
        with sqlite_store.writer("s", {}) as writer:
            assert len(writer.rows()) == 1


def _write_twice(store, rows, between):
    with store.writer("s", {}) as writer:
        writer.add_candidates([rows()])
        between()
        writer.add_candidates([rows()])


def _lose(file, what):
    """Do something to a store that a writer has open."""
    if what == "deleted":
        file.unlink()
    else:
        os.replace(file, file.with_name("elsewhere.db"))
        os.replace(file.with_name("nas.db-wal"), file.with_name("elsewhere.db-wal"))
    if what == "replaced":
        file.touch()


def test_two_studies_are_written_at_once(store, rows):
    first, second = start_writer(store, "a"), launch(store, "b")  # on SQLite the second waits for the first to commit
    for child in (first, second):
        child.communicate()
        assert child.returncode == 0
    assert store.studies()["candidates"].tolist() == [5001, 5001]
    assert set(store.studies()["state"]) == {"finished"}


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # the child only waits
def test_a_forked_child_does_not_keep_the_lock(sqlite_store):
    writer = sqlite_store.writer("s", {})
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # a data loader that outlives its parent
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    writer.close()
    sqlite_store.writer("s", {}).close()
    os.close(writing)
    os.close(reading)
    os.waitpid(child, 0)


def test_record_is_idempotent_and_replaces(store, rows, points):
    with store.writer("s", {}) as writer:
        (number,) = writer.add_candidates([rows("abcd1234")])
        for accuracy in (0.4, 0.5, 0.5):
            writer.record(
                number,
                fidelity=1 / 3,
                repeat=0,
                epochs=3,
                realised_key="abcd1234",
                points=[points(k, 10**6, accuracy) for k in range(3)],
            )
        writer.record(number, fidelity=1 / 3, repeat=1, realised_key="abcd1234", points=[points(0, 1, float("nan"))])
        measured = writer.points_of(number)
        assert [(p["repeat"], p["level"]) for p in measured] == [(0, 0), (0, 1), (0, 2), (1, 0)]
        assert [p["accuracy"] for p in measured[:3]] == [0.5] * 3
        assert math.isnan(measured[3]["accuracy"])
        assert measured[3]["latency_ms"] is None
        assert measured[0]["fidelity"] == 1 / 3
        assert len(store.evaluations("s")) == 2


def test_numpy_values_and_infinite_floats_are_stored(store, rows, points):
    with store.writer("s", {"widths": (1, 2), "lr": np.float32(0.5)}) as writer:
        row = rows("abcd1234", generation=np.int64(2), choices={"k": np.int64(3), "w": np.arange(2)})
        proxies = {"nan": math.nan, "worst": -math.inf, "np": np.float32(0.5)}
        (number,) = writer.add_candidates([row | {"proxies": proxies}])
        (back,) = writer.rows()
        assert back["choices"] == {"k": 3, "w": [0, 1]}
        assert back["proxies"] == {"nan": None, "worst": -math.inf, "np": 0.5}
        assert back["generation"] == 2
        writer.record(
            number,
            fidelity=1,
            repeat=0,
            realised_key="abcd1234",
            points=[points(np.int64(0), np.int64(5), np.float32(0.5))],
        )
        assert writer.points_of(number)[0]["macs"] == 5
    assert store.settings("s") == {"widths": [1, 2], "lr": 0.5}
    assert math.isnan(store.candidates("s")["proxy_nan"].item())
    store.writer("s", {"widths": (1, 2), "lr": 0.5}).close()  # a tuple is what JSON makes of it


def test_transactions_are_all_or_nothing(store, rows):
    with store.writer("s", {}) as writer:
        (number,) = writer.add_candidates([rows("abcd1234")])
        with suppress(KeyError), writer.transaction():
            writer.add_candidates([rows("abcd0000", generation=7)])
            writer.update_candidates({number: {"status": "training"}})
            raise KeyError
        assert [row["status"] for row in writer.rows()] == ["queued"]
        with writer.transaction():
            with suppress(results.StoreError), writer.transaction():
                writer.update_candidates({number: {"status": "training"}})
                writer.update_candidates({10**6: {"status": "training"}})
            writer.update_candidates({number: {"attempts": 2}})
        assert [(row["status"], row["attempts"]) for row in writer.rows()] == [("queued", 2)]


def test_rows_for_resuming(store, rows):
    with store.writer("s", {}) as writer:
        assert writer.rows() == []
        ids = writer.add_candidates(
            [rows("aa00", generation=g, status=s) for g in (0, 1) for s in ("queued", "finished")]
        )
        assert ids == sorted(set(ids))
        assert [row["id"] for row in writer.rows()] == ids
        assert [row["id"] for row in writer.rows("queued")] == [ids[0], ids[2]]
        assert [row["id"] for row in writer.rows(["queued", "finished"], generation=1)] == ids[2:]
        assert writer.rows(ids=[ids[3], ids[0]], columns=["status", "id"]) == [
            {"status": "queued", "id": ids[0]},
            {"status": "finished", "id": ids[3]},
        ]
        assert writer.rows(ids=[]) == []
        with pytest.raises(results.StoreError, match="one of invalid, infeasible"):
            writer.rows("done")
    with store.writer("other", {}) as writer:
        assert writer.rows() == []
        for call in (lambda: writer.update_candidates({ids[0]: {}}), lambda: writer.points_of(ids[0])):
            with pytest.raises(results.StoreError, match="of study 'other'"):
                call()


def test_wrong_rows_are_refused_whole(store, rows, points):
    with store.writer("s", {}) as writer:
        for row, message in (
            (rows(colour="red"), r"unknown \['colour'\]"),
            ({"space": "residual"}, r"missing \['generation', 'status'\]"),
            (rows(status="done"), "Got 'done'"),
            (rows(choices={1j}), "plain JSON data: set is not JSON"),
        ):
            with pytest.raises(results.StoreError, match=message):
                writer.add_candidates([rows(), row])
        assert writer.rows() == []
        (number,) = writer.add_candidates([rows()])
        for point in (points(0, 1, 0.5, flops=2), {"level": 0, "macs": 1}):
            with pytest.raises(results.StoreError, match="A point has level, macs"):
                writer.record(number, fidelity=1, repeat=0, realised_key="aa", points=[point])
        assert writer.add_candidates([]) == []


def test_settings_that_differ_are_listed(store):
    store.writer("s", {"epochs": 10, "seed": 1, "lr": 0.1, "_host": "a"}).close()
    with pytest.raises(results.SettingsDiffer) as caught:
        store.writer("s", {"epochs": 20, "seed": 1, "data": "digits", "_host": "b"})
    assert caught.value.differences == {"epochs": (10, 20), "lr": (0.1, "not set"), "data": ("not set", "digits")}
    assert "epochs 10, now 20; lr 0.1, now 'not set'" in str(caught.value)
    store.writer("s", {"epochs": 10, "seed": 1, "lr": 0.1, "_host": "c"}).close()  # the refused one let go of its lock
    assert store.settings("s")["_host"] == "c"


def test_settings_of_a_later_version_equal_none(store):
    store.writer("s", {"epochs": 10}).close()
    with pytest.raises(results.SettingsDiffer, match="scheduler 'not set', now 'asha'"):
        store.writer("s", {"epochs": 10, "scheduler": "asha"})
    store.writer("s", {"epochs": 10, "scheduler": None}).close()


@pytest.mark.parametrize(
    ("raised", "state", "reason"),
    [
        (None, "interrupted", None),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
        (ZeroDivisionError("by 0"), "failed", "ZeroDivisionError: by 0"),
    ],
)
def test_how_a_study_ended(store, raised, state, reason):
    def run():
        with store.writer("s", {}):
            if raised:
                raise raised

    if raised:
        with pytest.raises(type(raised)):
            run()
    else:
        run()
    row = store.studies().iloc[0]
    assert row["state"] == state
    assert row["reason"] == reason or (reason is None and not isinstance(row["reason"], str))
    with store.writer("s", {}) as writer:
        assert store.studies()["state"].item() == "running"
        writer.finish("finished", "all generations")
        with pytest.raises(results.StoreError, match="A state must be one of running"):
            writer.finish("done")
    assert store.studies()["reason"].item() == "all generations"


@pytest.fixture
def opened():
    """The connections to databases that are opened during a test, in order."""
    connections = []

    def note(connection, record):
        connections.append(connection)

    event.listen(Pool, "connect", note)
    yield connections
    event.remove(Pool, "connect", note)


def test_a_full_disk_is_reported_and_loses_nothing(sqlite_store, rows, opened):
    with sqlite_store.writer("s", {}) as writer:
        writer.add_candidates([rows("abcd1234")])
        (pages,) = opened[-1].execute("PRAGMA page_count").fetchone()
        opened[-1].execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(results.StoreError, match=r"its disk is full\. Free some and resume") as caught:
            writer.add_candidates([rows("abcd1234", reason="x" * 1000)] * 1000)
        assert "database or disk is full" in str(caught.value.__cause__)
        opened[-1].execute("PRAGMA max_page_count = 1000000")
        assert len(writer.rows()) == 1
        writer.add_candidates([rows("abcd1234")] * 3)
        assert len(writer.rows()) == 4


def test_a_closed_writer_says_so(sqlite_store):
    writer = sqlite_store.writer("s", {})
    writer.close()
    writer.close()
    with pytest.raises(results.StoreError, match="closed"):
        writer.scores()


def test_a_missing_folder_is_reported(tmp_path):
    with pytest.raises(results.StoreError, match=r"needs an existing folder\. Got .*missing: make it first"):
        results.open(tmp_path / "missing" / "nas.db").writer("s", {})
    assert list(tmp_path.iterdir()) == []


def test_thousands_of_candidates_take_few_statements(sqlite_store, rows):
    """Rows are written in batches: ten times the rows take no more than ten times the statements of one batch."""
    proposed = [rows(f"{n:016x}", status="outranked", choices={"depth": n % 5, "width": 8}) for n in range(10_000)]
    statements = []

    def count(connection, cursor, statement, parameters, context, executemany):
        statements.append(statement)

    with sqlite_store.writer("s", {}) as writer:
        event.listen(Engine, "before_cursor_execute", count)
        try:
            writer.add_candidates(proposed)
        finally:
            event.remove(Engine, "before_cursor_execute", count)
    assert len(statements) < 100


@pytest.mark.parametrize("begin", [Connection.begin, lambda connection: connection.connection.execute("BEGIN")])
def test_a_signal_between_the_begin_of_a_transaction_and_its_body_leaves_an_interrupted_study(
    store, monkeypatch, begin
):
    """SQLAlchemy knows the transaction, or only the driver."""

    def interrupted(connection):
        begin(connection)
        monkeypatch.undo()
        raise KeyboardInterrupt

    with suppress(KeyboardInterrupt), store.writer("s", {}) as writer:
        monkeypatch.setattr(Connection, "begin", interrupted)
        with writer.transaction():
            pytest.fail("the signal did not arrive")
    assert store.studies().state.tolist() == ["interrupted"]


def test_an_end_is_recorded_although_the_connection_is_unusable(tmp_path, monkeypatch):
    """As after a signal in the middle of the database's driver."""
    store = results.open(tmp_path / "nas.db")
    writer = store.writer("s", {})
    row = {"key": "abcd1234", "space": "residual", "generation": 0, "status": "queued"}
    monkeypatch.setattr(writer, "finish", _refuse)

    def interrupted():
        with writer, writer.transaction():
            writer.add_candidates([row])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert store.ending("s") == ("interrupted", "KeyboardInterrupt")
    assert store.candidates("s").empty


def _refuse(*_):
    raise results.StoreError("This connection cannot be used.")
