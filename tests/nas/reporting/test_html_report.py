"""The report of a study: one file that is well-formed, whole, safe, and says what the study holds."""

from __future__ import annotations

import base64
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import pytest

import nas
import results
from evaluators.zero_cost import naswot, synflow, zico
from nas.config import Config
from nas.plugins import load_plugin

from ..searching import PLUGINS, arguments, search, space, toy

VOID = {"meta", "img", "br"}
OUTWARD = re.compile(r"(?:https?:)?//", flags=re.IGNORECASE)


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

    def ids(self):
        return [attributes["id"] for _, attributes, _ in self.elements if "id" in attributes]


def parsed(path):
    """A report that was read as a browser reads it, and checked for what none may hold."""
    document = Path(path).read_text(encoding="utf-8")
    found = Parsed(document)
    assert found.elements[0][0] == "html"
    assert not {name for name, _, _ in found.elements} & {"script", "link", "iframe", "object", "base", "form"}
    for name, attributes, _ in found.elements:
        assert not [key for key in attributes if key.startswith("on")]
        assert not OUTWARD.match(attributes.get("href", "#")), attributes
        assert attributes.get("href", "#").startswith("#")
        if name == "img":
            kind, _, data = attributes["src"].partition(",")
            assert kind == "data:image/svg+xml;base64"
            assert b"<svg" in base64.b64decode(data)
            assert attributes["alt"]
    style = found.texts("style")[0]
    assert "@import" not in style
    assert "url(" not in style
    assert len(found.ids()) == len(set(found.ids()))
    links = {attributes["href"].removeprefix("#") for _, attributes, _ in found.elements if "href" in attributes}
    assert links <= set(found.ids()), links - set(found.ids())
    return found


@pytest.fixture
def searched(cli, in_process):
    """A study ``toy`` of 24 candidates in nas.db of the working directory."""
    assert cli(*arguments("nas.db", train=24, generation=8))[0] == 0
    return nas.Study("toy", store="nas.db")


def test_a_report_holds_what_the_study_holds(searched, cli):
    assert cli("report", "toy", "--proxy", "nn_mass") == (0, "toy.html\n", "")
    found = parsed("toy.html")
    assert found.texts("h1") == ["Study toy"]
    assert found.texts("h2") == ["Front", "Funnel", "Search progress", "Proxy audit", "Topologies"]
    front, best = searched.front(), searched.best()
    drawn = list(dict.fromkeys([best.key, *front.candidate[::-1]]))
    assert found.texts("h3") == ["Time", *(f"Network {key[:8]}" for key in drawn)]
    assert len(found.images) == 3 + len(drawn)
    cells = found.texts("td")
    for point in front.itertuples():
        assert {f"{point.macs:,}", f"{point.accuracy:.4f}", f"{point.test_accuracy:.4f}"} <= set(cells)
    for status, count in searched.candidates().status.value_counts().items():
        assert status in cells
        assert f"{count:,}" in cells
    told = found.texts("body")[0]
    assert f"{searched.anytime_accuracy():.2%}" in told
    assert f"{searched.anytime_accuracy('test'):.2%}" in told
    for proxy in ("dtmc", "macs", "params", "depth", "count", "nn_mass"):
        assert proxy in cells
    assert "naswot" not in cells
    assert "candidates saved: cannot be told from 22 ranked and 2 random" in told.lower()
    assert list(Path().glob("*.partial")) == []


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


def test_all_proxies_are_audited_by_default_and_kept(searched, cli, monkeypatch):
    assert cli("report", "toy")[0] == 0
    cells = parsed("toy.html").texts("td")
    for proxy in ("naswot", "synflow", "zico", "nn_mass", "dtmc"):
        assert proxy in cells
    first = Path("toy.html").read_bytes()
    for module in (naswot, synflow, zico):
        monkeypatch.setattr(module, "fresh_network", None)  # a second report needs no networks
    assert cli("report", "toy")[0] == 0
    assert Path("toy.html").read_bytes() == first
    found = searched.audit("all")
    assert found.set_index("proxy").references[["naswot", "nn_mass"]].tolist() == [25, 50]
    assert found.problem.isna().all()


def test_from_python(searched, tmp_path):
    assert searched.report(tmp_path / "own.html", "macs") == tmp_path / "own.html"
    parsed(tmp_path / "own.html")
    found = searched.audit("nn_mass", f"{PLUGINS}/parts.py:raises")
    assert list(found.proxy[:6]) == ["dtmc", "macs", "params", "depth", "count", "nn_mass"]
    broken = found.iloc[-1]
    assert "no score" in broken.problem
    assert (broken.n, broken.verdict is None or broken.verdict != broken.verdict) == (0, True)


def test_several_studies_share_a_file(searched, cli):
    assert cli(*arguments("nas.db", study="other", seed=1))[0] == 0
    status, out, _ = cli("report", "toy", "other", "toy", "--proxy", "macs")
    assert (status, out) == (0, "toy+other.html\n")
    found = parsed("toy+other.html")
    assert found.texts("h1") == ["toy, other", "Study toy", "Study other"]
    assert found.texts("h2")[0] == "One front of all"


