"""Check references to code: a role such as :func:`nas.search` must name something that exists, documented or not.

References to undocumented names of our packages are shown as code. A name that does not exist is a warning, which
`make docs` turns into an error.
"""

from __future__ import annotations

import importlib
import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging

import nas

PACKAGES = ("nas", "results", "evaluators", "search_spaces")

logger = logging.getLogger(__name__)


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            holder: Any = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for index, part in enumerate(parts[cut:]):
            if not hasattr(holder, part):
                fields = getattr(holder, "__annotations__", {})
                return part in fields and index == len(parts[cut:]) - 1
            holder = getattr(holder, part)
        return True
    return False


def show_as_code(app: Sphinx, env: Any, node: Any, contnode: Any) -> Any:
    """Resolve a reference to one of our names that has no page of its own."""
    if node.get("refdomain") != "py":
        return None
    name = str(node["reftarget"])
    if name.partition(".")[0] not in PACKAGES:
        return None
    if not exists(name):
        logger.warning("reference to %s, which does not exist", name, location=node, type="ref")
        return contnode
    public = "nas." + name.rpartition(".")[2]
    if public != name and public.removeprefix("nas.") in nas.__all__:
        domain = env.get_domain("py")
        link = domain.resolve_any_xref(env, node["refdoc"], app.builder, public, node, contnode)
        return link[0][1] if link else contnode
    return contnode


def keep_other_sections(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Write headings as bold text: "Life cycle", which numpydoc does not know, and "References" of modules.

    A page may show several modules, and the headings of a page must differ.
    """
    heading = "References" if what == "module" else "Life cycle"
    text = re.sub(rf"^({heading})\n-{(4,)}$", r"**\1**\n", "\n".join(lines), flags=re.MULTILINE | re.IGNORECASE)
    lines[:] = text.split("\n")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the handlers; this one runs before numpydoc's."""
    app.connect("missing-reference", show_as_code)
    app.connect("autodoc-process-docstring", keep_other_sections, priority=400)
    return {"parallel_read_safe": True, "version": "1"}
