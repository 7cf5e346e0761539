"""The best candidate of a study, and its comparison with a reference: closed forms on stores filled by hand."""

import math

import pytest
from scipy.stats import ttest_1samp

import results
from results.front import Score
from results.reading.best import macs_ratio

SCORE = Score(low=1e6, high=1e8, floor=0.1)
"""A point at 1e6 counts for half of the range until one at 1e7."""


@pytest.fixture
def study(store, rows, points):
    """Fill a study; returns the store.

    candidates: key → candidate: reference, weights and trainings as (fidelity, repeat) → accuracies at 1e6 and 1e7
    MACs, with their test accuracies if there are four numbers.
    """

    def fill(**candidates):
        with store.writer("s", {}) as writer:
            writer.set_score(SCORE)
            for key, about in candidates.items():
                (number,) = writer.add_candidates(
                    [rows(key, status=about.get("status", "finished"), reference=about.get("reference"))]
                )
                for (fidelity, repeat), values in about["trained"].items():
                    tested = [{"test_accuracy": value} for value in values[2:]] or [{}, {}]
                    writer.record(
                        number,
                        fidelity=fidelity,
                        repeat=repeat,
                        realised_key=key,
                        weights=f"candidates/{key}" if about.get("saved") else None,
                        points=[points(i, 10 ** (6 + i), values[i], **tested[i]) for i in range(2)],
                    )
            writer.finish()
        return store

    return fill


def test_each_candidate_is_judged_at_the_largest_fidelity_that_it_reached(study):
    store = study(
        aaaa={"trained": {(1, 0): (0.5, 0.9), (4, 0): (0.4, 0.8)}},  # a finalist halfway
        bbbb={"trained": {(1, 0): (0.5, 0.8)}},
        cccc={"trained": {(1, 0): (0.4, 0.7), (2, 0): (0.5, 0.8)}},
        dddd={"trained": {(1, 0): (math.nan, math.nan)}},
    )
    best = store.best("s")
    assert (best.key, best.fidelity, best.saved, best.reference) == ("cccc", 2, False, None)
    assert best.anytime_accuracy == pytest.approx(0.65)


def test_a_saved_network_is_better_than_one_that_is_lost(study):
    store = study(
        aaaa={"trained": {(1, 0): (0.8, 0.9)}},
        bbbb={"trained": {(1, 0): (0.5, 0.8)}, "saved": True},
        cccc={"trained": {(1, 0): (0.5, 0.7)}, "saved": True},
    )
    assert (store.best("s").key, store.best("s").saved) == ("bbbb", True)


def test_no_candidate_is_the_best_without_results(study):
    store = study(aaaa={"trained": {}, "reference": "ResNet-8, width 16"})
    assert store.best("s") is None
    assert store.against_reference("s") is None
    with pytest.raises(results.StoreError, match="Got 'other'"):
        store.best("other")


def test_the_comparison_is_at_the_largest_fidelity_of_both(study):
    store = study(
        aaaa={"trained": {(1, 0): (0.5, 0.7), (2, 0): (0.5, 0.7)}, "reference": "ResNet-8, width 16"},
        bbbb={"trained": {(1, 0): (0.5, 0.8)}, "reference": "ResNet-8, width 8"},
        cccc={"trained": {(1, 0): (0.6, 0.9), (2, 0): (0.7, 0.8), (4, 0): (0.8, 0.9)}, "saved": True},
    )
    found = store.against_reference("s")
    assert (found.best.key, found.reference.reference, found.fidelity) == ("cccc", "ResNet-8, width 8", 1)
    assert not found.is_reference
    assert found.difference == pytest.approx((0.6 + 0.9) / 2 - (0.5 + 0.8) / 2)
    assert found.macs_ratio == 1.0  # both need their larger point for 0.8
    assert (found.repeats, math.isnan(found.low), math.isnan(found.test_difference)) == (1, True, True)


def test_macs_at_equal_accuracy_are_of_the_cheapest_points_that_reach_it():
    reference = [(1e6, 0.5), (4e6, 0.8), (8e6, 0.8)]  # its largest point is not its cheapest with 0.8
    assert macs_ratio([(1e6, 0.6), (2e6, 0.8), (9e6, 0.9)], reference) == 2.0
    assert macs_ratio([(1e6, 0.6), (8e6, 0.9)], reference) == 0.5
    assert math.isnan(macs_ratio([(1e6, 0.6), (8e6, 0.79)], reference))
    assert math.isnan(macs_ratio([(1e6, 0.6)], [(1e6, math.nan)]))


def test_repeats_are_paired(study):
    own, rival = ((0.6, 0.9), (0.7, 0.9), (0.7, 0.8), (0.9, 0.9)), ((0.5, 0.8), (0.55, 0.8), (0.6, 0.75))
    store = study(
        aaaa={"trained": {(3, r): values for r, values in enumerate(rival)}, "reference": "ResNet-8, width 16"},
        bbbb={"trained": {(3, r): values for r, values in enumerate(own)}},
    )
    found = store.against_reference("s")
    differences = [sum(a) / 2 - sum(b) / 2 for a, b in zip(own, rival)]
    expected = ttest_1samp(differences, 0).confidence_interval(0.95)
    assert found.repeats == 3
    assert found.difference == pytest.approx(sum(differences) / 3)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.macs_ratio == 1.0


def test_on_test_images_the_points_are_those_that_validation_chose(study):
    store = study(
        aaaa={"trained": {(1, 0): (0.5, 0.7, 0.4, 0.6)}, "reference": "ResNet-8, width 16"},
        bbbb={"trained": {(1, 0): (0.6, 0.9, 0.8, 0.7)}},
    )
    assert store.against_reference("s").test_difference == pytest.approx((0.8 + 0.7) / 2 - (0.4 + 0.6) / 2)


def test_the_best_network_may_be_the_reference(study):
    store = study(
        aaaa={"trained": {(1, 0): (0.7, 0.9)}, "reference": "ResNet-8, width 16"},
        bbbb={"trained": {(1, 0): (0.6, 0.8)}},
        cccc={"trained": {(1, 0): (0.6, 0.7)}, "reference": "ResNet-8, width 8"},
    )
    found = store.against_reference("s")
    assert found.is_reference
    assert found.best == found.reference
    assert (found.best.key, found.difference, found.macs_ratio) == ("aaaa", 0, 1)


@pytest.mark.parametrize(
    "candidates",
    [
        {"aaaa": {"trained": {(1, 0): (0.7, 0.9)}}},
        {
            "aaaa": {"trained": {(1, 0): (0.5, 0.7)}, "reference": "ResNet-8, width 16"},
            "bbbb": {"trained": {(2, 0): (0.6, 0.8)}},
        },
    ],
    ids=["no reference", "no common fidelity"],
)
def test_without_a_reference_at_equal_fidelity_there_is_no_comparison(study, candidates):
    assert study(**candidates).against_reference("s") is None


def test_a_front_marks_references(study):
    front = study(
        aaaa={"trained": {(1, 0): (0.7, 0.8)}, "reference": "ResNet-8, width 16"},
        bbbb={"trained": {(1, 0): (0.6, 0.9)}},
    ).front("s")
    assert front["reference"].tolist() == ["ResNet-8, width 16", None]