EVIL = """

class Evil(Small):
    def architecture(self, choose, task, *, points=4):
        name, options = '"><script>alert(1)</script>', ("<img src=http://evil.example>", "</style>", "$x$ &amp;")
        if choose(name, options) == "</style>":
            raise InvalidArchitecture("<script>alert(two)</script> & http://evil.example\\nmore")
        return super().architecture(choose, task, points=points)
"""


def test_nothing_that_a_user_names_is_more_than_text(cli, in_process, tmp_path):
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
    told = parsed("evil.html").texts("body")[0]
    for number in (1, "two", 3, 4):
        assert f"alert({number})" in told
    assert "more" not in told.partition("alert(two)")[2][:60]
    assert db.replace("'", "") in told.replace("'", "").replace('"', "")


def test_a_search_that_stopped_relying_on_its_proxy_says_so(cli, in_process):
    assert cli(*arguments("nas.db", evaluator=toy("Known"), proxy=toy("misleads"), train=36, generation=6))[0] == 0
    sentence = "From generation 5 on, the order was the strategy's own: misleads did not beat size"
    assert cli("report", "toy", "--proxy", "macs")[0] == 0
    told = parsed("toy.html").texts("body")[0]
    assert sentence in told
    assert "misleads is worth nothing beyond size" in told
    assert "From generation 5 on" in cli("status", "toy")[1]


def test_seeds_and_many_points(cli, in_process, monkeypatch):
    assert cli(*arguments("nas.db", seeds=2))[0] == 0
    monkeypatch.setattr("nas.reporting.html_report.MOST_ROWS", 1)
    monkeypatch.setattr("nas.reporting.html_report.MOST_DRAWN", 1)
    monkeypatch.setattr("nas.reporting.html_report.MOST_REASONS", 0)
    assert cli("report", "toy", "--proxy", "macs")[0] == 0
    told = parsed("toy.html").texts("body")[0]
    assert "± between seeds" in told
    assert re.search(r"\d+ more points are in the CSV file", told)


# What is not there, or cannot be -------------------------------------------------------------------------------------


def test_a_study_without_anything(cli):
    with results.open("nas.db").writer("empty", Config(study="empty").stored()):
        pass
    assert cli("report", "empty") == (0, "empty.html\n", "")
    told = parsed("empty.html").texts("body")[0]
    assert "No candidate has been trained yet" in told
    assert "nas resume empty" in told


def test_a_study_that_was_interrupted_before_any_result(cli, in_process, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("nas.funnel.driver.Driver._train", stopped)
    assert cli(*arguments("nas.db"))[0] == 130
    assert cli("report", "toy")[0] == 0
    found = parsed("toy.html")
    assert found.texts("h2") == ["Funnel"]
    assert "queued" in found.texts("td")


def test_a_space_that_is_gone_costs_the_audit_alone(cli, in_process, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text((PLUGINS / "spaces.py").read_text())
    assert cli(*arguments("nas.db", space=f"{file}:Small"))[0] == 0
    file.unlink()
    assert cli("report", "toy", "--proxy", "macs")[0] == 0
    found = parsed("toy.html")
    assert "The proxies cannot be audited: A plug-in's file must exist" in found.texts("body")[0]
    assert "Topologies" in found.texts("h2")


@pytest.mark.usefixtures("searched")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["other"], "Studies there: toy"),
        (["toy", "other"], "Studies there: toy"),
        (["toy", "--proxy", "nonsense"], "Unknown proxy 'nonsense'"),
        (["toy", "--proxy", "none.py:mine"], "file must exist"),
        (["toy", "--out", "none/x.html"], "none/x.html must be writable"),
        (["toy", "--out", "."], "must be writable"),
        (["toy", "--store", "none.db"], "none.db"),
        ([], "Missing argument"),
    ],
)
def test_mistakes(mistake, words, told):
    assert told in mistake("report", *words)


@pytest.mark.usefixtures("searched")
def test_a_report_that_is_interrupted_leaves_none(cli, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("nas.study.audited", stopped)
    status, out, err = cli("report", "toy")
    assert (status, out) == (130, "")
    assert "No report was written" in err
    assert not list(Path().glob("toy.html*"))


def test_a_store_that_may_only_be_read(in_process, tmp_path, monkeypatch):
    study = search(tmp_path / "nas.db", train=8)
    monkeypatch.setattr("nas.study.REFERENCE_SAMPLE", 20)
    monkeypatch.setattr("nas.audit.reference.os.replace", _refused)
    for kept in tmp_path.rglob("scores.json"):
        kept.unlink()
    study.audit()
    assert not list(tmp_path.rglob("scores.json"))


def _refused(*_):
    raise PermissionError("read-only")


def test_spaces_of_tests_are_spaces():
    assert load_plugin("nas.search_spaces", space())
