"""Simulated searches on a table: a share of the candidates does no harm, whatever the proxy, and a good proxy helps.

The searches are the product's, with pools, strategies and decisions; only store and training are replaced. All seeds
are fixed, so the numbers are equal in every run.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from nas.strategies.random import Random

from .scripts import script

SEEDS, LIMIT, BOUND = 15, 150, 1.3


@pytest.fixture(scope="module", name="tables")
def fixture_tables():
    return script("tables")


@pytest.fixture(scope="module")
def table(tables):
    """625 candidates of equal cost, whose accuracy is a sum over four choices and over pairs of them."""
    rng = np.random.default_rng(5)
    options = np.array(list(product(range(5), repeat=4)))
    single, pairs = rng.normal(size=(4, 5)), rng.normal(size=(3, 5, 5))
    worth = sum(single[k, options[:, k]] for k in range(4))
    worth = worth + sum(0.5 * pairs[k, options[:, k], options[:, k + 1]] for k in range(3))
    values = 0.6 + 0.05 * worth
    return tables.Table(
        name="synthetic",
        choices=[dict(zip("abcd", answers)) for answers in options.tolist()],
        values=values,
        low=1e6,
        points=[(np.array([1e6]), np.array([value])) for value in values],
        build=[],
    )


def needed(tables, table, scores, order):
    """The median number of candidates until one of the best six is trained."""
    goal = np.sort(table.values)[-6]
    counts = []
    for seed in range(SEEDS):
        for trained in tables.search(table, Random, scores, order, seed=seed, limit=LIMIT):
            if table.values[trained].max() >= goal:
                break
        counts.append(next((n for n, i in enumerate(trained, start=1) if table.values[i] >= goal), LIMIT))
    return np.median(counts)


def test_no_proxy_does_harm_and_a_good_one_helps(tables, table, monkeypatch):
    monkeypatch.setattr(tables, "POOL", 40)
    rng = np.random.default_rng(0)
    good = table.values + rng.normal(scale=table.values.std(), size=len(table))
    without = needed(tables, table, good, tables.NO_ORDER)
    assert 30 < without < 100
    for scores in (-good, rng.random(len(table))):
        assert needed(tables, table, scores, tables.PRODUCT) <= BOUND * without
    assert needed(tables, table, good, tables.PRODUCT) <= 0.6 * without
    # Without the decisions, the inverted proxy would do harm.
    assert needed(tables, table, -good, tables.ALWAYS) > 2 * without


def test_a_search_trains_each_candidate_of_a_table_once(tables, table):
    small = tables.Table(
        name="small",
        choices=table.choices[:30],
        values=table.values[:30],
        low=1e6,
        points=table.points[:30],
        build=[],
    )
    for order in (tables.NO_ORDER, tables.PRODUCT):
        *_, trained = tables.search(small, Random, np.arange(30.0), order, seed=0, limit=400)
        assert sorted(trained) == list(range(30))
