"""The report of a study: one well-formed HTML file with the study's data, in which names are text, never markup."""

from __future__ import annotations

import base64
import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import pytest

import nas
import results
from evaluators.zero_cost import naswot, synflow, zico
from nas.config import Config
from nas.reporting import html_report, interactive
from nas.reporting.report_content import ReportContent, StudyContent

from ..searching import PLUGINS, InProcess, arguments, toy

VOID = {"meta", "img", "br"}
OUTWARD = re.compile(r"(?:https?:)?//", flags=re.IGNORECASE)
ACTIVE = {"link", "iframe", "object", "base", "form"}
DRAWS = (Path(html_report.__file__).parent / "report.js").read_text("utf-8").strip()
"""The script of a report, after plotly.js."""


class Parsed(HTMLParser):
    """Elements with their text; fails on tags that do not match."""

    def __init__(self, document):
        super().__init__()
        self.open, self.elements, self.images = [], [], []
        self.feed(document)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        assert len(attributes) == len(attrs)
        self.elements.append([tag, attributes, ""])
        if tag == "img":
            self.images.append(attributes)
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for element in self.open:
            element[2] += data

    def texts(self, tag):
        return [text for name, _, text in self.elements if name == tag]

    def body(self):
        return " ".join(self.texts("body")[0].split())

    def ids(self):
        return [attributes["id"] for _, attributes, _ in self.elements if "id" in attributes]


def parsed(path):
    """The elements of a report file, after the checks that every report must pass."""
    return checked(Path(path).read_text(encoding="utf-8"))


def checked(document):
    """The elements of a page without foreign scripts, outward references, duplicate ids and dead links."""
    library = interactive.script()
    page = Parsed(document.replace(library, "PLOTLY"))
    assert document.startswith("<!DOCTYPE html>\n<html")
    assert not {name for name, _, _ in page.elements} & ACTIVE
    scripts = [(attributes, text.strip()) for name, attributes, text in page.elements if name == "script"]
    data = [json.loads(text) for attributes, text in scripts if attributes.get("type") == "application/json"]
    packed = [text for attributes, text in scripts if attributes == {"type": "application/gzip", "id": "plotly"}]
    assert (packed, [text for attributes, text in scripts if not attributes]) in (([], []), (["PLOTLY"], [DRAWS]))
    assert len(data) + 2 * len(packed) == len(scripts)
    page.charts = data
    for name, attributes, _ in page.elements:
        assert not [key for key in attributes if key.startswith("on")]
        assert not OUTWARD.match(attributes.get("href", "#")), attributes
        assert attributes.get("href", "#").startswith("#")
        if name == "img":
            kind, _, data = attributes["src"].partition(",")
            assert kind == "data:image/svg+xml;base64"
            assert b"<svg" in base64.b64decode(data)
            assert attributes["alt"]
    style = page.texts("style")[0]
    assert "@import" not in style
    assert "url(" not in style
    assert len(page.ids()) == len(set(page.ids()))
    links = {attributes["href"].removeprefix("#") for _, attributes, _ in page.elements if "href" in attributes}
    assert links <= set(page.ids()), links - set(page.ids())
    return page


@pytest.fixture
def searched(cli, in_process):
    """A study ``toy`` of 24 candidates in nas.db of the working directory."""
    assert cli(*arguments("nas.db", train=24, generation=8))[0] == 0
    return nas.Study("toy", store="nas.db")


def interrupted(*_, **__):
    raise KeyboardInterrupt


