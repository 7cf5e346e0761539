"""The audit's plot is drawn for complete and missing values; its appearance is not tested."""

from __future__ import annotations

import math

import pytest

from nas.reporting.audit_plot import audit_figure
from results.plots import as_svg

from ..audit.test_wording import row

NAN = {"tau_size_removed": math.nan, "size_removed_low": math.nan, "size_removed_high": math.nan}


@pytest.mark.parametrize(
    "rows",
    [
        [row()],
        [row(proxy="macs", verdict="worthless", **NAN), row()],
        [row(n=3, tau=math.nan, tau_low=math.nan, tau_high=math.nan, **NAN)],
        [row(proxy=f"/a/$b$/{n}<x>.py:proxy_{n}") for n in range(20)],
    ],
)
def test_rows_of_any_kind(rows):
    figure = audit_figure(rows, proxy="dtmc")
    assert as_svg(figure) == as_svg(audit_figure(rows, proxy="dtmc"))


def test_the_own_proxy_is_on_top_and_sizes_at_the_bottom():
    rows = [row(proxy=name) for name in ("macs", "naswot", "dtmc", "depth", "/a/b.py:mine")]
    labels = audit_figure(rows, proxy="dtmc").axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == ["dtmc", "naswot", "mine", "macs", "depth"]
