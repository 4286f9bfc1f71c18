"""A self-organising map of a catalogue's columns, learned from the store part by part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import yaml
from small import galbatch

ROWS = 900
MODEL = {
    "kind": "som", "columns": ["size", "latent"], "cells": [5, 4], "passes": 8,
    "width": [2.0, 0.5], "clusters": 3, "directions": 2,
    "properties": ["age"],
}  # fmt: skip


def rows() -> dict[str, Any]:
    """Three groups of rows, each of another age."""
    rng = np.random.default_rng(4)
    group = np.arange(ROWS) % 3
    u, v = np.array([[0, 9, 0], [0, 0, 9]])[:, group] + rng.uniform(-1, 1, (2, ROWS))
    latent = np.stack([u, v, u + 0.1 * v, v - 0.1 * u], axis=1)
    return {
        "id": np.arange(ROWS) + 1,
        "size": rng.normal(size=ROWS) + 5,
        "latent": latent.astype(np.float32),
        "age": group * 2.0 + rng.normal(0, 0.1, ROWS),
    }


def make(folder: Path, table: dict[str, Any], **changes: Any) -> None:
    survey = {
        "name": "points",
        "title": "Points",
        "id": {"column": "id"},
        "columns": [
            {"name": "id", "dtype": "int64"},
            {"name": "size"},
            {"name": "latent", "shape": [4], "dtype": "float32"},
            {"name": "age", "unit": "Gyr"},
            {"name": "kind", "dtype": "string"},
        ],
    }
    job = {
        "name": "points",
        "survey": "survey.yaml",
        "source": {"kind": "files", "paths": ["points.npz"]},
        "store": "store",
        "partition": {"rows": 150},
        "models": [{**MODEL, **changes}],
        "sinks": [{"kind": "duckdb", "path": "found.duckdb"}],
        "cluster": {"kind": "serial"},
    }
    np.savez(folder / "points.npz", **table)
    (folder / "survey.yaml").write_text(yaml.safe_dump(survey))
    (folder / "job.yaml").write_text(yaml.safe_dump(job))


def test_rows_lie_on_the_map_and_cells_tell_what_lies_there(tmp_path: Path) -> None:
    table = rows()
    table["size"][6] = np.nan
    make(tmp_path, table)
    done = galbatch("run", "job.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with duckdb.connect(str(tmp_path / "found.duckdb"), read_only=True) as database:
        found = database.execute("SELECT * FROM som ORDER BY id").fetchdf()
    assert (found.loc[6, ["cluster", "som_x", "som_y"]] == -1).all()
    assert np.isnan(found.loc[6, "som_error"])
    on = found.drop(index=6)
    assert on["som_x"].between(0, 4).all() and on["som_y"].between(0, 3).all()
    assert (on["cluster"].groupby(np.arange(ROWS)[on.index] % 3).nunique() == 1).all()
    card = json.loads(next((tmp_path / "store").rglob("models/*/card.json")).read_text())
    kept = card["rows"]["map"]
    assert sum(card["training"]["som"]["hits"]) == kept["training"]
    assert any("1 rows are not on the map" in one for one in card["training"]["warnings"])
    clusters = card["training"]["properties"]["clusters"]
    assert sorted(np.round(clusters["median"]["age"])) == [0, 2, 4]
    assert max(clusters["spread"]["age"]) < 0.2
    assert sum(clusters["rows"]) == kept["training"] + kept["validation"]


def test_the_same_rows_make_the_same_map_in_whatever_partitions_and_files(tmp_path: Path) -> None:
    maps = []
    for size in (150, 1000):
        folder = tmp_path / str(size)
        folder.mkdir()
        make(folder, rows())
        done = galbatch("run", "job.yaml", "--set", f"partition.rows={size}", cwd=folder)
        assert done.returncode == 0, done.stderr
        with np.load(next((folder / "store").rglob("models/*/map.npz"))) as arrays:
            maps.append(arrays["cells"])
    np.testing.assert_allclose(maps[0], maps[1], atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"columns": ["latents"]}, ["models.som.columns", "no column 'latents'", "latent"]),
        ({"columns": ["kind"]}, ["models.som.columns", "'kind' holds string"]),
        ({"properties": ["latent"]}, ["models.som.properties", "'latent' has more"]),
        ({"cells": [2, 2], "clusters": 4}, ["fewer than the 4 cells"]),
        ({"width": [0.5, 2.0]}, ["must not be smaller than the last"]),
    ],
)
def test_what_cannot_be_mapped_is_refused(
    tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    make(tmp_path, rows(), **changes)
    done = galbatch("run", "job.yaml", cwd=tmp_path)
    assert done.returncode == 2 and not (tmp_path / "store").exists()
    for word in words:
        assert word in done.stderr


def test_columns_that_say_nothing_and_numbers_that_are_none_are_told(tmp_path: Path) -> None:
    table = rows()
    table["size"][:] = 2.5
    table["age"][:30] = 1e300
    make(tmp_path, table, columns=["size", "latent", "age"], properties=[])
    done = galbatch("run", "job.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    card = json.loads(next((tmp_path / "store").rglob("models/*/card.json")).read_text())
    first, second = card["training"]["warnings"]
    assert first == "column 'size': all rows have the same numbers"
    assert "rows are not on the map: one of their numbers is missing, or too large" in second


@pytest.mark.parametrize("what", ["all the same", "all missing"])
def test_rows_that_say_nothing_are_refused(tmp_path: Path, what: str) -> None:
    table = rows()
    table["size"][:] = 5.0 if what == "all the same" else np.nan
    make(tmp_path, table, columns=["size"])
    done = galbatch("run", "job.yaml", cwd=tmp_path)
    assert done.returncode == 2
    expected = "same numbers" if what == "all the same" else "rows lack one of: size"
    assert expected in done.stderr
