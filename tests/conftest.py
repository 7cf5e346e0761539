"""Tests share two cores: one torch thread each, or the threads wait for one another."""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):  # what lands is judged by the same examples every time; developers search on with new ones
    settings.load_profile("ci")

collect_ignore = ["plugins"]
"""Plug-ins that tests load by path; some of them fail at import, on purpose."""
