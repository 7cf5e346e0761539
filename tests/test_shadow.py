"""A user's file or folder with the name of one of our packages is reported, not imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", ["results", "evaluators", "search_spaces"])
@pytest.mark.parametrize("form", ["package", "module", "folder"])
def test_a_name_that_hides_our_package_is_reported(tmp_path, name, form):
    folder = tmp_path / name
    if form == "module":
        folder = folder.with_suffix(".py")
        folder.touch()
    else:
        folder.mkdir()
        (folder / ("__init__.py" if form == "package" else "data.csv")).touch()
    command = [sys.executable, "-c", f"import nas, {name}; print({name}.__file__)"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if done.returncode:
        assert f"nas needs its own package {name!r}. Got {folder}" in done.stderr
    else:  # a folder that is no package hides nothing unless our packages come later on the path
        assert form == "folder"
        assert Path(done.stdout.strip()).resolve() == ROOT / name / "__init__.py"
