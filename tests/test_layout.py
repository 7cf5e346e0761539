"""Arrows of import point one way, imports are quick, and the wheel holds the four packages and nothing else."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import networkx as nx
import pytest

import nas
from nas.execution.network import AnytimeNetwork
from nas.representation.builder import Builder
from nas.representation.elements import Task

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("nas", "search_spaces", "evaluators", "results")
ALLOWED = {
    "results": set(),
    "nas": {"results"},
    "search_spaces": {"nas", "results"},
    "evaluators": {"nas", "results"},
}
"""What a package may import of ours, beside itself."""
COMPOSES = {
    ("nas/__init__.py", "evaluators"): "nas.load_data is part of the interface: users import only nas",
    ("nas/cli/installed.py", "evaluators"): "`nas data` lists the forms of data specifications",
    ("nas/testing/data.py", "evaluators"): "the checks of data plug-ins load them as the evaluator does",
}
"""Imports on demand, (file, package), that ALLOWED does not list: each with its reason."""
EXCEPTIONS = {
    ("nas.study.study", "nas.reporting.html_report"): "Study.report() is a façade: users expect the report there",
}
"""Imports that point the other way: each with its reason."""
ORDER = (
    "nas.errors",
    "nas.seeds",
    "nas.files",
    "nas.plugins",
    "nas.progress",
    "nas.config",
    "nas.representation",
    "nas.spaces",
    "nas.chain",
    "nas.execution",
    "nas.proxies",
    "nas.strategies",
    "nas.evaluation",
    "nas.workers",
    "nas.screening",
    "nas.audit",
    "nas.funnel",
    "nas.ray",
    "nas.tune",
    "nas.study",
    "nas.launch",
    "nas.deploy",
    "nas.reporting",
    "nas.testing",
    "nas.cli",
)
"""Packages of nas: each imports only the ones before it."""
HEAVY = (
    "torch",
    "optuna",
    "pandas",
    "sqlalchemy",
    "matplotlib",
    "ray",
    "sklearn",
    "scipy",
    "rich",
    "typer",
    "networkx",
    "jinja2",
)
FILES = sorted(path.relative_to(ROOT).as_posix() for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


DATA = (
    "nas/reporting/report.html.jinja",
    "nas/reporting/report.css",
    "nas/reporting/report.js",
    *(f"{package}/py.typed" for package in PACKAGES),
)
"""Files of the packages that are not modules."""


def imports(path, *, at_top=False):
    """The modules that a file imports, by dotted name; at_top: when it is imported itself, at run time.

    Names of modules that import_module receives count as imports on demand.
    """
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    nodes = _top_level(tree.body) if at_top else ast.walk(tree)
    found = set() if at_top else set(imports_by_name(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imports_by_name(tree):
    """Strings that are imported: arguments of import_module, and the keys of nas's table of lazy names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names = node.args[:1]
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_NAMES_OF_MODULE":
            names = node.value.keys
        else:
            continue
        yield from (name.value for name in names if isinstance(name, ast.Constant))


def _top_level(body):
    """Statements that run on import: outside functions and blocks for type checkers."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            yield from _top_level([*node.body, *node.orelse])
        elif isinstance(node, ast.Try):
            yield from _top_level(
                [*node.body, *node.orelse, *node.finalbody, *(s for h in node.handlers for s in h.body)]
            )
        elif isinstance(node, ast.With | ast.ClassDef):
            yield from _top_level(node.body)


@pytest.mark.parametrize("path", FILES)
def test_imports_point_one_way(path):
    package = path.partition("/")[0]
    ours = {module.partition(".")[0] for module in imports(path)} & {*PACKAGES, "tests", "benchmarks", "examples"}
    assert {each for each in ours - {package} - ALLOWED[package] if (path, each) not in COMPOSES} == set()


@pytest.mark.parametrize(("path", "package"), COMPOSES)
def test_imports_of_what_composes_are_on_demand(path, package):
    assert package in {module.partition(".")[0] for module in imports(path)}
    assert package not in {module.partition(".")[0] for module in imports(path, at_top=True)}


def test_names_of_nas_have_one_module_for_type_checkers_and_at_run_time():
    tree = ast.parse((ROOT / "nas/__init__.py").read_text(encoding="utf-8"))
    typed = {
        alias.asname or alias.name: (node.module, alias.name)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        for alias in node.names
    }
    assert sorted(typed) == sorted(nas.__all__)
    for name, (module, attribute) in typed.items():
        assert getattr(nas, name) is getattr(importlib.import_module(module), attribute)


FRONT = ("Score", "anytime_accuracy", "hypervolume", "non_dominated", "non_dominated_rank", "crowding")


@pytest.mark.parametrize("path", [path for path in FILES if path.startswith(("search_spaces/", "evaluators/"))])
def test_plugins_import_only_fronts_and_measures_of_the_results(path):
    assert {module for module in imports(path) if module.startswith("results")} <= {
        "results",
        "results.front",
        "results.measures",
        "results.measures.METRICS",
        "results.measures.Measure",
        "results.measures.built_in",
        *(
            f"results.front.{name}"
            for name in ("Score", "anytime_accuracy", "hypervolume", "non_dominated", "non_dominated_rank")
        ),
    }


def test_one_package_imports_ray():
    importing = {path for path in FILES if any(re.match(r"ray\b", module) for module in imports(path))}
    assert {path for path in importing if not path.startswith("nas/ray/")} == set()


def module_of(path):
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def edges():
    """Imports between our modules as (importing, imported): also those inside functions and for type checkers."""
    modules = {module_of(path): path for path in FILES}
    for name, path in modules.items():
        for imported in imports(path) & modules.keys():
            if not name.startswith(f"{imported}.") and imported != name and (name, imported) not in EXCEPTIONS:
                yield name, imported


def package_of(module):
    """A folder below one of the four packages, a file of nas itself, or one of the four."""
    top, _, rest = module.partition(".")
    return f"{top}.{rest.partition('.')[0]}" if top in ("nas", "evaluators") and rest else top


def floors(graph):
    """Number of nodes on the longest chain of imports."""
    return nx.dag_longest_path_length(graph) + 1


def circles(graph):
    return [sorted(component) for component in nx.strongly_connected_components(graph) if len(component) > 1]


def test_there_are_no_circles():
    """Neither of modules nor of packages: each can be understood from its leaves."""
    modules = nx.DiGraph(edges())
    assert not circles(modules)
    packages = nx.DiGraph((package_of(a), package_of(b)) for a, b in modules.edges if package_of(a) != package_of(b))
    assert not circles(packages)
    assert floors(packages) <= 12
    for package in packages:
        inside = [node for node in modules if package_of(node) == package]
        assert floors(modules.subgraph(inside)) <= 10, package


@pytest.mark.parametrize("exception", EXCEPTIONS)
def test_exceptions_exist(exception):
    importing, imported = exception
    assert imported in imports(importing.replace(".", "/") + ".py")


def test_packages_import_only_packages_above_them():
    """In the order of the list; a file of nas itself, such as nas.errors, stands for itself."""
    assert {package_of(module) for module in map(module_of, FILES) if module.startswith("nas.")} == set(ORDER)
    for importing, imported in edges():
        above, below = package_of(imported), package_of(importing)
        if above in ORDER and below in ORDER:
            assert ORDER.index(above) <= ORDER.index(below), f"{importing} imports {imported}"


def test_folders_are_small():
    folders = {str(Path(path).parent) for path in FILES}
    assert {"nas", "evaluators"} <= folders
    in_folder = {folder: [path for path in FILES if str(Path(path).parent) == folder] for folder in folders}
    assert len(in_folder["nas"]) < 10
    assert max(map(len, in_folder.values())) <= 18


def run(code, *, folder=None, **variables):
    """Run Python code in a process of its own; returns what it printed."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=folder or ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize(
    "module", ["nas", "results", "nas.config", "nas.evaluation.evaluator", "nas.workers.worker", "nas.workers.local"]
)
def test_imports_are_quick(module):
    loaded = run(f"import sys, {module}; print(*sys.modules)").split()
    assert not {name.partition(".")[0] for name in loaded} & set(HEAVY)


