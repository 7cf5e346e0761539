"""The prose of the project is plain: odd clauses are rare, and the public API is documented in numpydoc sections."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
from numpydoc.docscrape import FunctionDoc, NumpyDocString

import nas

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("nas", "search_spaces", "evaluators", "results")
FOLDERS = (*PACKAGES, "benchmarks", "examples")
PATTERNS = {
    "clauses without a noun": r"\bwhat (?:is|are|was|were|it|they|a|an|the|has|have|can|may|must|[a-z]+s)\b",
    "those of": r"\b(?:those|that) of\b",
    "told": r"\b(?:told|tells?)\b",
    "others": r"\b(?:are|is|be|was|were) others?\b",
    "so many": r"\b(?:so|as) many\b",
    "alone": r"\balone\b",
    "where": r"\bwhere\b",
}
MOST_PER_1000_WORDS = dict.fromkeys(PATTERNS, 0.5) | {"where": 2.0}


def code_prose():
    """Docstrings and messages of the code: all text of at least three words."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count(" ") >= 2:
                    yield node.value


def pages():
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))):
        yield path.read_text(encoding="utf-8")


@pytest.mark.parametrize("source", [code_prose, pages])
def test_odd_clauses_are_rare(source):
    text = "\n".join(source())
    words = len(text.split())
    rates = {name: 1000 * len(re.findall(each, text, re.IGNORECASE)) / words for name, each in PATTERNS.items()}
    assert not {name: rate for name, rate in rates.items() if rate >= MOST_PER_1000_WORDS[name]}


def documented_names():
    """The public names: entries of the lists in the pages of the reference."""
    for page in sorted((ROOT / "docs/reference").glob("*.md")):
        module = ""
        for line in page.read_text(encoding="utf-8").splitlines():
            if match := re.match(r"\.\. currentmodule:: (\S+)", line):
                module = f"{match[1]}."
            elif match := re.match(r"   ([\w.]+)$", line):
                yield module + match[1]


PUBLIC = {name: pkgutil.resolve_name(name) for name in documented_names()}
CLASSES = {name: each for name, each in PUBLIC.items() if inspect.isclass(each)}
METHODS = {
    f"{name}.{method}": getattr(function, "__func__", function)
    for name, each in CLASSES.items()
    for method, function in inspect.getmembers(
        each, lambda member: inspect.isfunction(member) or inspect.ismethod(member)
    )
    if not method.startswith("_") and (function.__module__ or "").partition(".")[0] in PACKAGES
}


def missing_parameters(thing, documented):
    """Parameters without an entry; ``settings`` and ``limits`` stand for many."""
    names = {part.strip(" *`") for parameter in documented for part in parameter.name.split(",")}
    parameters = inspect.signature(thing).parameters.values()
    own = (each.name for each in parameters if each.kind is not each.VAR_KEYWORD)
    missing = {name for name in own if not name.startswith("_")} - names - {"self", "cls"}  # Ray adds private ones
    return set() if names & {"settings", "limits"} else missing


def missing_result(thing, doc):
    returned = inspect.signature(thing).return_annotation
    return returned not in (None, "None", inspect.Signature.empty) and not (doc["Returns"] or doc["Yields"])


def test_every_name_of_nas_is_public():
    assert {f"nas.{name}" for name in nas.__all__} <= PUBLIC.keys()


@pytest.mark.parametrize("name", PUBLIC)
def test_parameters_of_the_public_api_are_documented(name):
    """Every parameter of a public function, or of a class that users construct, has an entry."""
    thing = PUBLIC[name]
    doc = NumpyDocString(inspect.getdoc(thing) or "")
    assert doc["Summary"]
    if name not in CLASSES:
        assert not missing_parameters(thing, doc["Parameters"])
        assert not missing_result(thing, doc)
    elif not (issubclass(thing, Exception) or inspect.isabstract(thing) or getattr(thing, "_is_protocol", False)):
        assert not missing_parameters(thing, doc["Parameters"])


@pytest.mark.parametrize("name", METHODS)
def test_public_methods_are_documented(name):
    """A method that implements a contract refers to it."""
    doc = FunctionDoc(METHODS[name])
    assert doc["Summary"]
    if not doc["Summary"][0].startswith("See :"):
        assert not missing_parameters(METHODS[name], doc["Parameters"])
        assert not missing_result(METHODS[name], doc)
