"""Query fronts: python examples/query_fronts.py digits [STUDY …]

All results are pandas DataFrames: filter, join and plot them as usual. The store can be read while a search writes it.
"""

import sys

import pandas as pd

import results


def best_within(studies: list[str], max_macs: float, store: str = "sqlite:///nas.db") -> pd.DataFrame:
    """The best operating point of each study within a budget, best first."""
    opened = results.open(store)
    fronts = [opened.front(study, max_macs=max_macs) for study in studies]
    best = pd.concat([front.nlargest(1, "accuracy") for front in fronts])
    return best.sort_values("accuracy", ascending=False)[["study", "candidate", "level", "macs", "accuracy"]]


def shares(studies: list[str], store: str = "sqlite:///nas.db") -> pd.Series:
    """Number of points of each study on the joint front of all of them."""
    return results.open(store).front(studies, cost="params").study.value_counts()


def status_counts(study: str, store: str = "sqlite:///nas.db") -> pd.Series:
    """Number of candidates by status: most are screened out, each with its reason."""
    return results.open(store).candidates(study).status.value_counts()


if __name__ == "__main__":
    print(best_within(sys.argv[1:], max_macs=1e6).to_string(index=False))
    print(shares(sys.argv[1:]).to_string())
    print(status_counts(sys.argv[1]).to_string())
