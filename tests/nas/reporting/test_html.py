"""Pieces of a page: what is given is text, whatever it looks like."""

from __future__ import annotations

from nas.reporting.html import Markup, bar, code, details, figure, page, paragraph, table, tag, text

NASTY = """<script>alert("1")</script> & 'x'"""
SAFE = "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#x27;x&#x27;"


def test_everything_given_is_escaped():
    for made in (
        text(NASTY),
        tag("p", NASTY),
        tag("p", "", id=NASTY),
        paragraph(NASTY),
        code(NASTY),
        table([NASTY], []),
        table(["a"], [[NASTY]]),
        figure("<svg/>", NASTY),
        figure("<svg/>", "", NASTY),
        details(NASTY),
        details("a", NASTY),
        page(NASTY),
        page("", NASTY),
    ):
        assert SAFE in made
        assert "<script" not in made


def test_markup_is_not_escaped_twice():
    made = paragraph(tag("b", "R&D"), " & ", 3.5, None)
    assert made == "<p><b>R&amp;D</b> &amp; 3.5None</p>"
    assert isinstance(made, Markup)
    assert table(["a", "b"], [[1, tag("i", "x")]], right=(0,)) == (
        '<div class="scroll"><table><thead><tr><th scope="col" class="n">a</th><th scope="col">b</th></tr></thead>'
        '<tbody><tr><td class="n">1</td><td><i>x</i></td></tr></tbody></table></div>'
    )


def test_bars_stay_in_their_cell():
    assert [bar(share).partition("width:")[2].partition("%")[0] for share in (-1, 0.123456, 7)] == [
        "0.00",
        "12.35",
        "100.00",
    ]
