"""Spectra at rest become latents, cells of a map and clusters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import yaml
from small import galbatch

PIXELS, ROWS = 300, 160


def spectra() -> dict[str, Any]:
    """Two families of smooth curves, each of two numbers, and of any brightness."""
    rng = np.random.default_rng(4)
    x = np.linspace(-1, 1, PIXELS)
    slope, bend = rng.uniform(-0.5, 0.5, (2, ROWS, 1))
    family = (np.arange(ROWS) % 2)[:, None]
    bump = np.exp(-(((x - 0.3) / 0.1) ** 2))
    flux = (1.5 + slope * x + bend * x**2 + family * bump) * rng.uniform(0.5, 50, (ROWS, 1))
    return {
        "id": np.arange(ROWS) + 1,
        "flux": flux.astype(np.float32),
        "ivar": np.ones((ROWS, PIXELS), np.float32),
        "family": family[:, 0],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    arrays = [
        {"name": name, "shape": [PIXELS], "dimensions": ["lam"], "dtype": "float32"}
        for name in ("flux", "ivar")
    ]
    survey = {
        "name": "seds",
        "title": "SEDs",
        "id": {"column": "id"},
        "spectra": {"flux": "flux", "ivar": "ivar", "frame": "rest"},
        "columns": [{"name": "id", "dtype": "int64"}, {"name": "family"}, *arrays],
        "axes": [{"name": "lam", "start": 3600, "step": 5, "points": PIXELS}],
    }
    model = {
        "kind": "sed_autoencoder", "latents": 3, "points": 256, "filters": [4, 8], "epochs": 8,
        "batch": 20, "clusters": 2, "som": [4, 3], "som_passes": 6, "som_width": [2.0, 0.5],
    }  # fmt: skip
    job = {
        "name": "seds",
        "survey": "survey.yaml",
        "source": {"kind": "files", "paths": ["seds.npz"]},
        "store": "store",
        "partition": {"rows": 60},
        "models": [model],
        "sinks": [{"kind": "duckdb", "path": "found.duckdb"}],
        "cluster": {"kind": "serial"},
    }
    (tmp_path / "survey.yaml").write_text(yaml.safe_dump(survey))
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    return tmp_path


def test_latents_cells_and_clusters(folder: Path) -> None:
    table = spectra()
    table["ivar"][7, 100] = 0  # no data in one pixel
    table["flux"][9] *= -1
    np.savez(folder / "seds.npz", **table)
    done = galbatch("run", "job.yaml", "--set", "models.sed_autoencoder.properties=[family]",
                    cwd=folder)  # fmt: skip
    assert done.returncode == 0, done.stderr
    with duckdb.connect(str(folder / "found.duckdb"), read_only=True) as database:
        found = database.execute("SELECT * FROM sed_autoencoder ORDER BY id").fetchdf()
    none = found["id"].isin([8, 10]).to_numpy()
    assert (found["cluster"][none] == -1).all() and (found["som_x"][none] == -1).all()
    assert found["som_error"][none].isna().all() and found["reconstruction_mse"][none].isna().all()
    rest = found[~none]
    assert rest["som_x"].between(0, 3).all() and rest["som_y"].between(0, 2).all()
    assert set(rest["cluster"]) == {0, 1}
    assert rest["reconstruction_mse"].mean() < 0.3
    card = json.loads((folder / "store/models/sed_autoencoder/card.json").read_text())
    scores, maps = card["metrics"]["reconstruction"], card["training"]["som"]
    assert 0 < scores["pca_mse"] < scores["mse"] < 0.3 and 1 <= scores["directions"] <= 3
    assert np.shape(maps["u_matrix"]) == (4, 3)
    assert sum(maps["hits"]) == card["rows"]["spectra"]["train"]
    assert [one["k"] for one in card["training"]["clusters"]["tried"]] == [*range(2, 11)]
    page = (folder / "store/report/index.html").read_text()
    own = json.loads((folder / "store/report/report.json").read_text())["models"]
    own = own["sed_autoencoder"]["own"]
    assert own["numbers"]["mean squared error"] == scores["mse"]
    assert sum(own["counts"]["cluster"].values()) == ROWS
    reasons = [one["why"] for one in own["rows"]]
    assert reasons[0] == "the best reconstruction" and "the worst" in " ".join(reasons)
    shown = {float(one["words"].split()[3].rstrip(";")) for one in own["rows"]}
    errors = rest["reconstruction_mse"]
    assert min(shown) == pytest.approx(errors.min(), rel=0.01)
    assert max(shown) == pytest.approx(errors.max(), rel=0.01)
    for title in ("U-matrix", "Clusters on the map", "family on the map", "How many clusters?",
                  "What clusters are like"):  # fmt: skip
        assert title in page
    assert "Redshifts" not in page and len(page) < 5_000_000


def test_a_variational_one(folder: Path) -> None:
    np.savez(folder / "seds.npz", **spectra())
    words = ["--set", "models.sed_autoencoder.variational=true"]
    done = galbatch("run", "job.yaml", *words, cwd=folder)
    assert done.returncode == 0, done.stderr


def test_a_dense_one_on_components(folder: Path) -> None:
    np.savez(folder / "seds.npz", **spectra())
    words = {"network": "dense", "components": 8, "hidden": [32], "epochs": 6,
             "latents": 2}  # fmt: skip
    sets = [part for name, value in words.items()
            for part in ("--set", f"models.sed_autoencoder.{name}={value}")]  # fmt: skip
    done = galbatch("run", "job.yaml", *sets, cwd=folder)
    assert done.returncode == 0, done.stderr
    card = json.loads((folder / "store/models/sed_autoencoder/card.json").read_text())
    scores = card["metrics"]["reconstruction"]
    assert 0 < scores["mse"] < 0.3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("models.sed_autoencoder.normalise=[4050, 9000]", "between 3600 and 5095 Angstrom"),
        ("models.sed_autoencoder.points=300", "write a multiple of 16"),
    ],
)
def test_what_the_network_cannot_have(change: str, said: str, folder: Path) -> None:
    np.savez(folder / "seds.npz", **spectra())
    done = galbatch("run", "job.yaml", "--set", change, cwd=folder)
    assert done.returncode == 2 and said in done.stderr.splitlines()[-1]


def test_spectra_as_observed_are_refused(folder: Path) -> None:
    np.savez(folder / "seds.npz", **spectra())
    survey = yaml.safe_load((folder / "survey.yaml").read_text())
    del survey["spectra"]["frame"]
    (folder / "survey.yaml").write_text(yaml.safe_dump(survey))
    done = galbatch("run", "job.yaml", cwd=folder)
    assert done.returncode == 2 and "are as they were observed" in done.stderr
