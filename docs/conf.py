"""Sphinx configuration. `make docs` builds offline, with warnings as errors.

With ``NAS_DOCS_INTERSPHINX=1`` names of Python, NumPy, pandas and torch link to the documentation of these projects;
this needs a network.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

project = "anytime-nas"
author = "The anytime-nas developers"
project_copyright = "The anytime-nas developers"
version = release = "0.1.0"

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_design",
    "sphinxcontrib.typer",
    "generated",
    "plots",
    "references",
]
exclude_patterns = ["_build", "evidence/plots"]
templates_path = ["_templates"]

if os.environ.get("NAS_DOCS_INTERSPHINX"):
    extensions.append("sphinx.ext.intersphinx")
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", None),
    "numpy": ("https://numpy.org/doc/stable", None),
    "pandas": ("https://pandas.pydata.org/docs", None),
    "torch": ("https://docs.pytorch.org/docs/stable", None),
    "optuna": ("https://optuna.readthedocs.io/en/stable", None),
}

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc shows the types of the docstring, the signature those of the code
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "pydata_sphinx_theme"
html_title = "anytime-nas"
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "navigation_with_keys": False,
}
warnings.filterwarnings("ignore", message="Unknown section Life Cycle")  # kept by the extension `references`