def test_a_report_shows_the_data_of_the_study(searched, cli):
    assert cli("report", "toy", "--proxy", "nn_mass") == (0, "toy.html\n", "")
    page = parsed("toy.html")
    assert page.texts("h1") == ["Study toy"]
    assert page.texts("h2") == ["Front", "Funnel", "Search progress", "Proxy audit", "Topologies"]
    front, best = searched.front(), searched.best()
    drawn = list(dict.fromkeys([best.key, *front.candidate[::-1]]))
    assert page.texts("h3") == ["Time", *(f"Network {key[:8]}" for key in drawn)]
    assert len(page.images) == 3 + len(drawn)
    cells = page.texts("td")
    for point in front.itertuples():
        assert {f"{point.macs:,}", f"{point.accuracy:.4f}", f"{point.test_accuracy:.4f}"} <= set(cells)
    for status, count in searched.candidates().status.value_counts().items():
        assert status in cells
        assert f"{count:,}" in cells
    assert f"{searched.anytime_accuracy():.2%}" in page.body()
    assert f"{searched.anytime_accuracy('test'):.2%}" in page.body()
    for proxy in ("dtmc", "macs", "params", "depth", "count", "nn_mass"):
        assert proxy in cells
    assert "naswot" not in cells
    ranked = searched.first_rung().ranked.sum()
    assert 0 < ranked < 22
    assert re.search(rf"candidates saved: unknown \({ranked} ranked, 2 random", page.body(), flags=re.IGNORECASE)
    assert list(Path().glob("*unfinished*")) == []


def test_charts_have_the_points_of_the_study(searched, tmp_path):
    page = parsed(searched.report(tmp_path / "r.html", "macs"))
    front_chart, progress = page.charts
    front, history = searched.front(), searched.history()
    (validation,) = [trace for trace in front_chart["data"] if trace["name"] == "front, validation"]
    assert validation["x"] == front.macs.tolist()
    assert validation["y"] == pytest.approx(front.accuracy.tolist())
    for label, candidate in zip(validation["customdata"], front.candidate, strict=True):
        assert label[:2] == ["toy", candidate]
        assert f"nas show {candidate[:8]} --study toy --store {searched.url}" in label[3]
    candidates = [trace for trace in front_chart["data"] if trace["name"] in ("Small", "Small, not trained in full")]
    drawn = {(x, y) for trace in candidates for x, y in zip(trace["x"], trace["y"]) if x is not None}
    rows = searched.store.curves("toy").rows
    assert drawn == set(zip(rows.macs.astype(float), rows.accuracy))
    best, evaluations = progress["data"]
    assert best["y"] == pytest.approx(history.best.tolist())
    assert len(evaluations["x"]) == len(history)
    (menu,) = progress["layout"]["updatemenus"]
    assert [button["label"] for button in menu["buttons"]] == [
        "evaluations",
        "time since the first start",
        "training and evaluation",
    ]
    assert (tmp_path / "r.html").stat().st_size < 6e6


def test_a_still_report_has_no_scripts(searched, cli):
    assert cli("report", "toy", "--proxy", "macs", "--still")[0] == 0
    page = parsed("toy.html")
    assert not page.texts("script")
    assert not [attributes for _, attributes, _ in page.elements if attributes.get("class") == "live"]
    assert Path("toy.html").stat().st_size < 1e6


def test_text_in_charts_is_no_markup():
    text = interactive.as_json({"name": "</script><script>alert(1)</script><!-- & \u2028"})
    assert not set(text) & set("<>&\u2028")
    assert json.loads(text) == {"name": "</script><script>alert(1)</script><!-- & \u2028"}


@pytest.mark.usefixtures("searched")
def test_commands_of_a_report_work(cli):
    assert cli("report", "toy", "--proxy", "macs", "--out", "a.html", "--quiet") == (0, "", "")
    lines = [line for block in parsed("a.html").texts("pre") for line in block.splitlines()]
    commands = [shlex.split(line) for line in lines if line.startswith("nas ")]
    assert {words[1] for words in commands} == {"front", "show"}
    for words in commands:
        status, _, err = cli(*words[1:])
        assert (status, err) == (0, "")
    assert [line for line in lines if line.startswith("network = ")]


