"""The house rules that a machine can hold: imports point one way, heavy libraries stay put."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from small import REPOSITORY

PACKAGE = REPOSITORY / "galbatch"

# Each room with those it may import besides itself.
BASE = {"errors", "values", "arrays", "columns", "targets", "spec", ""}
EDGES = {"readers", "store", "sinks", "report", "cluster"}
SCIENCE = {"intake", "flux", "sample", "quality", "mock", "models", "training"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "values": set(),
    "arrays": set(),
    "columns": {"values"},
    "targets": {"values"},
    "spec": {"errors", "values"},
    "intake": BASE,
    "flux": BASE,
    "sample": BASE | {"flux"},
    "quality": BASE,
    "mock": BASE | {"flux", "intake"},
    "models": BASE | {"flux", "quality"},
    "training": BASE | {"flux", "sample", "quality", "models"},
    **dict.fromkeys(EDGES, BASE),
    "sinks": BASE,
    "report": BASE | {"quality"},
    "stages": BASE | SCIENCE | EDGES,
    "plan": BASE | {"stages"},
    "run": BASE | {"stages", "store"},
    "monitor": BASE | {"stages", "store", "run"},
    "cli": BASE | {"stages", "store", "cluster", "plan", "run", "monitor"},
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
    "bagpipes": {"mock"},
    "pickle": set(),
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
