"""Pieces of an HTML page as text: everything given is escaped, but what was made here.

A page needs nothing beside it: style sheet and pictures are inside, and nothing runs. Pictures keep their white ground
in the dark.
"""

from __future__ import annotations

import html
from base64 import b64encode
from collections.abc import Iterable, Sequence


class Markup(str):
    """HTML that is finished; plain text is escaped where it meets it."""

    __slots__ = ()


def text(*parts: object) -> Markup:
    """The parts one after another, each escaped unless it is markup."""
    return Markup("".join(part if isinstance(part, Markup) else html.escape(str(part)) for part in parts))


def tag(name: str, *parts: object, **attributes: str) -> Markup:
    """An element; a trailing underscore of an attribute is dropped.

    >>> tag("a", "R&D", href="#x", class_="wide")
    '<a href="#x" class="wide">R&amp;D</a>'
    """
    given = "".join(f' {key.rstrip("_")}="{html.escape(value)}"' for key, value in attributes.items())
    return Markup(f"<{name}{given}>{text(*parts)}</{name}>")


def paragraph(*parts: object) -> Markup:
    """A paragraph."""
    return tag("p", *parts)


def code(*lines: str) -> Markup:
    """Lines to copy."""
    return tag("pre", tag("code", "\n".join(lines)))


def table(header: Sequence[object], rows: Iterable[Sequence[object]], *, right: Sequence[int] = ()) -> Markup:
    """A table, which scrolls by itself where it is too wide. right: the columns that are numbers."""
    sides = [{"class_": "n"} if column in right else {} for column in range(len(header))]
    head = text(*(tag("th", cell, scope="col", **side) for cell, side in zip(header, sides)))
    body = text(*(tag("tr", *(tag("td", cell, **side) for cell, side in zip(row, sides))) for row in rows))
    return tag("div", tag("table", tag("thead", tag("tr", head)), tag("tbody", body)), class_="scroll")


def figure(svg: str, alt: str, caption: object = "") -> Markup:
    """A picture, as an image of its own, so that the names inside it meet no other's."""
    source = f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"
    image = Markup(f'<img src="{source}" alt="{html.escape(alt)}">')
    return tag("figure", image, tag("figcaption", caption) if caption else "")


def details(summary: object, *parts: object) -> Markup:
    """What unfolds at a click."""
    return tag("details", tag("summary", summary), *parts)


def bar(share: float) -> Markup:
    """A bar as wide as a share of its cell."""
    return Markup(f'<div class="bar" style="width:{100 * min(1.0, max(0.0, share)):.2f}%"></div>')


def page(title: str, *parts: object) -> str:
    """A whole document."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{tag('title', title)}\n<style>{_STYLE}</style>\n</head>\n<body>\n{text(*parts)}\n</body>\n</html>\n"
    )


_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --muted: #5b6470; --line: #dfe3e8; --ground: #fff; --soft: #f3f5f8;
  --accent: #2f68a5; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --muted: #9aa4b1; --line: #343a42; --ground: #14171b;
  --soft: #1d2127; --accent: #7fb2e5; } }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1.2rem 4rem; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0.5rem 0; overflow-wrap: anywhere; }
section + section, nav ~ section { margin-top: 4rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 0.6rem; border-bottom: 1px solid var(--line); padding-bottom: 0.25rem; }
h3 { font-size: 1.02rem; margin: 1.6rem 0 0.4rem; }
p { margin: 0.5rem 0; max-width: 46rem; overflow-wrap: anywhere; }
a { color: var(--accent); }
.muted, figcaption, th { color: var(--muted); }
.facts { display: flex; flex-wrap: wrap; gap: 0.7rem; margin: 1rem 0; }
.facts > div { background: var(--soft); border-radius: 0.5rem; padding: 0.6rem 0.9rem; flex: 1 1 8rem; }
.facts b { display: block; font-size: 1.25rem; line-height: 1.3; white-space: nowrap; }
.facts span { color: var(--muted); font-size: 0.85rem; }
.verdict { border-left: 0.25rem solid var(--accent); background: var(--soft); padding: 0.5rem 0.9rem; margin: 0.8rem 0;
  border-radius: 0 0.4rem 0.4rem 0; }
.scroll { overflow-x: auto; margin: 0.8rem 0; }
table { border-collapse: collapse; font-size: 0.88rem; width: 100%; }
th, td { padding: 0.28rem 0.6rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; white-space: nowrap; }
td { overflow-wrap: break-word; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bar { background: var(--accent); height: 0.75rem; margin-top: 0.3rem; min-width: 1px; border-radius: 0.15rem; }
td:has(> .bar) { min-width: 8rem; }
figure { margin: 1rem 0; background: #fff; border-radius: 0.5rem; padding: 0.6rem; text-align: center; }
figure img { max-width: 100%; height: auto; }
figcaption { color: #5b6470; font-size: 0.85rem; text-align: left; }
pre { background: var(--soft); padding: 0.6rem 0.9rem; border-radius: 0.4rem; overflow-x: auto; font-size: 0.85rem; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
summary { cursor: pointer; color: var(--accent); }
nav ul { margin: 0.3rem 0; padding-left: 1.2rem; }
@media print {
  :root { --ink: #000; --muted: #444; --line: #bbb; --ground: #fff; --soft: #f3f5f8; --accent: #2f68a5; }
  html { font-size: 10.5px; }
  body { max-width: none; padding: 0; font-size: 1rem; }
  th { white-space: normal; }
  pre, code { white-space: pre-wrap; overflow-wrap: anywhere; }
  section + section { break-before: page; }
  h2, h3 { break-after: avoid; }
  figure, tr, .facts, .verdict { break-inside: avoid; } .scroll { overflow: visible; }
  figure img { max-height: 22cm; }
  .bar, .facts > div, .verdict { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