def test_all_proxies_are_audited_by_default_and_their_scores_are_kept(searched, cli, monkeypatch):
    assert cli("report", "toy")[0] == 0
    cells = parsed("toy.html").texts("td")
    for proxy in ("naswot", "synflow", "zico", "nn_mass", "dtmc"):
        assert proxy in cells
    first = Path("toy.html").read_bytes()
    for module in (naswot, synflow, zico):
        monkeypatch.setattr(module, "fresh_network", None)  # a second report needs no networks
    assert cli("report", "toy")[0] == 0
    assert Path("toy.html").read_bytes() == first
    table = searched.audit("all")
    assert table.set_index("proxy").references[["naswot", "nn_mass"]].tolist() == [25, 50]
    assert table.problem.isna().all()


def test_a_report_from_python(searched, tmp_path):
    assert searched.report(tmp_path / "own.html", "macs") == tmp_path / "own.html"
    parsed(tmp_path / "own.html")


def test_several_studies_share_a_file(searched, cli):
    assert cli(*arguments("nas.db", study="other", seed=1))[0] == 0
    status, out, _ = cli("report", "toy", "other", "toy", "--proxy", "macs")
    assert (status, out) == (0, "toy+other.html\n")
    page = parsed("toy+other.html")
    assert page.texts("h1") == ["toy, other", "Study toy", "Study other"]
    assert page.texts("h2")[0] == "Front of all studies"


EVIL = """

class Evil(Small):
    def architecture(self, choose, task, *, points=4):
        name, options = '"><script>alert(1)</script>', ("<img src=http://evil.example>", "</style>", "$x$ &amp;")
        if choose(name, options) == "</style>":
            raise InvalidArchitecture("<script>alert(two)</script> & http://evil.example\\nmore")
        return super().architecture(choose, task, points=points)
"""


def test_names_and_messages_of_a_search_are_escaped(cli, in_process, tmp_path):
    folder = tmp_path / "<b>$x$&'"
    folder.mkdir()
    source = (PLUGINS / "spaces.py").read_text()
    (folder / "evil.py").write_text(source + EVIL)
    settings = {"space": f"{folder}/evil.py:Evil", "data": "<script>alert(3)</script>", "train": 24, "generation": 8}
    proxy = folder / "proxies.py"
    proxy.write_text((PLUGINS / "parts.py").read_text().replace("no score", "<script>alert(4)</script>"))
    db = str(folder / "it's.db")
    assert cli(*arguments(db, **settings))[0] == 0
    assert cli("report", "toy", "--store", db, "--proxy", f"{proxy}:raises", "--out", "evil.html")[0] == 0
    text = parsed("evil.html").body()
    for number in (1, "two", 3, 4):
        assert f"<script>alert({number})" in text
    assert "more" not in text.partition("alert(two)")[2][:60]
    assert db.replace("'", "") in text.replace("'", "").replace('"', "")


@pytest.mark.parametrize(
    "field", ["name", "reason", "data", "augmentation", "strategy", "store", "store_option", "spaces"]
)
def test_every_text_of_a_study_is_escaped(field):
    """A store accepts no such study name, and Python no such class name; the page does not rely on either."""
    evil = """<script>alert("1")</script> & 'x'"""
    texts = {name: "plain" for name in StudyContent.__dataclass_fields__ if name not in NOT_TEXT}
    texts[field] = evil
    spaces = (f"/home/me/own.py:{evil}",) if field == "spaces" else ("Small",)
    study = StudyContent(**{**texts, "spaces": spaces}, seed=0)
    document = html_report.render(ReportContent(studies=(study,), interactive=False))
    assert "<script" not in document
    assert evil in checked(document).texts("body")[0]


NOT_TEXT = (
    "spaces",
    "seed",
    "funnel",
    "headline",
    "front",
    "progress",
    "progress_chart",
    "audit",
    "networks",
    "undrawn",
)


def test_reports_name_the_share_of_the_proxy_and_the_reason(cli, in_process):
    assert cli(*arguments("nas.db", evaluator=toy("Known"), proxy=toy("misleads"), train=36, generation=6))[0] == 0
    share = nas.Study("toy", store="nas.db").state.reliance[5].share
    sentence = f"misleads chose {share:.0%} of the candidates of generation 6: its candidates won"
    assert cli("report", "toy", "--proxy", "macs")[0] == 0
    text = parsed("toy.html").body()
    assert sentence in text
    assert "misleads is worth nothing beyond size" in text
    assert parsed("toy.html").texts("td").count(f"{100 * share:.0f} %") >= 1
    assert sentence in cli("status", "toy")[1]


