"""A folder called results beside a user's script must not break things silently."""

from __future__ import annotations

import subprocess
import sys


def test_a_folder_that_hides_our_results_is_named(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "__init__.py").touch()
    command = [sys.executable, "-c", "import nas"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{tmp_path / 'results' / '__init__.py'} hides it" in done.stderr
