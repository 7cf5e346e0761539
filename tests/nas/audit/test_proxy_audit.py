"""Audits of proxies on trained candidates: scores, failures and rivals."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from nas.audit.proxy_audit import audit_proxies
from nas.audit.reference import ReferenceScores
from nas.plugins import load_plugin
from nas.proxies.contract import load_proxy
from nas.representation.elements import Task

from ..searching import config, space, toy

TASK = Task(input_shape=(1, 8, 8), num_classes=10)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The reference scores of a study of one space."""
    spaces = {"Small": load_plugin("nas.search_spaces", space())()}
    return ReferenceScores(tmp_path_factory.mktemp("reference"), config(), TASK, spaces)


def test_rows_do_not_depend_on_the_other_proxies(reference):
    keys = list(dict.fromkeys(reference.sample(200)))[:40]
    names = (toy("knows"), "macs", "dtmc", space("").replace("spaces.py:", "parts.py:raises_sometimes"))
    accuracy = [load_proxy(names[0])(reference.architecture(key)) for key in keys]

    def rows(*asked):
        proxies = {name: load_proxy(name) for name in asked}
        audited = audit_proxies(
            reference, proxies, keys, reference.architecture, accuracy, references=lambda _: 100, rng_seed=3
        )
        return {row.proxy: str(asdict(row)) for row in audited}

    together = rows(*names)
    assert list(together) == list(names)
    for name in names:
        assert rows(name) == {name: together[name]}


def test_a_proxy_that_always_fails_has_no_row(reference):
    name = space("").replace("spaces.py:", "parts.py:raises")
    keys = list(dict.fromkeys(reference.sample(200)))[:30]
    accuracy = [load_proxy("macs")(reference.architecture(key)) for key in keys]
    rows = audit_proxies(
        reference, {name: load_proxy(name)}, keys, reference.architecture, accuracy, references=lambda _: 40, rng_seed=0
    )
    assert rows == []
    assert name in reference.problems
