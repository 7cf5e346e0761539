"""The example of the documentation runs."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


@pytest.mark.slow
def test_the_example_ends_with_a_network(joined, tmp_path, capsys):
    main = runpy.run_path(str(EXAMPLES / "ray_tune.py"))["main"]
    results = main(
        "synthetic:n=300,classes=3,size=8",
        space=f"{EXAMPLES}/own_space.py:Ladder",
        epochs=2,
        trials=3,
        folder=str(tmp_path),
    )
    assert len(results) == 3
    assert results.num_errors == 0
    assert capsys.readouterr().out.count("MACs, accuracy") == 4
