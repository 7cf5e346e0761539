"""The prose of the project is plain: odd clauses are rare, and the public API is documented in numpydoc sections."""

from __future__ import annotations

import ast
import inspect
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


@pytest.mark.parametrize("name", nas.__all__)
def test_parameters_of_the_public_api_are_documented(name):
    """Every parameter of a public function, or of a class that users construct, has an entry."""
    thing = getattr(nas, name)
    doc = NumpyDocString(inspect.getdoc(thing) or "")
    assert doc["Summary"]
    if inspect.isclass(thing) and (issubclass(thing, Exception) or inspect.isabstract(thing) or _is_protocol(thing)):
        return
    signature = inspect.signature(thing)
    documented = {part.strip(" *`") for parameter in doc["Parameters"] for part in parameter.name.split(",")}
    settings = {each for each in documented if each in ("settings", "limits")}
    missing = {
        each.name
        for each in signature.parameters.values()
        if each.kind is not each.VAR_KEYWORD and each.name not in documented
    }
    assert not missing or settings, missing


def _is_protocol(thing):
    return getattr(thing, "_is_protocol", False)


def test_public_methods_are_documented():
    for name in nas.__all__:
        thing = getattr(nas, name)
        if inspect.isclass(thing):
            for method, function in inspect.getmembers(thing, inspect.isfunction):
                if not method.startswith("_") and function.__module__.partition(".")[0] in PACKAGES:
                    assert FunctionDoc(function)["Summary"], f"{name}.{method}"