def test_screening_needs_neither_torch_nor_a_database():
    loaded = run(
        "import sys, nas.screening.pool, search_spaces.residual, search_spaces.mobile; print(*sys.modules)"
    ).split()
    assert not {name.partition(".")[0] for name in loaded} & {"torch", "optuna", "sqlalchemy", "pandas", "matplotlib"}


BLOCKED = """
import importlib, pkgutil, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
for module in {modules!r}:
    importlib.import_module(module)
for package in {packages!r}:
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        importlib.import_module(found.name)
{more}
"""


def test_training_and_serving_need_no_search(tmp_path):
    """On a machine that only trains or serves: torch, numpy, safetensors; no optuna, no database, no terminal."""
    builder = Builder(Task(input_shape=(1, 8, 8), num_classes=3))
    builder.head(builder.conv(builder.input, (4, 8)))
    network = AnytimeNetwork(builder.architecture(2)).eval()
    network.calibrated.fill_(True)
    network.save(tmp_path / "folder")
    absent = ("optuna", "sqlalchemy", "ray", "typer", "rich", "matplotlib", "sklearn", "scipy", "pandas", "networkx")
    load = "import nas, torch; print(*nas.load('folder')(torch.zeros(2, 1, 8, 8), level=0).shape)"
    modules = (
        "nas.execution.network",
        "nas.workers.worker",
        "evaluators.training.evaluator",
        "evaluators.rules.sandwich",
    )
    code = BLOCKED.format(absent=absent, modules=modules, packages=("search_spaces",), more=load)
    assert run(code, folder=tmp_path).split() == ["2", "3"]


def test_every_module_can_be_imported_first():
    """No module relies on another having been imported before it; slow parts are imported once here."""
    names = [module_of(path) for path in FILES]
    run(
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        f"    for loaded in [m for m in sys.modules if m.partition('.')[0] in {PACKAGES!r}]:\n"
        "        del sys.modules[loaded]\n"
        "    importlib.import_module(name)\n"
    )


def test_every_module_says_what_it_is():
    trees = {path: ast.parse((ROOT / path).read_text(encoding="utf-8")) for path in FILES}
    assert not [path for path, tree in trees.items() if tree.body and not ast.get_docstring(tree)]


def test_the_wheel_holds_the_four_packages_and_nothing_else(tmp_path):
    import setuptools  # noqa: F401 - the build needs it in this environment

    build = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for path in (*FILES, *DATA):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes((ROOT / path).read_bytes())
    for name in ("tests", "benchmarks", "examples", "runs"):  # what lies beside the packages stays out
        (source / name).mkdir()
        (source / name / "__init__.py").touch()
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        held = set(opened.namelist())
        entries = opened.read(next(name for name in held if name.endswith("entry_points.txt"))).decode()
    assert {name.partition("/")[0] for name in held if ".dist-info/" not in name} == set(PACKAGES)
    assert held >= {*FILES, *DATA}
    assert "nas = nas.cli:main" in entries
    assert any(name.endswith("licenses/LICENSE") for name in held)
