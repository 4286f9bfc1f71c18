"""Networks that begin with what others have learnt."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pytest

from galbatch.errors import SpecError
from galbatch.flux.bands import BandReader, present
from galbatch.flux.features import features
from galbatch.models.base import Card, read_card
from galbatch.models.families import load_model
from galbatch.models.heads import ClassesHead, Head
from galbatch.sample.lineage import leaks, origin
from galbatch.spec.job import FilesSource, IdSplit, MockSource, PhotometricModel, SkySplit
from galbatch.spec.survey import Survey
from galbatch.training.fit import train
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
WEIGHTS = "network.weights.h5"
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
    reads = BandReader.of(small(), present(survey, table), OLD)
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
    before = read_pretrained(taught, small(), OLD)
    before = replace(before, card=replace(before.card, survey="mock"))
    moved = [
        band.model_copy(
            update={"wavelength": band.wavelength * {"r": 1.02, "i": 1.005}.get(band.name, 1)}
        )
        for band in survey.bands
    ]
    other = survey.model_copy(update={"bands": tuple(moved)})
    assert differences(before, other, OLD, small()) == (
        "band r: 6200 Angstrom in mock, 6324 in toy",
    )
    assert differences(before, survey, OLD, small()) == ()


def test_a_target_that_begins_with_random_weights_is_said(
    survey: Survey, sky: Sky, taught: Path, tmp_path: Path
) -> None:
    spec = small(bins=50, targets=("redshift", "log_mass"), bands=OLD, epochs=1)
    foretold = differences(read_pretrained(taught, spec, OLD), survey, OLD, spec)
    card = fit(spec, survey, sky(400, 25), tmp_path / "random", pretrained=taught)
    said = card.training["warnings"][:2]
    assert foretold[0] == "redshift begins with random weights: 40 cells asked for in toy, 50 here"
    start = "redshift begins with random weights: "
    assert re.match(rf"{start}4\d cells from .* in toy, 5\d cells from .* here", said[0])
    assert foretold[1] == said[1] == "log_mass begins with random weights: toy did not teach it"
    # How far labels reach is known when they are read.
    far = sky(400, 25)
    place = far.column_names.index("z_spec")
    far = far.set_column(place, "z_spec", pa.array(far["z_spec"].to_numpy() * 2))
    spec = small(bands=OLD, epochs=1)
    assert differences(read_pretrained(taught, spec, OLD), survey, OLD, spec) == ()
    card = fit(spec, survey, far, tmp_path / "far", pretrained=taught)
    assert re.match(
        rf"{start}4\d cells from 0\.\d\d to 1\.\d\d in toy, .* from 0\.\d\d to 2",
        card.training["warnings"][0],
    )


def test_words_left_out_are_those_of_the_network_it_begins_with(
    survey: Survey, sky: Sky, taught: Path, tmp_path: Path
) -> None:
    spec = PhotometricModel(kind="photometric", targets=("redshift",), bands=OLD, epochs=1)
    before = read_pretrained(taught, spec, OLD)
    assert differences(before, survey, OLD, spec) == ()
    card = fit(spec, survey, sky(400, 25), tmp_path, pretrained=taught)
    assert card.recipe["network"] == before.card.recipe["network"]
    assert card.recipe["heads"] == before.card.recipe["heads"]
    # The number that the old job asked for is the one it has, also a generation later.
    (head,) = read_pretrained(tmp_path, spec, OLD).heads
    assert head == head.expected(40, survey) == head.expected(None, survey)
    assert head != head.expected(42, survey)


def test_classes_that_begin_with_random_weights_are_said(survey: Survey, taught: Path) -> None:
    before = read_pretrained(taught, small(), OLD)
    three = replace(before, card=with_head(before.card, ClassesHead("star", 40)))
    found = differences(three, survey, OLD, small(targets=("star",)))
    assert found == (
        "star begins with random weights: galaxy, star, qso in toy; galaxy, star here",
    )
    two = replace(before, card=with_head(before.card, ClassesHead("star", 40, quasars=False)))
    assert differences(two, survey, OLD, small(targets=("star",))) == ()


def with_head(card: Card, head: Head) -> Card:
    heads = [*card.recipe["heads"], head.to_json()]
    return replace(card, recipe={**card.recipe, "heads": heads})


def spoilt_card(**recipe: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        card = json.loads((folder / "card.json").read_text())
        card["recipe"] = {**card["recipe"], **recipe} if recipe else {}
        (folder / "card.json").write_text(json.dumps(card))

    return spoil


def truncate(folder: Path) -> None:
    os.truncate(folder / WEIGHTS, 3000)


def change(folder: Path) -> None:
    with h5py.File(folder / WEIGHTS, "r+") as file:
        file["layers/stacked_dense/vars/0"][0, 0, 0] += 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / WEIGHTS).unlink(), "weights.h5: there is no such file"),
        (truncate, "weights.h5: cannot be read"),
        (change, "is not what was trained"),
        (spoilt_card(), "card.json: is no card of a photometric model: no 'network'"),
        (spoilt_card(features=None), "is no card of a photometric model"),
        (spoilt_card(novelty=None), "is not what was trained"),
        (
            spoilt_card(
                network={"inputs": 3, "members": 2, "width": 32, "layers": 2, "outputs": 40}
            ),
            "card.json: speaks of 3 inputs and 40 outputs",
        ),
        (spoilt_card(heads=[]), "and describes .* and 0"),
    ],
)
def test_a_damaged_model_is_refused_before_anything_runs(
    taught: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(taught, folder)
    assert read_pretrained(folder, small(), NEW).card == read_card(taught)
    spoil(folder)
    with pytest.raises(SpecError, match=message) as raised:
        read_pretrained(folder, small(), NEW)
    assert "train it again" in raised.value.hint


FILES = FilesSource(kind="files", paths=("/home/me/toy.csv.gz", "s3://sky/t/x.fits?sig=secret"))
MOCK = MockSource(kind="mock", rows=100, seed=3)


@pytest.mark.parametrize(
    ("then", "now", "leaking"),
    [
        (origin(FILES, SkySplit()), origin(FILES, SkySplit()), False),
        (origin(FILES, SkySplit(seed=1)), origin(FILES, SkySplit()), True),
        (origin(FILES, SkySplit(order=8)), origin(FILES, SkySplit()), True),
        (origin(FILES, IdSplit()), origin(FILES, SkySplit()), True),
        (origin(FILES, SkySplit(test=0.1)), origin(FILES, SkySplit()), True),
        # What is held out is the beginning of the same order: less of it was held out before too.
        (origin(FILES, SkySplit()), origin(FILES, SkySplit(test=0.1)), False),
        (origin(FILES, SkySplit()), origin(FILES, SkySplit(test=0.1, validation=0.3)), True),
        (origin(MOCK, SkySplit(seed=1)), origin(FILES, SkySplit()), False),
        (origin(MOCK, SkySplit(seed=1)), origin(MOCK, SkySplit()), True),
        (
            origin(MOCK.model_copy(update={"seed": 4}), SkySplit(seed=1)),
            origin(MOCK, SkySplit()),
            False,
        ),
        ({}, origin(FILES, SkySplit()), True),
        ({}, {}, False),
    ],
)
def test_rows_held_out_now_that_may_have_taught_before(
    then: dict[str, Any], now: dict[str, Any], leaking: bool
) -> None:
    found = leaks([{"survey": "toy", **then}], "toy", now)
    assert bool(found) == leaking
    assert all("rows held out here may have taught it" in said for said in found)
    assert leaks([{"survey": "other", **then}], "toy", now) == ()
    assert "secret" not in str((then, found)) and "/home" not in str((then, found))


def test_a_leak_is_in_the_card(survey: Survey, sky: Sky, taught: Path, tmp_path: Path) -> None:
    spec, sample = small(bands=OLD, epochs=1), origin(FILES, SkySplit())
    card = fit(spec, survey, sky(300, 26), tmp_path, pretrained=taught, origin=sample)
    said = differences(read_pretrained(taught, spec, OLD), survey, OLD, spec, sample)
    assert said == (card.training["warnings"][0],)
    assert "with a split that is not known: rows held out here" in said[0]
    assert card.training["lineage"][-1]["split"] == SkySplit().model_dump()
    assert card.training["lineage"][-1]["source"]["files"] == ["toy.csv.gz", "x.fits"]
