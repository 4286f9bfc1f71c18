"""Observed spectra become a few numbers at rest, and such numbers spectra. One fit for the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import yaml
from numpy.typing import NDArray
from small import galbatch

from galbatch.columns import arrow_type, from_numpy
from galbatch.errors import SpecError
from galbatch.models.base import ShowingModel
from galbatch.models.families import load_model
from galbatch.models.infovae import LatentFlag, load_decoder
from galbatch.spec.spectral_models import InfoVaeModel
from galbatch.spectra.grids import LogGrid

GRID = LogGrid(3.58, 1e-4, 2600)
ROWS, COPIES = 240, 4
MODEL = {
    "kind": "infovae", "latents": 2, "rest": [3700, 6200], "pixels": 120, "hidden": [32, 16],
    "components": 3, "epochs": 40, "batch": 16, "mmd_weight": 100,
}  # fmt: skip
BAD = {
    10: LatentFlag.NO_REDSHIFT,
    20: LatentFlag.OTHER_REDSHIFT,
    30: LatentFlag.LITTLE_COVERAGE,
    40: LatentFlag.NO_FLUX,
}
TWINS = 50, 51


def spectra() -> dict[str, Any]:
    """Galaxies of two numbers at many redshifts; the first rows are one of them, moved."""
    rng = np.random.default_rng(4)
    slope, line = rng.normal(0, 1, (2, ROWS, 1))
    slope[:COPIES], line[:COPIES] = 0.5, 1.0
    z = rng.uniform(0.01, 0.3, ROWS)
    z[:COPIES] = np.linspace(0.02, 0.25, COPIES)
    for values in (slope, line, z):
        values[TWINS[1]] = values[TWINS[0]]
    rest = GRID.wavelengths / (1 + z[:, None])
    bump = sum(np.exp(-0.5 * ((rest - at) / 15) ** 2) for at in (3728, 4861, 5007))
    flux = (1 + 0.2 * slope * (rest - 5000) / 1000 + (1 + 0.4 * line) * bump) * 7
    noise = rng.normal(0, 0.1, flux.shape)
    noise[TWINS[1]] = noise[TWINS[0]]
    flux, ivar = flux + noise, np.full_like(flux, 100.0)
    masked = rng.random(ivar.shape) < 0.1
    masked[TWINS[1]] = masked[TWINS[0]]
    masked[30, 300:] = True
    ivar[masked] = 0
    flux[TWINS[1], masked[TWINS[1]]] = 1e6  # what stands where there are no data
    flux[40] *= -1
    z[10], z[20] = np.nan, 0.5
    return {
        "id": np.arange(ROWS) + 1, "z": z,
        "flux": flux.astype(np.float32), "ivar": ivar.astype(np.float32),
    }  # fmt: skip


def write(folder: Path, model: dict[str, Any], **changes: Any) -> None:
    arrays = [
        {"name": name, "shape": [GRID.points], "dimensions": ["lam"], "dtype": "float32"}
        for name in ("flux", "ivar")
    ]
    axis = {"name": "lam", "start": GRID.first, "step": GRID.step, "points": GRID.points}
    survey = {
        "name": "spectra",
        "title": "Spectra",
        "id": {"column": "id"},
        "spectra": {"flux": "flux", "ivar": "ivar", "sky": []},
        "labels": {"redshift": {"column": "z", "low": -0.01, "high": 2}},
        "columns": [{"name": "id", "dtype": "int64"}, {"name": "z"}, *arrays],
        "axes": [{**axis, "scale": "log10"}],
    }
    job = {
        "name": "spectra",
        "survey": "survey.yaml",
        "source": {"kind": "files", "paths": ["spectra.npz"]},
        "store": "store",
        "partition": {"rows": 100},
        "models": [model],
        "sinks": [{"kind": "duckdb", "path": "found.duckdb"}],
        "cluster": {"kind": "serial"},
    }
    (folder / "survey.yaml").write_text(yaml.safe_dump(survey | changes))
    (folder / "job.yaml").write_text(yaml.safe_dump(job))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("infovae")
    write(folder, MODEL)
    np.savez(folder / "spectra.npz", **spectra())
    run = galbatch("run", "job.yaml", cwd=folder)
    assert run.returncode == 0, run.stderr
    return folder


@pytest.fixture(scope="module")
def found(done: Path) -> Any:
    with duckdb.connect(str(done / "found.duckdb"), read_only=True) as database:
        return database.execute("SELECT * FROM infovae ORDER BY id").fetchdf()


def latents(found: Any) -> NDArray[np.float64]:
    return np.array(found["latent"].tolist(), np.float64)


def test_spectra_without_latents_say_why(found: Any) -> None:
    wrong = np.zeros(ROWS, int)
    for row, flag in BAD.items():
        wrong[row] = flag
    np.testing.assert_array_equal(found["latent_flags"], wrong)
    np.testing.assert_array_equal(np.isnan(latents(found)).all(axis=1), wrong != 0)
    np.testing.assert_array_equal(found["reconstruction_chi2"].isna(), wrong != 0)
    assert found["reconstruction_chi2"].median() < 20


def test_reconstructions_are_shown_with_their_errors(done: Path, found: Any) -> None:
    model = load_model(done / "store/models/infovae")
    assert isinstance(model, ShowingModel)
    kind = arrow_type("float32", (GRID.points,), ("lam",))
    table, rows = spectra(), [5, 10, 40, 60]
    columns = {name: from_numpy(table[name][rows], kind) for name in ("flux", "ivar")}
    shown = model.shown(pa.table({"z": pa.array(table["z"][rows]), **columns}))
    assert [one.words for one in shown[1:3]] == ["No latents: NO_REDSHIFT.", "No latents: NO_FLUX."]
    assert shown[1].spectrum is None
    for place in (0, 3):
        one = shown[place].spectrum
        assert one is not None and one.error is not None and one.frame == "rest"
        chi2 = np.nanmean(((one.flux - one.model) / one.error) ** 2)
        assert chi2 == pytest.approx(found["reconstruction_chi2"][rows[place]], rel=1e-3)
    labels = [one.label for one in model.portrait().numbers]
    assert labels[:2] == ["chi-square per pixel", "the same by weighted PCA"] and len(labels) == 4
    assert {role.column for role in model.showing.roles} <= set(found)


def test_copies_at_other_redshifts_have_the_same_latents(found: Any) -> None:
    of = latents(found)
    spread = np.nanstd(of, axis=0)
    assert (of[:COPIES].std(axis=0) < 0.15 * spread).all()


def test_what_stands_in_masked_pixels_changes_no_latent(found: Any) -> None:
    one, other = TWINS
    np.testing.assert_array_equal(latents(found)[one], latents(found)[other])
    assert found["reconstruction_chi2"][one] == found["reconstruction_chi2"][other]


def test_the_card_says_what_was_made(done: Path) -> None:
    card = json.loads((done / "store/models/infovae/card.json").read_text())
    scores = card["metrics"]
    assert scores["reconstruction"]["chi2"] > 0 and scores["reconstruction"]["pca_chi2"] > 0
    assert 1 <= scores["reconstruction"]["directions"] <= 2
    assert 0 < scores["latents"]["normal_mmd"] < 0.3 and scores["latents"]["mmd"] < 1
    assert card["recipe"]["grid"]["points"] == 120
    assert set(card["training"]["without_latents"]) == {str(one.name).lower() for one in LatentFlag}


def test_the_decoder_alone_makes_spectra(done: Path) -> None:
    from galbatch.models import infovae_networks as networks

    decoder = load_decoder(done / "store/models/infovae")
    assert decoder.latents == 2
    assert decoder.wavelengths.shape == (120,)
    assert 3700 < decoder.wavelengths[0] < decoder.wavelengths[-1] < 6200
    given = np.random.default_rng(1).normal(size=(7, 2)).astype(np.float32)
    made = decoder(given)
    keras = networks.build(InfoVaeModel(**MODEL)).get_layer("decoder")
    keras.load_weights(done / "store/models/infovae/decoder.weights.h5")
    np.testing.assert_allclose(made, keras(given), atol=1e-4)
    assert (made[:, 5:-5].mean(axis=1) > 0.3).all()
    with pytest.raises(ValueError, match=r"expected shape \(n, 2\), got \(7, 3\)"):
        decoder(np.zeros((7, 3)))


def test_there_is_no_decoder_of_another_model(tmp_path: Path, done: Path) -> None:
    with pytest.raises(SpecError, match="no model here"):
        load_decoder(tmp_path)
    card = json.loads((done / "store/models/infovae/card.json").read_text())
    (tmp_path / "card.json").write_text(json.dumps(card | {"kind": "gasnet"}))
    with pytest.raises(SpecError, match="expected an infovae model of version 1, got gasnet 1"):
        load_decoder(tmp_path)


def test_the_discrepancy_is_what_a_loop_makes_of_it() -> None:
    from galbatch.models.infovae_networks import discrepancy

    rng = np.random.default_rng(2)
    one = rng.normal(size=(9, 3)).astype(np.float32)
    other = (rng.normal(size=(6, 3)) + 0.7).astype(np.float32)

    def kernel(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
        total = 0.0
        for row in left:
            for column in right:
                total += float(np.exp(-((row - column) ** 2).mean()))
        return total / (len(left) * len(right))

    wanted = kernel(one, one) + kernel(other, other) - 2 * kernel(one, other)
    assert float(discrepancy(one, other)) == pytest.approx(wanted, abs=1e-5)
    assert float(discrepancy(one, one)) == pytest.approx(0, abs=1e-6)
    first, second = rng.normal(size=(2, 1500, 3)).astype(np.float32)
    assert 0 < float(discrepancy(first, second)) < 0.003


def test_pixels_without_weight_change_no_loss() -> None:
    from galbatch.models.infovae_networks import weighted_squares

    rng = np.random.default_rng(3)
    spectra, given = rng.normal(size=(2, 5, 8)).astype(np.float32)
    weights = np.where(rng.random((5, 8)) < 0.5, 0.0, 3.0).astype(np.float32)
    junk = np.where(weights > 0, spectra, 1e9).astype(np.float32)
    loss = weighted_squares(8)
    found = np.asarray(loss(np.concatenate([junk, weights], axis=1), given))
    np.testing.assert_allclose(found, (weights * (spectra - given) ** 2).sum(axis=1) / 2, rtol=1e-5)


@pytest.mark.parametrize(
    ("model", "survey", "said"),
    [
        ({"pixels": 3000}, {}, "expected at most 2241 from 3700 to 6200 Angstrom"),
        ({"rest": [9000, 9500]}, {}, "expected a range that spectra of 3802 to 6917 Angstrom"),
        ({"redshift": "zz"}, {}, "has no column 'zz'"),
        ({"redshift": "flux"}, {}, "'flux' holds arrays"),
        ({}, {"labels": {}}, "no column with their redshifts is known"),
        (
            {"redshift": "z"},
            {"spectra": {"flux": "flux", "ivar": "ivar", "frame": "rest"}},
            "are at rest; leave it out",
        ),
        ({"mmd_weight": 0.5}, {}, "with alpha it must not be below 1"),
        ({"components": 50}, {}, "spectra with positive flux to train on, expected at least"),
    ],
)
def test_what_cannot_be(
    model: dict[str, Any], survey: dict[str, Any], said: str, tmp_path: Path
) -> None:
    write(tmp_path, MODEL | model, **survey)
    table = spectra()
    some = {name: values[:60] for name, values in table.items()}
    np.savez(tmp_path / "spectra.npz", **some)
    run = galbatch("run", "job.yaml", cwd=tmp_path)
    assert run.returncode == 2 and said in run.stderr, run.stderr


@pytest.mark.parametrize("wrong", ["negative", "no numbers"])
def test_some_spectrum_must_have_a_positive_flux(wrong: str, tmp_path: Path) -> None:
    write(tmp_path, MODEL)
    table = {name: values[:60] for name, values in spectra().items()}
    table["flux"] = -np.abs(table["flux"]) if wrong == "negative" else table["flux"] * np.nan
    np.savez(tmp_path / "spectra.npz", **table)
    run = galbatch("run", "job.yaml", cwd=tmp_path)
    assert run.returncode == 2, run.stderr
    assert "no spectrum with positive flux to train on" in run.stderr.splitlines()[-1]


def test_spectra_at_rest_need_no_redshift() -> None:
    from galbatch.models.infovae import InfoVaeFamily
    from galbatch.spec.load import load_survey

    settings, survey = InfoVaeModel(kind="infovae"), load_survey("sed_library")
    family = InfoVaeFamily()
    family.check(settings, survey)
    assert family.needed(settings, survey) == {}
    assert family.predicting_bytes(settings, survey) < 200
    assert family.batch_bytes(settings, survey) >= 2**27
    assert family.inputs(settings, survey) == ("flux", "ivar")
    observed = load_survey("sdss_spectra")
    assert family.needed(settings, observed) == {"Z": "redshift"}
    assert family.inputs(settings, observed) == ("flux", "ivar", "and_mask", "Z", "ZWARNING")
