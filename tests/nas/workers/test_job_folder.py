"""The checkpoint that full training continues: copied between folders, also at a URL, and never over another one."""

from __future__ import annotations

import pytest

from nas.workers.job_folder import hand_over


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_checkpoint_is_copied_and_stays(tmp_path, scheme):
    source, target = tmp_path / "search-0", tmp_path / "full-0"
    source.mkdir()
    hand_over("state.bin", f"{scheme}{source}", f"{scheme}{target}")  # there is none
    assert not target.exists()
    (source / "state.bin").write_bytes(b"first")
    (source / "network.bin").write_bytes(b"large")
    hand_over("state.bin", f"{scheme}{source}", f"{scheme}{target}")
    assert [path.name for path in target.iterdir()] == ["state.bin"]
    assert (target / "state.bin").read_bytes() == b"first"
    (source / "state.bin").write_bytes(b"second")
    hand_over("state.bin", f"{scheme}{source}", f"{scheme}{target}")
    assert (target / "state.bin").read_bytes() == b"first"  # full training has gone on
