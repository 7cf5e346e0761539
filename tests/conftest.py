"""Tests share two cores: one torch thread each, or the threads wait for one another."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

collect_ignore = ["plugins"]
"""Plug-ins that tests load by path; some of them fail at import, on purpose."""
