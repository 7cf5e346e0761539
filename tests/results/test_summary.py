"""The summary of a study agrees with its frames, which are the slow and obvious way; so do fronts of many points."""

import math

import numpy as np
import pandas as pd
import pytest

import results
from results.front import Score, non_dominated
from results.scores import score_of

SCORE = Score(low=1e5, high=1e7, floor=0.1)


@pytest.fixture
def many(store, rows, points):
    """120 candidates with up to three repeats and two fidelities; some diverge, some have other points per repeat."""
    rng = np.random.default_rng(0)
    with store.writer("s", {}) as writer:
        writer.set_score(SCORE)
        statuses = ("finished", "stopped", "failed", "outranked")
        named = [(f"{n:08x}", statuses[n % 4]) for n in range(120)]
        ids = writer.add_candidates(
            [
                rows(key, status=status, reason=None if n % 3 else f"because {n}")
                for n, (key, status) in enumerate(named)
            ]
        )
        for n, number in enumerate(ids):
            for repeat in range(n % 4):
                realised = f"{n:08x}" if n % 5 else f"{repeat:04x}{n:04x}"
                for fidelity in (1.0, 3.0)[: 1 + n % 2]:
                    macs = np.sort(rng.integers(1e5, 1e7, 3)).tolist()
                    accuracy = rng.integers(0, 20, 3) / 20
                    accuracy[0] = math.nan if n % 11 == 0 else accuracy[0]
                    measured = [points(level, *each) for level, each in enumerate(zip(macs, accuracy.tolist()))]
                    writer.record(
                        number, fidelity=fidelity, repeat=repeat, realised_key=realised, seconds=n, points=measured
                    )
        writer.finish()
    return store


def test_a_summary_counts_what_the_frames_hold(many):
    summary, found, frame = many.summary("s"), many.best("s"), many.candidates("s")
    measured = frame[frame.anytime_accuracy.notna()]
    best = measured.loc[measured.anytime_accuracy.idxmax()]
    assert (found.key, found.fidelity) == (best.key, best.fidelity)
    assert found.anytime_accuracy == pytest.approx(best.anytime_accuracy)
    assert summary.scored == len(measured)
    assert summary.seconds == pytest.approx(measured.seconds.sum())
    for group, (status, of_status) in zip(summary.statuses, frame.groupby("status", sort=False), strict=True):
        assert (group.status, group.candidates) == (status, len(of_status))
        assert group.reason == of_status.reason.dropna().iloc[-1]


def test_scores_in_the_store_are_those_of_the_points(many):
    points = many.points("s")
    top = points[points.fidelity == points.groupby("candidate").fidelity.transform("max")]
    scores = top.groupby(["candidate", "repeat"])[["macs", "accuracy"]].apply(
        lambda curve: SCORE(curve.macs, curve.accuracy)
    )
    expected = scores.groupby("candidate").mean()
    stored = many.candidates("s").set_index("key").anytime_accuracy.dropna()
    pd.testing.assert_series_equal(stored.sort_index(), expected.sort_index(), check_names=False)
    other = Score(low=1e4, high=1e6, floor=0.2)
    with many.writer("s", {}) as writer:
        writer.set_score(other)
        for number, fidelity, score, _ in writer.scores():
            rows = [r for r in writer.points_of(number) if (r["fidelity"], r["repeat"]) == (fidelity, 0)]
            assert score == score_of(other, rows)
        writer.finish()


@pytest.mark.parametrize("limits", [{}, {"macs": 3e6}, {"accuracy": 0.4, "params": 25}])
def test_a_front_is_the_one_of_all_means(many, limits):
    points = many.points("s")
    groups = points[points.fidelity == points.fidelity.max()].groupby(["candidate", "realised_key", "level"])
    mean = groups[["macs", "params", "accuracy"]].mean().reset_index()
    mean["macs"] = mean.macs.round()
    for name, bound in limits.items():
        mean = mean[mean[name] >= bound if name == "accuracy" else mean[name] <= bound]
    best = mean[non_dominated(mean.macs, mean.accuracy)].sort_values(["macs", "candidate", "realised_key", "level"])
    front = many.front("s", limits=limits)
    assert front[["macs", "candidate", "realised_key", "level"]].values.tolist() == (
        best[["macs", "candidate", "realised_key", "level"]].values.tolist()
    )


def test_a_study_without_candidates_has_an_empty_summary(store):
    store.writer("s", {}).close()
    summary = store.summary("s")
    assert (summary.statuses, summary.scored, summary.seconds) == ((), 0, 0.0)
    assert store.curves("s").rows.empty
    with pytest.raises(results.StoreError, match="Got 'other'"):
        store.summary("other")
