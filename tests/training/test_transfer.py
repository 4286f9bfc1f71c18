"""Networks that begin with what others have learnt."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from galbatch.errors import SpecError
from galbatch.flux.features import features
from galbatch.models.base import read_card
from galbatch.models.photometric import Reading
from galbatch.models.zoo import load_model
from galbatch.spec.job import PhotometricModel
from galbatch.spec.survey import Survey
from galbatch.training.fit import train
from galbatch.training.rows import present
from galbatch.training.transfer import (
    carried_recipe,
    carried_weights,
    differences,
    read_pretrained,
)
from galbatch.values import FluxBlock

# TensorFlow and tf2onnx warn about their own use of NumPy and of Python.
pytestmark = pytest.mark.filterwarnings("ignore:::(tensorflow|keras|tf2onnx)")

Sky = Callable[[int, int], pa.Table]
OLD, NEW = ("u", "g", "r", "i", "z"), ("g", "r", "i", "z", "y")


def small(**words: Any) -> PhotometricModel:
    return PhotometricModel(
        **{
            "kind": "photometric", "members": 2, "width": 32, "layers": 2, "bins": 40,
            "epochs": 12, "batch": 64, "learning_rate": 0.005, "targets": ("redshift",),
        } | words
    )  # fmt: skip


def fit(spec: PhotometricModel, survey: Survey, table: pa.Table, folder: Path, **more: Any) -> Any:
    role = np.arange(table.num_rows) % 10 // 8
    return train(spec, survey, table, role, folder, lambda *_: None, **more)


@pytest.fixture(scope="module")
def taught(survey: Survey, sky: Sky, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taught")
    fit(small(bands=OLD), survey, sky(6000, 21), folder)
    return folder


def error(folder: Path, fresh: pa.Table) -> float:
    found = load_model(folder).predict(fresh)
    galaxy = fresh["kind"].to_numpy() == 0
    z, true = found["z_median"].to_numpy()[galaxy], fresh["z_spec"].to_numpy()[galaxy]
    return float(np.nanmedian(np.abs(z - true) / (1 + true)))


def test_few_rows_go_further_from_a_trained_network(
    survey: Survey, sky: Sky, taught: Path, tmp_path: Path
) -> None:
    few, fresh = sky(300, 22), sky(3000, 23)
    alone = fit(small(bands=NEW), survey, few, tmp_path / "alone")
    card = fit(
        small(bands=NEW, pretrained="elsewhere"), survey, few, tmp_path / "on", pretrained=taught
    )
    errors = {name: error(tmp_path / name, fresh) for name in ("alone", "on")}
    assert errors["on"] < 0.75 * errors["alone"], errors
    again = fit(
        small(bands=NEW, pretrained="elsewhere"), survey, few, tmp_path / "again", pretrained=taught
    )
    assert again == card
    before, now = card.training["lineage"]
    old = read_card(taught)
    assert before["fingerprint"] == old.fingerprint and before["rows"] == old.rows
    assert now == {"survey": "toy", "data": card.data, "rows": card.rows}
    assert "bands that toy has not: y" in card.training["warnings"][0]
    assert "has not: u; read as not observed" in card.training["warnings"][1]
    assert any("training rows for the" in said for said in card.training["warnings"])
    assert [one["survey"] for one in alone.training["lineage"]] == ["toy"]
    assert str(taught) not in (tmp_path / "on" / "card.json").read_text()


def test_it_begins_with_the_same_answers(
    survey: Survey, sky: Sky, taught: Path, tmp_path: Path
) -> None:
    """Before it is taught anything: a band that is gone is read as not observed."""
    from galbatch.models.network import Architecture, build

    old = read_pretrained(taught, small(), NEW)
    table = sky(400, 24)
    reads = Reading.of(small(), present(survey, table), OLD)
    block, shapes = reads.block(table), reads.shapes(table)
    keep = block.observed.copy()
    keep[:, 0] = False
    blind = FluxBlock(
        block.flux * keep, block.error * keep, keep, block.detected & keep, block.saturated
    )
    network = build(Architecture(**old.card.recipe["network"]), old.heads)
    network.set_weights(old.weights())
    wanted = np.asarray(network(features(old.recipe, blind, shapes)))

    less = fit(small(bands=OLD[1:], epochs=1), survey, table, tmp_path)
    new = carried_recipe(read_pretrained(tmp_path, small(), NEW).recipe, old.recipe)
    shape = Architecture(**{**less.recipe["network"], "inputs": len(new.kept)})
    other = build(shape, old.heads)
    fresh = [np.asarray(array) for array in other.get_weights()]
    columns = (new.columns, old.recipe.columns)
    other.set_weights(carried_weights(fresh, old.weights(), columns, (old.heads, old.heads)))
    four = FluxBlock(*(array[:, 1:] for array in list(vars(block).values())[:4]), block.saturated)
    found = np.asarray(other(features(new, four, shapes)))
    np.testing.assert_allclose(found, wanted, atol=2e-4)


def test_what_it_cannot_begin_with(survey: Survey, sky: Sky, taught: Path, tmp_path: Path) -> None:
    for spec, bands, message in (
        (small(width=48), NEW, r"models.photometric.width: is 48, that of .* is 32"),
        (small(), ("K",), "was trained on toy and knows none of the bands K"),
    ):
        with pytest.raises(SpecError, match=message):
            read_pretrained(taught, spec, bands)
    with pytest.raises(SpecError, match="no model here"):
        read_pretrained(tmp_path, small(), NEW)
    words = json.loads((taught / "card.json").read_text()) | {"kind": "thesis"}
    (tmp_path / "card.json").write_text(json.dumps(words))
    with pytest.raises(SpecError, match="of a thesis model, expected"):
        read_pretrained(tmp_path, small(), NEW)


def test_a_filter_that_moved_is_said(survey: Survey, taught: Path) -> None:
    card = replace(read_card(taught), survey="mock")
    moved = [
        band.model_copy(
            update={"wavelength": band.wavelength * {"r": 1.02, "i": 1.005}.get(band.name, 1)}
        )
        for band in survey.bands
    ]
    other = survey.model_copy(update={"bands": tuple(moved)})
    assert differences(card, other, OLD) == ("band r: 6200 Angstrom in mock, 6324 in toy",)
    assert differences(card, survey, OLD) == ()
