"""The house rules that a machine can hold: imports point one way, heavy libraries stay put."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from small import REPOSITORY

PACKAGE = REPOSITORY / "galbatch"

# Each room with those it may import besides itself.
BASE = {"errors", "values", "arrays", "columns", "targets", "shown", "spec", ""}
EDGES = {"readers", "store", "sinks", "report", "cluster"}
SCIENCE = {"intake", "flux", "spectra", "maps", "sample", "quality", "mock", "models", "training"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "values": set(),
    "arrays": set(),
    "columns": {"values"},
    "targets": {"values"},
    "shown": set(),
    "spec": {"errors", "values"},
    "intake": BASE | {"spectra"},
    "flux": BASE,
    "spectra": BASE,
    "maps": BASE,
    "sample": BASE | {"flux"},
    "quality": BASE,
    "mock": BASE | {"flux", "spectra", "intake"},
    "models": BASE | {"flux", "spectra", "maps", "sample", "quality"},
    "training": BASE | {"flux", "spectra", "maps", "sample", "quality", "mock", "models"},
    **dict.fromkeys(EDGES, BASE),
    "sinks": BASE,
    "report": BASE | {"quality"},
    "stages": BASE | SCIENCE | EDGES,
    "plan": BASE | {"stages"},
    "run": BASE | {"stages", "store"},
    "monitor": BASE | {"stages", "store", "run"},
    "forecast": BASE | {"readers", "training", "stages", "store", "plan", "run"},
    "cli": BASE | {"stages", "store", "cluster", "plan", "run", "forecast", "monitor"},
}
ONLY_IN = {
    "tensorflow": {"models", "training"},
    "keras": {"models", "training"},
    "dask": {"cluster", "stages", "run"},
    "distributed": {"cluster", "stages", "run"},
    "dask_jobqueue": {"cluster"},
    "dask_cuda": {"cluster"},
    "cupy": {"arrays"},
    "ruamel": {"spec", "readers"},
    "yaml": set(),
    "bagpipes": set(),
    "pickle": set(),
}


TYPES_ALONE = ("TYPE_CHECKING", "typing.TYPE_CHECKING")
# Modules that import each other, with the reason why they still do.
CIRCLES: list[set[str]] = []
LINES = 500
# Modules that are longer, each with its reason.
LONG: dict[str, str] = {}
# Names that several modules give to the same thing.
SAME_MEANING = {
    "Array": "float64 values, in rooms that do not import each other",
    "S": "the settings of a family, as its trainer and its model have them",
}


def imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == "galbatch":
                found |= {f"galbatch.{alias.name}" for alias in node.names}
    return found


def types_of(file: Path) -> set[str]:
    """Public classes, and other names of types (they begin with a capital, and go on in small)."""
    found: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {
        name for name in found if re.fullmatch(r"[A-Z]([A-Za-z0-9]*[a-z0-9][A-Za-z0-9]*)?", name)
    }


def module(file: Path) -> str:
    """The name that a file is imported by."""
    parts = file.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(file: Path, modules: set[str]) -> set[str]:
    """Modules of the package that a file imports at any time: those for type checkers are none."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in TYPES_ALONE:
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & modules
            if not names <= modules:
                found.add(node.module)
    return found & modules


def circles(graph: dict[str, set[str]]) -> list[frozenset[str]]:
    """Modules that reach each other: strongly connected components of two modules and more."""
    reach: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        left = list(graph[start])
        while left:
            name = left.pop()
            if name not in seen:
                seen.add(name)
                left += graph[name]
        reach[start] = seen
    found = {frozenset(b for b in reach[a] if a in reach[b]) for a in graph if a in reach[a]}
    return sorted(found, key=sorted)


def room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if file.parent != PACKAGE or
         file.stem not in ("__init__", "__main__")]  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_one_way(file: Path) -> None:
    here = room(file)
    assert here in MAY_IMPORT, f"{here} is a room that ARCHITECTURE.md does not know"
    for module in imports(file):
        top, _, rest = module.partition(".")
        if top == "galbatch" and rest:
            target = rest.split(".")[0]
            allowed = MAY_IMPORT[here] | {here, "__version__"}
            assert target in allowed, f"{here} imports {module}"
        assert here in ONLY_IN.get(top, {here}), f"{top} is imported in {here}"


def test_no_modules_import_each_other() -> None:
    files = {module(file): file for file in PACKAGE.rglob("*.py")}
    graph = {name: imported_modules(file, set(files)) for name, file in files.items()}
    assert circles(graph) == sorted(CIRCLES, key=sorted)


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, [{"b", "c"}]),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"d", "a"}}, [{"a", "b", "c"}, {"d"}]),
    ],
)
def test_circles_are_found(graph: dict[str, set[str]], expected: list[set[str]]) -> None:
    assert circles(graph) == expected


def test_imports_in_functions_count_and_those_of_types_do_not(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text(
        "from typing import TYPE_CHECKING\n"
        "from galbatch import errors, __version__\n"
        "import galbatch.plan\n"
        "if TYPE_CHECKING:\n    from galbatch.run import run\n"
        "else:\n    from galbatch.cli import app\n"
        "def f():\n    from galbatch.values import Receipt\n"
    )
    modules = {f"galbatch.{name}" for name in ("errors", "run", "plan", "values", "cli")}
    found = imported_modules(file, modules | {"galbatch"})
    assert found == modules - {"galbatch.run"} | {"galbatch"}


def test_only_modules_with_a_reason_have_more_than_500_lines() -> None:
    lines = {str(file.relative_to(PACKAGE)): file.read_text(encoding="utf-8") for file in FILES}
    long = {name: text.count("\n") for name, text in lines.items() if text.count("\n") > LINES}
    assert sorted(long) == sorted(LONG), f"change LONG, or cut what is too long: {long}"


def test_a_name_of_a_type_has_one_meaning() -> None:
    where: dict[str, list[str]] = {}
    for file in FILES:
        for name in types_of(file):
            where.setdefault(name, []).append(str(file.relative_to(PACKAGE)))
    twice = {name: files for name, files in where.items() if len(files) > 1}
    assert sorted(twice) == sorted(SAME_MEANING), f"rename all but one of each: {twice}"


def test_every_room_is_in_the_architecture_page() -> None:
    page = (REPOSITORY / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for name in {room(file) for file in FILES}:
        assert f"{name}" in page, f"ARCHITECTURE.md does not mention {name}"


def test_validate_loads_no_heavy_library() -> None:
    script = (
        "import sys; from galbatch.cli import app\n"
        "try: app(['validate', 'jobs/quickstart.yaml'])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'tensorflow', 'keras', 'dask', 'distributed', 'cupy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=REPOSITORY)
