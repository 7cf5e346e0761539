"""Stores for the tests, of SQLite and PostgreSQL."""

import pytest

import results
from results.front import Score

DESIGN = "MobileNetV2, width 24, expansion 3"
SCORE = Score(low=1e6, high=16e6, floor=0.1)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request, tmp_path, monkeypatch):
    """A store that does not exist yet."""
    if request.param == "sqlite":
        return results.open(tmp_path / "nas.db")
    monkeypatch.chdir(tmp_path)
    return results.open(request.getfixturevalue("postgresql").new_database())


@pytest.fixture
def sqlite_store(tmp_path):
    return results.open(f"sqlite:///{tmp_path}/nas.db")


def candidate(key=None, **columns):
    """A row for `add_candidates`."""
    return {"key": key, "space": "residual", "generation": 0, "status": "queued"} | columns


def point(level, macs, accuracy, **measures):
    return {"level": level, "macs": macs, "params": 10 * (level + 1), "accuracy": accuracy, "loss": 0.5} | measures


@pytest.fixture
def rows():
    return candidate


@pytest.fixture
def points():
    return point


@pytest.fixture
def filled(store):
    """Study 'fashion': aaaa… in two repeats, bbbb… with a realised key and weights, cccc… stopped, one infeasible.

    cccc… is a reference.
    """
    with store.writer("fashion", {"epochs": 10, "_version": "1"}) as writer:
        writer.set_score(SCORE)
        a, b, c, _ = writer.add_candidates(
            [
                candidate("aaaa0001", status="finished", architecture={"maps": [1]}, proxies={"dtmc": 1.5, "count": 3}),
                candidate("bbbb0002", status="finished", architecture={"maps": [2]}, position=1, control=True),
                candidate("cccc0003", status="stopped", architecture={"maps": [3]}, space="mobile", reference=DESIGN),
                candidate(status="infeasible", reason="too large", choices={"depth": 9}, generation=1),
            ]
        )
        for repeat, accuracy in enumerate((0.6, 0.8)):
            measured = [point(0, 10**6, 0.5), point(1, 4 * 10**6, accuracy, test_accuracy=0.65)]
            writer.record(
                a, fidelity=1.0, repeat=repeat, seconds=5.0, images=100, realised_key="aaaa0001", points=measured
            )
        writer.record(a, fidelity=0.5, repeat=0, seconds=2.0, realised_key="aaaa0001", points=[point(0, 10**6, 0.99)])
        writer.record(
            b,
            fidelity=1.0,
            repeat=0,
            realised_key="bbbb9999",
            architecture={"maps": [9]},
            weights="b.safetensors",
            points=[point(0, 2 * 10**6, 0.4, latency_ms=1.0), point(1, 8 * 10**6, 0.9, latency_ms=2.0)],
        )
        writer.record(c, fidelity=0.5, repeat=0, realised_key="cccc0003", points=[point(0, 10**6, float("nan"))])
        (writer.files / "b.safetensors").write_bytes(b"weights")
        writer.finish()
    return store
