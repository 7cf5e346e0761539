"""`Study.audit` on the store of a short search."""

from __future__ import annotations

from nas.audit import reference, study_audit

from ..searching import PLUGINS, search


def test_a_proxy_that_fails_has_a_row_with_its_problem(in_process, tmp_path, monkeypatch):
    monkeypatch.setattr(study_audit, "REFERENCE_SAMPLE", 20)
    study = search(tmp_path / "nas.db", train=8)
    table = study.audit("nn_mass", f"{PLUGINS}/parts.py:raises")
    assert list(table.proxy[:6]) == ["dtmc", "macs", "params", "depth", "count", "nn_mass"]
    broken = table.iloc[-1]
    assert "no score" in broken.problem
    assert (broken.n, broken.verdict is None or broken.verdict != broken.verdict) == (0, True)


def test_a_read_only_store_is_audited_without_keeping_scores(in_process, tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError("read-only")

    study = search(tmp_path / "nas.db", train=8)
    monkeypatch.setattr(study_audit, "REFERENCE_SAMPLE", 20)
    monkeypatch.setattr(reference, "replace_text", refused)
    for scores in tmp_path.rglob("scores.json"):
        scores.unlink()
    study.audit()
    assert not list(tmp_path.rglob("scores.json"))
