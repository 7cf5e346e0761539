"""Signals wait for a safe moment while Ray Tune runs."""

from __future__ import annotations

import os
import signal

import pytest

from nas.ray.tune.quiet import Signals


@pytest.fixture(autouse=True)
def _python_handles_signals():
    """Ray Tune leaves handlers of its own."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_signal_waits_until_it_is_delivered():
    signals, reached = Signals(), False
    with signals.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        reached = True
        with pytest.raises(KeyboardInterrupt):
            signals.deliver()
        signals.deliver()
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_open_signal_takes_effect_at_once():
    signals = Signals()
    with signals.deferred(), signals.open(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
