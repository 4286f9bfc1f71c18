"""Fits of very small networks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galbatch.errors import SpecError
from galbatch.models.base import Card
from galbatch.models.families import load_model
from galbatch.models.flags import Quality
from galbatch.sample.split import TEST, TRAIN, roles
from galbatch.spec.job import IdSplit, PhotometricModel, ThesisModel
from galbatch.spec.survey import Survey
from galbatch.training.fit import train
from galbatch.values import CLASSES, TARGETS, Target

# TensorFlow and tf2onnx warn about their own use of NumPy and of Python.
pytestmark = pytest.mark.filterwarnings("ignore:::(tensorflow|keras|tf2onnx)")

Sky = Callable[[int, int], pa.Table]
SMALL: dict[str, Any] = {
    "kind": "photometric", "members": 2, "width": 16, "layers": 2, "bins": 40,
    "epochs": 3, "batch": 64, "learning_rate": 0.005, "dropout": 0.0,
}  # fmt: skip


def small(**words: Any) -> PhotometricModel:
    return PhotometricModel(**(SMALL | words))


def split(table: pa.Table) -> np.ndarray:
    return roles(IdSplit(), None, table["id"].to_numpy())


def fit(
    spec: PhotometricModel | ThesisModel, survey: Survey, table: pa.Table, folder: Path
) -> Card:
    return train(spec, survey, table, split(table), folder, lambda done, total, text: None)


def weights(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("*.onnx")}


@pytest.fixture(scope="module")
def table(sky: Sky) -> pa.Table:
    return sky(2500, 1)


@pytest.fixture(scope="module")
def first(survey: Survey, table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    fit(small(), survey, table, folder)
    return folder


def test_words_left_out_follow_the_rows_and_the_bands(
    survey: Survey, table: pa.Table, tmp_path: Path
) -> None:
    spec = PhotometricModel(kind="photometric", targets=("redshift",), weight_decay=0.2)
    told: list[int] = []

    class Told(Exception):
        """Ends the fit: what it came to is known."""

    def progress(_done: int, total: int, _text: str) -> None:
        told.append(total)
        if len(told) == 2:
            raise Told

    narrow = survey.model_copy(
        update={"bands": tuple(band.model_copy(update={"width": 30.0}) for band in survey.bands)}
    )
    with pytest.raises(Told):
        train(spec, narrow, table, split(table), tmp_path / "long", progress)
    assert told == [40, 40]
    spec = spec.model_copy(update={"epochs": 1})
    # A step has no more rows than there are, and the learning rate of those.
    large = fit(spec.model_copy(update={"batch": 10**6}), survey, table, tmp_path / "large")
    rows = large.rows["redshift"]["training"]
    assert large.training["fit"]["batch"] == rows
    assert large.training["fit"]["learning_rate"] == pytest.approx(2e-3 * np.sqrt(rows / 256))
    for one, cells in ((survey, 300), (narrow, 900)):
        card = fit(spec, one, table, tmp_path / str(cells))
        (head,) = card.recipe["heads"]
        assert head["asked"] == cells <= head["bins"]
        network = card.recipe["network"]
        assert (network["members"], network["layers"]) == (2, 4)
        assert card.training["fit"] == {
            "epochs": 1, "batch": 256, "dropout": 0.1, "learning_rate": 2e-3, "weight_decay": 0.2,
        }  # fmt: skip


def test_two_fits_are_one(survey: Survey, table: pa.Table, first: Path, tmp_path: Path) -> None:
    card = fit(small(), survey, table, tmp_path)
    assert card == load_model(first).card
    assert weights(tmp_path) == weights(first) and weights(first)
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"card.json", "history.json", "network.onnx", "network.weights.h5"}


def test_rows_held_out_are_not_touched(
    survey: Survey, table: pa.Table, first: Path, tmp_path: Path
) -> None:
    poisoned = table
    held_out = split(table) == TEST
    assert held_out.any()
    for name in table.column_names:
        if name != "id":
            bad = np.where(held_out, np.nan, table[name].to_numpy())
            poisoned = poisoned.set_column(table.schema.get_field_index(name), name, pa.array(bad))
    card = fit(small(), survey, poisoned, tmp_path)
    assert card.fingerprint == load_model(first).card.fingerprint
    assert weights(tmp_path) == weights(first)


@pytest.mark.parametrize(
    ("seconds_between", "epochs"),
    [(0.0, [1, 2, 3, 3]), (1e6, [1, 2, 3, 2, 3])],
    ids=["each", "rarely"],
)
def test_a_killed_fit_goes_on(
    survey: Survey,
    table: pa.Table,
    first: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds_between: float,
    epochs: list[int],
) -> None:
    from galbatch.training import checkpoint

    # The first epoch is always kept; how often the others are is a matter of time.
    monkeypatch.setattr(checkpoint, "_SECONDS_BETWEEN", seconds_between)

    class Killed(Exception):
        pass

    seen: list[int] = []

    def progress(done: int, total: int, text: str) -> None:
        seen.append(done)
        if seen == [1, 2, 3]:  # before the third is kept
            raise Killed

    def at_once(done: int, total: int, text: str) -> None:
        raise Killed

    arguments = (small(), survey, table, split(table), tmp_path)
    # The state of a fit with other words is not taken up.
    with pytest.raises(Killed):
        train(small(seed=5), *arguments[1:], at_once)
    with pytest.raises(Killed):
        train(*arguments, progress)
    assert (tmp_path / "work").is_dir()
    card = train(*arguments, progress)
    assert seen == epochs
    assert card == load_model(first).card and weights(tmp_path) == weights(first)
    assert (tmp_path / "history.json").read_bytes() == (first / "history.json").read_bytes()


def test_it_learns(survey: Survey, sky: Sky, tmp_path: Path) -> None:
    card = fit(small(width=48, epochs=12, noise=0.3, dropout=0.02), survey, sky(6000, 2), tmp_path)
    assert card.targets == TARGETS
    scores = card.metrics
    assert scores["redshift"]["sigma_nmad"] < 0.04
    assert scores["star"]["auc"] > 0.98
    assert scores["log_mass"]["sigma_nmad"] < 0.3
    assert scores["abs_mag_b"]["sigma_nmad"] < 0.3
    assert scores["spectral_type"]["rms"] < 1.2
    for target in ("redshift", "log_mass", "abs_mag_b"):
        assert 0.55 < scores[target]["coverage68"] < 0.82
    model = load_model(tmp_path)
    fresh = sky(1000, 3)
    found = model.predict(fresh)
    assert found.column_names == [column.name for column in model.columns]
    galaxy = (fresh["kind"].to_numpy() == 0) & (found["quality"].to_numpy() & 3 == 0)
    z, true = found["z_mode"].to_numpy()[galaxy], fresh["z_spec"].to_numpy()[galaxy]
    assert np.median(np.abs(z - true) / (1 + true)) < 0.03
    inside = (true > found["z_err68_low"].to_numpy()[galaxy]) & (
        true < found["z_err68_high"].to_numpy()[galaxy]
    )
    assert 0.58 < inside.mean() < 0.78


def test_only_what_there_are_labels_for(survey: Survey, table: pa.Table, tmp_path: Path) -> None:
    kind = np.where(table["kind"].to_numpy() == 1, 0.5, table["kind"].to_numpy())
    some = table.drop_columns(["mass", "size", "flag", "kind"]).append_column(
        "kind", pa.array(kind)
    )
    card = fit(small(bands=("g", "r", "z")), survey, some, tmp_path)
    assert card.targets == ("redshift", "spectral_type", "abs_mag_b")
    assert set(card.skipped) == {"star", "log_mass"} and "0 stars" in card.skipped["star"]
    assert card.inputs == ("mag_g", "err_g", "mag_r", "err_r", "mag_z", "err_z")
    assert load_model(tmp_path).predict(some.select(card.inputs)).num_rows == some.num_rows


def with_quasars(survey: Survey, table: pa.Table, share: float) -> tuple[Survey, pa.Table]:
    """Some galaxies become blue, far and point-like."""
    assert survey.labels.star is not None
    star = survey.labels.star.model_copy(update={"qso": (2.0,), "qso_redshifts": True})
    survey = survey.model_copy(update={"labels": survey.labels.model_copy(update={"star": star})})
    rng = np.random.default_rng(8)
    qso = (rng.random(len(table)) < share) & (table["kind"].to_numpy() == 0)
    columns = {name: table[name].to_numpy().copy() for name in table.column_names}
    columns["kind"][qso] = 2
    columns["z_spec"][qso] = rng.uniform(1.5, 3.0, qso.sum())
    columns["size"][qso] = 1.0
    for slope, band in enumerate("ugrizy"):
        name = f"mag_{band}"
        columns[name][qso] = np.where(columns[name][qso] > 0, 20.0 - 0.1 * slope, -99.0)
        columns[f"err_{band}"][qso] = np.where(columns[name][qso] > 0, 0.1, 0.0)
    return survey, pa.table(columns)


def test_three_classes(survey: Survey, sky: Sky, tmp_path: Path) -> None:
    told, rows = with_quasars(survey, sky(5000, 2), 0.15)
    card = fit(small(width=32, epochs=8), told, rows, tmp_path)
    assert "qso" not in card.skipped
    assert len(card.calibration["star"]["intercepts"]) == 3
    assert card.metrics["star"]["auc"] > 0.95 and card.metrics["star"]["qso_auc"] > 0.95
    model = load_model(tmp_path)
    assert [column.name for column in model.columns if column.name.startswith("prob_")] == [
        "prob_star", "prob_qso", "prob_galaxy",
    ]  # fmt: skip
    _, fresh = with_quasars(survey, sky(1500, 3), 0.15)
    found = model.predict(fresh)
    given = np.stack([found[f"prob_{name}"].to_numpy() for name in CLASSES], axis=1)
    seen = np.isfinite(given).all(axis=1)
    np.testing.assert_allclose(given[seen].sum(axis=1), 1, atol=1e-6)
    kind = fresh["kind"].to_numpy()
    known = seen & (kind != 0.5)
    assert np.mean(given[known].argmax(axis=1) == kind[known]) > 0.9
    flagged = (found["quality"].to_numpy() & Quality.PROBABLY_QSO) != 0
    np.testing.assert_array_equal(flagged, given[:, 2] > 0.5)
    # One row at a time, and many: the same bytes.
    some = pa.concat_tables([model.predict(fresh.slice(row, 1)) for row in range(5)])
    assert some.combine_chunks().equals(model.predict(fresh.slice(0, 5)).combine_chunks())


def test_quasars_that_are_too_few_are_said_to_be(
    survey: Survey, table: pa.Table, tmp_path: Path
) -> None:
    told, rows = with_quasars(survey, table, 0.02)
    card = fit(small(epochs=1), told, rows, tmp_path / "few")
    assert re.search(r"at least 50 training rows that are quasars, found \d+", card.skipped["qso"])
    assert "star" in card.targets
    names = [column.name for column in load_model(tmp_path / "few").columns]
    assert "prob_star" in names and "prob_qso" not in names
    # The thesis' networks know two classes, and say nothing of the third.
    spec = ThesisModel(kind="thesis", epochs=1, targets=("star",))
    card = fit(spec, *with_quasars(survey, table, 0.3), tmp_path / "thesis")
    assert card.rows["star"]["training"] < np.sum(table["kind"].to_numpy() != 0.5)


def test_a_target_that_cannot_be_validated(survey: Survey, table: pa.Table, tmp_path: Path) -> None:
    known = split(table) == TRAIN
    for name in ("kind", "mass"):
        values = np.where(known, table[name].to_numpy(), np.nan)
        table = table.drop_columns([name]).append_column(name, pa.array(values))
    card = fit(small(epochs=1), survey, table, tmp_path)
    assert not {"star", "log_mass"} & set(card.targets)
    for target in ("star", "log_mass"):
        assert "no validation row has its label" in card.skipped[target]
    assert "prob_star" not in load_model(tmp_path).predict(table).column_names
    with pytest.raises(SpecError, match="'star' cannot be trained: no validation row"):
        fit(small(epochs=1, targets=("redshift", "star")), survey, table, tmp_path / "asked")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"bands": ("g", "R")}, "'R' is not a band of toy.*did you mean 'r'"),
        ({"targets": ("spectral_type",)}, "'spectral_type' cannot be trained.*found 0"),
        ({"targets": ("star",)}, "'star' cannot be trained.*each class"),
    ],
)
def test_what_cannot_be_trained(
    survey: Survey, table: pa.Table, tmp_path: Path, words: dict[str, Any], message: str
) -> None:
    bare = table.drop_columns(["type", "kind"])
    bare = bare.append_column("kind", pa.array(np.zeros(len(bare))))
    with pytest.raises(SpecError, match=message):
        fit(small(**words), survey, bare, tmp_path)


def test_too_few_rows(survey: Survey, table: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"nothing can be trained.*at least 100"):
        fit(small(), survey, table.slice(0, 80), tmp_path)
    everything = np.full(len(table), TRAIN)
    with pytest.raises(SpecError, match="no labelled validation rows"):
        train(small(), survey, table, everything, tmp_path, lambda *_: None)


@pytest.mark.parametrize("layout", ["text", "slides"])
def test_thesis(survey: Survey, table: pa.Table, tmp_path: Path, layout: str) -> None:
    targets: tuple[Target, ...] = (
        ("redshift", "star") if layout == "text" else ("spectral_type", "log_mass")
    )
    spec = ThesisModel(kind="thesis", layout=layout, epochs=2, targets=targets)  # type: ignore[arg-type]
    card = fit(spec, survey, table, tmp_path / "one")
    assert card.targets == tuple(target for target in TARGETS if target in targets)
    if layout == "slides":
        assert card == fit(spec, survey, table, tmp_path / "two")
        assert weights(tmp_path / "one") == weights(tmp_path / "two")
    assert set(weights(tmp_path / "one")) == {f"{target}.onnx" for target in targets}
    found = load_model(tmp_path / "one").predict(table)
    seen = found["quality"].to_numpy() & Quality.NO_PHOTOMETRY == 0
    for column in found.column_names:
        assert np.isfinite(found[column].to_numpy()[seen]).all()


_TWO_REPLICAS = """
import sys, json, logging
from pathlib import Path
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
pair = [tf.config.LogicalDeviceConfiguration()] * int(sys.argv[1])
tf.config.set_logical_device_configuration(cpu, pair)
import pyarrow.parquet as pq
from galbatch.spec.job import IdSplit, PhotometricModel
from galbatch.spec.survey import Survey
from galbatch.training.fit import train
from galbatch.sample.split import roles
survey = Survey.model_validate_json(Path("survey.json").read_text())
table = pq.read_table("sky.parquet")
spec = PhotometricModel.model_validate_json(Path("spec.json").read_text())
role = roles(IdSplit(), None, table["id"].to_numpy())
train(spec, survey, table, role, Path("model"), lambda *_: None)
assert len(tf.config.list_logical_devices("CPU")) == int(sys.argv[1])
"""


def test_two_replicas_learn_what_one_does(
    survey: Survey, table: pa.Table, first: Path, tmp_path: Path
) -> None:
    (tmp_path / "survey.json").write_text(survey.model_dump_json())
    (tmp_path / "spec.json").write_text(small().model_dump_json())
    pq.write_table(table, tmp_path / "sky.parquet")
    subprocess.run([sys.executable, "-c", _TWO_REPLICAS, "2"], cwd=tmp_path, check=True)
    one, two = load_model(first).predict(table), load_model(tmp_path / "model").predict(table)
    loss = [
        json.loads((folder / "history.json").read_text())["network"]["loss"]
        for folder in (first, tmp_path / "model")
    ]
    np.testing.assert_allclose(loss[1], loss[0], rtol=1e-4)
    # Between two peaks of a PDF hardly any probability lies, and a median goes far for very little.
    off = np.abs(two["z_median"].to_numpy() - one["z_median"].to_numpy())
    assert (off < 2e-3).mean() > 0.999 and off.max() < 0.05
    np.testing.assert_allclose(two["prob_star"], one["prob_star"], atol=2e-3)