def test_seeds_and_omitted_rows_drawings_and_reasons(cli, in_process, monkeypatch):
    assert cli(*arguments("nas.db", seeds=2))[0] == 0
    monkeypatch.setattr(html_report, "MAX_FRONT_ROWS", 1)
    monkeypatch.setattr(html_report, "MAX_DRAWINGS", 0)
    monkeypatch.setattr(html_report, "MAX_REASONS", 0)
    assert cli("report", "toy", "--proxy", "macs")[0] == 0
    page = parsed("toy.html")
    assert "± between seeds" in page.texts("th")
    assert re.search(r"\d+ more points are in the CSV file", page.body())
    assert re.search(r"\d+ more reasons", page.body())
    best = nas.Study("toy", store="nas.db").best().key
    assert f"Not drawn: {best}" in page.body()


# Studies without results, and errors ---------------------------------------------------------------------------------


def test_a_study_without_candidates(cli):
    with results.open("nas.db").writer("empty", Config(study="empty").stored()):
        pass
    assert cli("report", "empty") == (0, "empty.html\n", "")
    text = parsed("empty.html").body()
    assert "No candidate has been trained yet" in text
    assert "nas resume empty" in text


def test_a_study_that_was_interrupted_before_any_result(cli, in_process, monkeypatch):
    monkeypatch.setattr(InProcess, "run", interrupted)
    assert cli(*arguments("nas.db"))[0] == 130
    assert cli("report", "toy")[0] == 0
    page = parsed("toy.html")
    assert page.texts("h2") == ["Funnel"]
    assert "queued" in page.texts("td")


def test_without_its_space_a_study_has_a_report_without_an_audit(cli, in_process, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text((PLUGINS / "spaces.py").read_text())
    assert cli(*arguments("nas.db", space=f"{file}:Small"))[0] == 0
    file.unlink()
    assert cli("report", "toy", "--proxy", "macs")[0] == 0
    page = parsed("toy.html")
    assert "The proxies cannot be audited: A plug-in's file must exist" in page.body()
    assert "Topologies" in page.texts("h2")


@pytest.mark.usefixtures("searched")
def test_mistakes(mistake):
    for words, message in (
        (["other"], "Studies there: toy"),
        (["toy", "other"], "Studies there: toy"),
        (["toy", "--proxy", "nonsense"], "Unknown proxy 'nonsense'"),
        (["toy", "--proxy", "none.py:mine"], "file must exist"),
        (["toy", "--out", "none/x.html"], "none/x.html must be writable"),
        (["toy", "--out", "."], "must be writable"),
        (["toy", "--store", "none.db"], "none.db"),
        ([], "Missing argument"),
    ):
        assert message in mistake("report", *words)


@pytest.mark.usefixtures("searched")
def test_files_of_the_user_stay(cli, mistake):
    for name in ("toy.html", "toy.html.partial", "named.html"):
        Path(name).write_text("mine")
    assert "replaces only reports. Got toy.html, which is another file" in mistake("report", "toy", "--proxy", "macs")
    assert cli("report", "toy", "--proxy", "macs", "--out", "named.html")[0] == 0
    parsed("named.html")
    Path("named.html").replace("toy.html")
    assert cli("report", "toy", "--proxy", "macs")[0] == 0
    assert Path("toy.html.partial").read_text() == "mine"


@pytest.mark.usefixtures("searched")
def test_an_interrupted_report_leaves_no_file(cli, monkeypatch):
    monkeypatch.setattr(nas.Study, "proxy_audit", interrupted)
    status, out, err = cli("report", "toy")
    assert (status, out) == (130, "")
    assert "No report was written" in err
    assert not [path for path in Path().iterdir() if "html" in path.name or "unfinished" in path.name]
