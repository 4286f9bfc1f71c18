"""What every model keeps, whatever its family: a sky in fluxes, in array-valued columns."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galbatch.columns import arrow_type, to_numpy
from galbatch.errors import SpecError
from galbatch.models.base import Model
from galbatch.models.families import load_model
from galbatch.models.flags import Quality
from galbatch.spec.job import PhotometricModel, ThesisModel
from galbatch.spec.survey import Survey
from galbatch.training.fit import train
from galbatch.values import is_array

# TensorFlow and tf2onnx warn about their own use of NumPy and of Python.
pytestmark = pytest.mark.filterwarnings("ignore:::(tensorflow|keras|tf2onnx)")

BANDS = 5
SURVEY = Survey.model_validate(
    {
        "name": "arrays",
        "title": "Fluxes in arrays",
        "id": {"column": "id"},
        "photometry": {
            "quantity": "flux",
            "unit": "nJy",
            "vectors": {"value": "flux", "error": "error", "mask": "mask"},
        },
        "bands": [
            {"name": f"b{i}", "wavelength": 4000 + 1200 * i, "width": 1000} for i in range(BANDS)
        ],
        "reference_band": "b2",
        "labels": {
            "redshift": {"column": "z", "low": 0.01, "high": 5},
            "star": {"column": "star", "galaxy": [0], "star": [1]},
        },
        "columns": [
            {"name": "id"},
            {"name": "z"},
            {"name": "star"},
            *({"name": name, "shape": [BANDS]} for name in ("flux", "error", "mask")),
        ],
    }
)
SPECS: dict[str, PhotometricModel | ThesisModel] = {
    "photometric": PhotometricModel(
        kind="photometric", members=2, width=16, layers=1, bins=40, epochs=2
    ),
    "thesis": ThesisModel(kind="thesis", epochs=1, layout="slides"),
}


def column(matrix: np.ndarray) -> pa.Array:
    flat = pa.array(matrix.astype(np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])


def content(table: pa.Table) -> dict[str, bytes]:
    """The bytes of every column."""
    arrays = {name: table[name].combine_chunks() for name in table.column_names}
    return {
        name: (array.flatten() if pa.types.is_fixed_size_list(array.type) else array)
        .to_numpy()
        .tobytes()
        for name, array in arrays.items()
    }


@pytest.fixture(scope="module")
def sky() -> pa.Table:
    rng = np.random.default_rng(4)
    n = 1500
    star = rng.random(n) < 0.3
    z = np.where(star, 0, rng.uniform(0.1, 1.5, n))
    slope = np.where(star, -1.0, 1.0 + z)[:, None]
    flux = 5000 * rng.lognormal(0, 0.5, (n, 1)) * np.linspace(0.5, 2, BANDS) ** slope
    error = np.full_like(flux, 100.0)
    flux += error * rng.normal(size=flux.shape)
    # Row 0 has nothing, row 1 only masked bands, row 2 one band, row 3 only negative fluxes.
    flux[0], error[0] = np.nan, np.nan
    mask = np.zeros_like(flux)
    mask[1] = 4
    flux[2, 1:] = np.nan
    flux[3] = -50
    return pa.table(
        {
            "id": np.arange(n), "z": z, "star": star.astype(float),
            "flux": column(flux), "error": column(error), "mask": column(mask),
        }
    )  # fmt: skip


@pytest.fixture(scope="module", params=list(SPECS))
def folder(
    request: pytest.FixtureRequest, sky: pa.Table, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    place = tmp_path_factory.mktemp(request.param)
    role = np.arange(sky.num_rows) % 10 // 8
    told: list[tuple[int, int]] = []
    train(SPECS[request.param], SURVEY, sky, role, place, lambda done, n, _: told.append((done, n)))
    assert told and all(0 < done <= total for done, total in told)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    return place


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load_model(folder)


def test_rows_stay_in_their_order(model: Model, sky: pa.Table) -> None:
    found = model.predict(sky)
    assert found.num_rows == sky.num_rows
    order = np.random.default_rng(0).permutation(sky.num_rows)
    for part, rows in ((sky.take(order), order), (sky.slice(7, 1), [7]), (sky.slice(0, 0), [])):
        again, wanted = model.predict(part), found.take(pa.array(rows, pa.int64()))
        assert again.schema == wanted.schema
        assert content(again) == content(wanted)


@pytest.mark.parametrize("size", [1000, 37, 1])
def test_bytes_do_not_depend_on_how_many_rows_come_at_a_time(
    model: Model, sky: pa.Table, size: int
) -> None:
    whole = sky if size > 1 else sky.slice(0, 20)
    parts = [model.predict(whole.slice(i, size)) for i in range(0, whole.num_rows, size)]
    assert content(pa.concat_tables(parts)) == content(model.predict(whole))


def test_columns_are_what_they_are_said_to_be(model: Model, sky: pa.Table) -> None:
    found = model.predict(sky)
    assert found.column_names == [column.name for column in model.columns]
    for said in model.columns:
        kind = found.schema.field(said.name).type
        assert kind == arrow_type(said.dtype, said.shape, said.dimensions)
        assert is_array(said.shape) or 4 * math.prod(said.shape) <= 64
        assert said.description and "\n" not in said.description and said.ucd
        assert found[said.name].null_count == 0


def test_needs_no_more_than_its_inputs(model: Model, sky: pa.Table) -> None:
    some, all_ = (model.predict(table) for table in (sky.select(model.card.inputs), sky))
    assert str(some.to_pydict()) == str(all_.to_pydict())


def test_rows_without_photometry_say_so(model: Model, sky: pa.Table) -> None:
    found = model.predict(sky).slice(0, 4).to_pydict()
    quality = np.array(found.pop("quality"))
    np.testing.assert_array_equal(quality & Quality.NO_PHOTOMETRY, [1, 1, 0, 0])
    for name, values in found.items():
        finite = np.isfinite(np.array(values, float).reshape(4, -1)).all(axis=1)
        np.testing.assert_array_equal(finite, [False, False, True, True], err_msg=name)


def test_the_card_tells_where_it_comes_from(model: Model, folder: Path) -> None:
    card = model.card
    assert card.survey == "arrays" and set(card.targets) == {"redshift", "star"}
    assert len(card.fingerprint) == len(card.data) == 64
    assert set(card.inputs) >= {"flux", "error", "mask"}
    assert not {"z", "star"} & set(card.inputs)
    for target in card.targets:
        assert card.rows[target]["training"] > card.rows[target]["validation"] > 0
        assert card.metrics[target]["rows"] > 0
    text = (folder / "card.json").read_text()
    assert json.loads(text) == card.to_json() and str(folder) not in text


def test_no_network_no_model(folder: Path, sky: pa.Table, tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text((folder / "card.json").read_text())
    with pytest.raises(SpecError, match=r"\.onnx: cannot be loaded"):
        load_model(tmp_path).predict(sky)


_WITHOUT_TENSORFLOW = """
import sys
from pathlib import Path
import pyarrow.parquet as pq
from galbatch.models.families import load_model
import galbatch.sample.labels, galbatch.sample.split
found = load_model(Path(sys.argv[1])).predict(pq.read_table(sys.argv[2]))
assert found.num_rows
loaded = {name.partition(".")[0] for name in sys.modules}
print(sorted(loaded & {"tensorflow", "keras", "dask", "tf2onnx", "cupy"}))
"""


def test_predicts_without_tensorflow(folder: Path, sky: pa.Table, tmp_path: Path) -> None:
    pq.write_table(sky.slice(0, 100), tmp_path / "sky.parquet")
    words: list[Any] = [sys.executable, "-c", _WITHOUT_TENSORFLOW, folder, tmp_path / "sky.parquet"]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("points", [101, 1001])
def test_whole_densities_belong_to_the_predictions(
    model: Model, folder: Path, sky: pa.Table, points: int
) -> None:
    if "z_quantiles" not in {column.name for column in model.columns}:
        with pytest.raises(SpecError, match="no setting 'redshift_grid'"):
            load_model(folder, redshift_grid={"low": 0, "high": 5, "points": points})
        return
    grid = np.linspace(0, 5, points)
    whole = load_model(folder, redshift_grid={"low": 0, "high": 5, "points": points})
    found = whole.predict(sky)
    plain = found.drop_columns(["pz"])
    assert content(plain) == content(model.predict(sky)) and plain.schema == (
        model.predict(sky).schema
    )
    (column,) = (one for one in whole.columns if one.name == "pz")
    assert found.schema.field("pz").type == arrow_type("float32", (points,), ("z",))
    assert column.shape == (points,) and column.coordinates[0].values == tuple(grid.tolist())
    densities = to_numpy(found["pz"])
    blind = (found["quality"].to_numpy() & Quality.NO_PHOTOMETRY) != 0
    np.testing.assert_array_equal(np.isnan(densities).all(axis=1), blind)
    assert densities.shape == (sky.num_rows, points) and not np.isnan(densities[~blind]).any()
    step = grid[1] - grid[0]
    reached = np.cumsum(densities[~blind].astype(float), axis=1) * step
    for name, level in (("z_err68_low", 0.16), ("z_median", 0.5), ("z_err95_high", 0.975)):
        at = np.searchsorted(grid, found[name].to_numpy()[~blind]).clip(0, points - 1)
        off = 0.03 if points > 1000 else 0.15
        np.testing.assert_allclose(reached[np.arange(len(at)), at], level, atol=off, err_msg=name)
    for part in (sky.slice(0, 0), sky.slice(7, 1)):
        again = whole.predict(part)
        assert again.schema == found.schema and again.num_rows == part.num_rows
    assert np.array_equal(to_numpy(again["pz"]), densities[7:8])
