"""A writer on PostgreSQL while the server goes away: transactions are repeated as a whole, and never written twice."""

import threading
import time
from contextlib import suppress

import psycopg
import pytest
from sqlalchemy import Connection

import results
from results import waiting
from results.writing import lasting

ROW = {"key": "abcd1234", "space": "residual", "generation": 0, "status": "queued"}


@pytest.fixture
def url(postgresql, tmp_path, monkeypatch):
    """The store of a new database."""
    monkeypatch.chdir(tmp_path)
    return postgresql.new_database()


@pytest.fixture
def end_sessions(url):
    """Ends all other sessions of the database, as a restart of the server does."""

    def end():
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    return end


def keys(url, study="s"):
    return results.open(url).candidates(study)["key"].tolist()


def test_a_restart_between_transactions_and_inside_one(url, postgresql, monkeypatch):
    with results.open(url).writer("s", {}) as writer:
        (first,) = writer.add_candidates([ROW])
        postgresql.kill()
        threading.Timer(0.5, postgresql.start).start()
        writer.update_candidates({first: {"status": "training"}})
        with writer.transaction():
            second, third = writer.add_candidates([ROW | {"key": "bbbb"}, ROW | {"key": "cccc"}])
            writer.update_candidates({first: {"status": "finished"}})
            postgresql.kill()
            threading.Timer(0.5, postgresql.start).start()
            assert [row["key"] for row in writer.rows()] == ["abcd1234", "bbbb", "cccc"]
            writer.update_candidates({third: {"status": "training"}})
        with results.open(url).writer("other", {}) as other:  # ids that the crash has forgotten are not used again
            (fourth,) = other.add_candidates([ROW])
        rows = writer.rows(columns=["id", "key", "status"])
    assert [tuple(row.values()) for row in rows] == [
        (first, "abcd1234", "finished"),
        (second, "bbbb", "queued"),
        (third, "cccc", "training"),
    ]
    assert fourth > third
    assert results.open(url).ending("s") == ("interrupted", None)


def test_what_was_undone_is_not_repeated(url, end_sessions):
    with results.open(url).writer("s", {}) as writer:
        with writer.transaction():
            writer.add_candidates([ROW])
            with suppress(ZeroDivisionError), writer.transaction():
                writer.add_candidates([ROW | {"key": "bbbb"}])
                raise ZeroDivisionError
            end_sessions()
            writer.add_candidates([ROW | {"key": "cccc"}])
            with suppress(ZeroDivisionError), writer.transaction():
                writer.add_candidates([ROW | {"key": "dddd"}])
                end_sessions()
                raise ZeroDivisionError
        with suppress(ZeroDivisionError), writer.transaction():
            writer.add_candidates([ROW | {"key": "eeee"}])
            end_sessions()
            raise ZeroDivisionError
        writer.finish()
    assert keys(url) == ["abcd1234", "cccc"]


@pytest.mark.parametrize("committed", [True, False])
def test_a_connection_lost_in_the_commit(url, end_sessions, monkeypatch, committed):
    """Whether the server has committed is not known: it is looked up, so that nothing is written twice or lost."""
    commit, lost = Connection.commit, []

    def losing(connection):
        if not lost:
            lost.append(connection)
            if committed:
                commit(connection)
                connection.begin()
            end_sessions()
            connection.exec_driver_sql("SELECT 1")
        commit(connection)

    with results.open(url).writer("s", {}) as writer:
        monkeypatch.setattr(Connection, "commit", losing)
        (first,) = writer.add_candidates([ROW])
        assert lost
        (second,) = writer.add_candidates([ROW | {"key": "bbbb"}])
    assert keys(url) == ["abcd1234", "bbbb"]
    assert second > first


def test_another_process_that_has_continued_the_study_keeps_it(url, end_sessions):
    writer = results.open(url).writer("s", {})
    end_sessions()
    with results.open(url).writer("s", {}) as other:
        other.add_candidates([ROW])
        other.finish()
    with pytest.raises(results.StoreError, match="Study 's' was changed by another process while the store"):
        writer.add_candidates([ROW | {"key": "bbbb"}])
    writer.close()
    assert keys(url) == ["abcd1234"]
    assert results.open(url).ending("s") == ("finished", None)


def test_another_process_that_writes_the_study_is_named(url, end_sessions):
    writer = results.open(url).writer("s", {})
    end_sessions()
    with results.open(url).writer("s", {}), pytest.raises(results.StoreError, match="is being written by process"):
        writer.add_candidates([ROW])
    writer.close()


def test_the_own_lost_session_does_not_hold_the_lock(url):
    """The server may notice much later that a connection is lost."""
    with results.open(url).writer("s", {}) as writer:
        with writer.transaction():
            writer.add_candidates([ROW])
            raw = writer._connection._connection
            dead = raw.connection.dbapi_connection
            raw.detach()  # the session on the server goes on
            writer._connection._lost = ConnectionError("no route to host")
            writer.add_candidates([ROW | {"key": "bbbb"}])
        dead.close()
    assert keys(url) == ["abcd1234", "bbbb"]


def test_a_server_that_stays_away_is_one_error(url, postgresql, monkeypatch, caplog):
    monkeypatch.setattr(waiting, "PATIENCE_SECONDS", 0.3)
    writer = results.open(url).writer("s", {})
    writer.add_candidates([ROW])
    postgresql.kill()
    with pytest.raises(results.StoreError, match=r"did not answer for 0\.3 s: [^\n]*: resume when it answers"):
        writer.add_candidates([ROW])
    writer.close()
    assert "does not answer. Waiting for it, 0.3 s at most" in caplog.text
    postgresql.start()
    assert keys(url) == ["abcd1234"]
    with results.open(url).writer("s", {}) as writer:
        assert len(writer.rows()) == 1


def test_a_stop_ends_the_waiting(url, postgresql, monkeypatch):
    def stopped(seconds):
        monkeypatch.undo()
        postgresql.start()
        raise KeyboardInterrupt

    def search():
        with results.open(url).writer("s", {}) as writer:
            postgresql.kill()
            monkeypatch.setattr(time, "sleep", stopped)
            writer.add_candidates([ROW])

    with pytest.raises(KeyboardInterrupt):
        search()
    assert results.open(url).ending("s") == ("interrupted", "KeyboardInterrupt")
    assert keys(url) == []


def test_a_closed_writer_does_not_connect_again(url):
    writer = results.open(url).writer("s", {})
    writer.close()
    with pytest.raises(results.StoreError, match="closed"):
        writer.add_candidates([ROW])


def test_changes_of_a_study_have_different_times():
    times = [lasting.now()]
    for _ in range(100):
        times.append(lasting.now(after=times[-1]))
    assert len(set(times)) == 101
    assert lasting.now(after="2100-01-01T00:00:00.123+00:00") == "2100-01-01T00:00:00.123001+00:00"


def test_a_reader_sees_the_server_again_after_a_restart(url, postgresql):
    """A store holds no connection, so nothing of it is lost with the server."""
    store = results.open(url)
    store.writer("s", {}).close()
    postgresql.kill()
    with pytest.raises(results.StoreError, match="did not answer"):
        store.studies()
    postgresql.start()
    assert store.studies().study.tolist() == ["s"]
