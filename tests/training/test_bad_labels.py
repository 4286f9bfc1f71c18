"""Labels that cannot be, and too few of them: an error or a word in the card, never silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from galbatch.models.heads import PointHead
from galbatch.sample.census import refusals, take_census
from galbatch.sample.split import TEST
from galbatch.spec.job import PhotometricModel
from galbatch.spec.labels import Label, Labels
from galbatch.spec.survey import Survey
from galbatch.training.capacity import fitting_size, parameters
from galbatch.training.fit import train

Sky = Callable[[int, int], pa.Table]
IMPOSSIBLE = (-1.0, -0.5, 9999.0, float("inf"), float("-inf"), float("nan"))


def spoilt(table: pa.Table, name: str, values: tuple[float, ...]) -> pa.Table:
    column = table[name].to_numpy().copy()
    column[: len(values)] = values
    return table.set_column(table.schema.get_field_index(name), name, pa.array(column))


def test_impossible_values_are_counted(survey: Survey) -> None:
    rows = len(IMPOSSIBLE)
    table = pa.table(
        {
            "z_spec": [*IMPOSSIBLE, 0.5, None, 9.0],
            "secure": [*[1] * rows, 1, 1, 0],
            "kind": [0.0] * (rows + 3),
            "mass": [-1.0, 0.0, 1e10, np.inf, np.nan, 1e5, 1e9, 1e9, None],
        }
    )
    assert refusals(survey, table) == {"redshift": 5, "log_mass": 4}
    role = np.zeros(rows + 3, np.int8)
    role[0] = TEST
    assert take_census(survey, table, role, 0).refused["redshift"] == 4


@pytest.mark.filterwarnings("ignore:::(tensorflow|keras|tf2onnx)")
def test_impossible_values_are_not_learnt(survey: Survey, sky: Sky, tmp_path: Path) -> None:
    table = sky(400, 31)
    galaxies = table.filter(pa.array(table["kind"].to_numpy() == 0))
    secure = galaxies.filter(pa.array(galaxies["secure"].to_numpy() == 1))
    bad = spoilt(secure, "z_spec", IMPOSSIBLE * 4)
    spec = PhotometricModel(
        kind="photometric", members=1, width=256, layers=2, epochs=1, targets=("redshift",)
    )
    role = np.arange(bad.num_rows) % 5 // 4
    card = train(spec, survey, bad, role, tmp_path, lambda *_: None)
    assert sum(card.rows["redshift"].values()) == bad.num_rows - 24
    assert card.training["refused"]["redshift"] == 20
    head = card.recipe["heads"][0]
    assert 0 < head["low"] < head["high"] < np.log(2.3)
    few, narrower = card.training["warnings"]
    assert "training rows for the" in few
    assert narrower.startswith("width") and card.recipe["network"]["width"] < 256


def test_a_network_is_no_larger_than_its_rows_can_teach() -> None:
    spec = PhotometricModel(kind="photometric")
    heads = (PointHead("log_mass", 0, 5),)
    enough = fitting_size(spec, 100, heads, 10_000)
    assert enough.numbers["width"] == 256 and len(enough.warnings) == 1
    many = fitting_size(spec, 100, heads, 10**6)
    assert many.numbers["width"] == 384 and many.warnings == ()
    few = fitting_size(spec, 100, heads, 150)
    assert few.numbers["width"] < 256 and len(few.warnings) == 2
    had = {"members": 3, "width": 300, "layers": 2}
    assert had.items() <= fitting_size(spec, 100, heads, 150, had).numbers.items()
    asked = {"members": 5, "width": 100, "layers": 1}
    own = spec.model_copy(update=asked)
    assert asked.items() <= fitting_size(own, 100, heads, 10**6).numbers.items()
    assert parameters(3, 4, 2, 5) == 4 * 4 + 5 * 4 + 5 * 5


@pytest.mark.parametrize(("low", "high"), [(2.0, 1.0), (1.0, 1.0)])
def test_a_range_without_values_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValidationError, match="must be below high"):
        Label(column="z", low=low, high=high)


def test_a_redshift_has_a_logarithm() -> None:
    with pytest.raises(ValidationError, match="low must be above -1"):
        Labels(redshift=Label(column="z", low=-9, high=9))
