"""Figures are made without a display, in every format, of every shape of study; how they look is for eyes."""

from dataclasses import replace

import pandas as pd
import pytest

import results
from results.curves import Curves
from results.plots import as_svg, front_figure, plot_front, progress_figure


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
@pytest.mark.parametrize("cost", ["macs", "latency_ms"])
def test_formats(filled, tmp_path, ending, cost):
    path = tmp_path / f"front.{ending}"
    drawn = filled.curves("fashion", cost=cost), filled.front("fashion", cost=cost)
    assert plot_front(*drawn, path, score=filled.score("fashion")) == path
    assert path.stat().st_size > 5000


def test_the_figure_names_study_spaces_and_score(filled, tmp_path):
    path = tmp_path / "front.svg"
    frames = filled.curves("fashion"), filled.front("fashion")
    plot_front(*frames, path, score=filled.score("fashion"))
    drawn = path.read_text()
    for text in ("fashion", "residual (2)", "anytime accuracy of the front 65.0%", "1M to 16M MACs", "front, test"):
        assert text in drawn
    plot_front(*frames, tmp_path / "again.svg", score=filled.score("fashion"))
    assert (tmp_path / "again.svg").read_text() == drawn


def test_refusals(filled, store, tmp_path):
    frames = filled.curves("fashion"), filled.front("fashion")
    with pytest.raises(results.StoreError, match=r"end in .png, .svg, .pdf. Got 'front.jpg'"):
        plot_front(*frames, tmp_path / "front.jpg")
    with pytest.raises(results.StoreError, match="A cost must be one of"):
        plot_front(replace(frames[0], cost="flops"), frames[1], tmp_path / "front.png")
    with pytest.raises(results.StoreError, match="A cost must be one of"):
        filled.curves("fashion", cost="flops")
    with pytest.raises(results.StoreError, match="Train some first"):
        plot_front(Curves.of(filled.points("fashion").head(0)), frames[1].head(0), tmp_path / "front.png")
    with pytest.raises(results.StoreError, match="must be writable"):
        plot_front(*frames, tmp_path / "missing" / "front.png")


def test_policies_are_drawn_beside_points_where_costs_are_macs(filled):
    about = {"study": "fashion", "candidate": "bbbb0002", "sees": "input", "penalty": [0.1, 0.1, 0.3]}
    measured = {"macs": [2e6, 3e6, 4e6], "accuracy": [0.6, 0.7, 0.7]}
    for cost, lines in (("macs", 1), ("params", 0)):
        frames = filled.curves("fashion", cost=cost), filled.front("fashion", cost=cost)
        (axes,) = front_figure(*frames, policies=pd.DataFrame(about | measured | {"learner": "expected"})).axes
        found = [line for line in axes.lines if line.get_label() == "with a controller"]
        assert [line.get_xdata().tolist() for line in found] == [[2e6, 3e6, 4e6]] * lines
    frames = filled.curves("fashion"), filled.front("fashion")
    (axes,) = front_figure(*frames, policies=pd.DataFrame(about | measured | {"learner": "gates"})).axes
    dashed = [line.get_xdata().tolist() for line in axes.lines if line.get_linestyle() == "--"]
    assert dashed == [[2e6, 3e6], [4e6]]


@pytest.mark.parametrize("count", [1, 2, 40])
def test_progress_of_any_length(count):
    trained = pd.DataFrame(
        {
            "accuracy": [0.1 + 0.02 * (n % 7) for n in range(count)],
            "generation": [n // 9 for n in range(count)],
            "reference": ["ResNet-8, width 16" if n % 10 == 0 else None for n in range(count)],
            "control": [n % 10 == 9 for n in range(count)],
            "finished": [n % 9 == 0 for n in range(count)],
        }
    )
    drawn = as_svg(progress_figure(trained))
    assert drawn == as_svg(progress_figure(trained))
    assert "<svg" in drawn


def test_text_of_an_svg_needs_no_font(filled):
    drawn = as_svg(front_figure(filled.curves("fashion"), filled.front("fashion"), score=filled.score("fashion")))
    assert "<text" not in drawn


def test_a_figure_draws_a_bounded_number_of_curves(store, rows, points, monkeypatch):
    """Its counts are of all candidates, and its front is complete."""
    monkeypatch.setattr("results.curves.MOST", 5)
    with store.writer("s", {}) as writer:
        ids = writer.add_candidates([rows(f"{n:08x}", space="ab"[n % 2]) for n in range(23)])
        for n, number in enumerate(ids):
            measured = [points(0, 10**6, 0.5 + n / 100), points(1, 2 * 10**6, float("nan") if n == 3 else 0.6)]
            writer.record(number, fidelity=1, repeat=0, realised_key=f"{n:08x}", points=measured)
            writer.record(number, fidelity=0.5, repeat=0, realised_key=f"{n:08x}", points=measured[:1])
        writer.finish()
    curves = store.curves("s")
    assert curves.rows["candidate"].unique().tolist() == [f"{n:08x}" for n in (0, 6, 11, 16, 22)]
    assert (curves.drawn, curves.candidates, curves.points) == (5, {"a": 12, "b": 11}, 45)
    assert "23 trained candidates, 45 operating points, 1 on the front; 5 of the curves are drawn" in as_svg_text(
        front_figure(curves, store.front("s"))
    )
    whole = Curves.of(store.points("s"))
    pd.testing.assert_frame_equal(whole.rows.reset_index(drop=True), curves.rows.reset_index(drop=True))
    assert (whole.candidates, whole.points) == (curves.candidates, curves.points)


def as_svg_text(figure):
    return " ".join(text.get_text() for axes in figure.axes for text in axes.texts)
