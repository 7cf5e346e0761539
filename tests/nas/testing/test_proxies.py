"""Installed proxies pass the shipped checks, and every check catches its fault."""

from __future__ import annotations

import random

import numpy as np
import pytest

from nas import testing
from nas.plugins import installed

from .failing import fails


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, id=f"{name}-{what}")
        for name in sorted(installed("nas.proxies"))
        for what, check in testing.proxy_checks(name)
    ],
)
def test_installed_proxies(check):
    check()


def _proxy(score, *, doc="A score.", needs="topology"):
    def proxy(architecture):
        return score(architecture)

    proxy.__doc__ = doc
    vars(proxy)["needs"] = needs
    return proxy


def _depth(architecture):
    return float(len(architecture.topology.maps))


BROKEN_PROXIES = [
    ("docstring", _proxy(_depth, doc=None), "docstring"),
    ("declares_needs", _proxy(_depth, needs="coffee"), "coffee"),
    ("finite_numbers", _proxy(lambda architecture: float("nan")), "finite"),
    ("pure", _proxy(lambda architecture: np.random.default_rng().random()), "Equal architectures"),
    ("pure", _proxy(lambda architecture: random.random()), "Global random state"),
    ("distinguishes", _proxy(lambda architecture: 1.0), "different scores"),
]


@pytest.mark.parametrize(("name", "proxy", "message"), BROKEN_PROXIES)
def test_every_check_of_a_proxy_catches_its_fault(name, proxy, message):
    fails(testing.proxy_checks(proxy), name, message)


def test_every_check_of_a_proxy_has_a_fault_that_it_catches():
    assert {name for name, _, _ in BROKEN_PROXIES} == {name for name, _ in testing.proxy_checks(_proxy(_depth))}
