"""Addresses of no cluster are one clear line, before anything is written."""

from __future__ import annotations

import socket
import sys

import pytest

from nas.errors import UserError
from nas.ray.connection import CLIENT_ATTEMPTS, _join_running, check_ray, connected

from ..searching import nas


@pytest.fixture
def free_port():
    """A port that nothing listens at."""
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        yield own.getsockname()[1]


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_a_search_without_its_cluster_writes_nothing(form, free_port, tmp_path):
    ended = nas("search", "--ray-address", form.format(free_port), "--train", "1", "--quiet", cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert f"must be of a running cluster. Got {form.format(free_port)}: Connection refused" in ended.stderr
    assert not list(tmp_path.iterdir())


def test_an_unknown_host_is_refused():
    with pytest.raises(UserError, match=r"Got no-such-host\.invalid:1: "), connected("no-such-host.invalid:1"):
        pass


def test_a_missing_ray_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'ray\[tune\]'"):
        check_ray()


def test_no_ray_and_an_address_exclude_each_other(tmp_path):
    ended = nas("search", "--no-ray", "--ray-address", "auto", cwd=tmp_path)
    assert ended.returncode == 2
    assert "--no-ray and --ray-address exclude each other" in ended.stderr


def test_a_client_tries_again_if_its_server_has_died_at_its_start(monkeypatch):
    calls = []

    def init(**arguments):
        calls.append(arguments["address"])
        if len(calls) < CLIENT_ATTEMPTS:
            raise ConnectionAbortedError("Initialization failure from server")

    monkeypatch.setattr("ray.init", init)
    _join_running("ray://head:10001")
    assert calls == ["ray://head:10001"] * CLIENT_ATTEMPTS
    monkeypatch.setattr("nas.ray.connection.CLIENT_ATTEMPTS", 1)
    calls.clear()
    with pytest.raises(ConnectionAbortedError):
        _join_running("ray://head:10001")
