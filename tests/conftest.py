"""Tests share two cores: one torch thread each, or the threads wait for one another."""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):  # CI uses equal examples in every run; developers search with new examples
    settings.load_profile("ci")

collect_ignore = ["plugins"]
"""Plug-ins that tests load by path; some of them fail at import, on purpose."""
