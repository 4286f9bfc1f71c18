from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from galbatch.errors import SpecError
from galbatch.models.base import Card, read_card
from galbatch.models.families import load_model
from galbatch.models.flags import Quality

CARD = Card(
    name="m",
    kind="photometric",
    version=1,
    survey="s",
    bands=("g", "r"),
    inputs=("a",),
    targets=("redshift",),
    skipped={},
    data="0",
    rows={"redshift": {"training": 3, "validation": 1}},
    recipe={"x": [1.5]},
    calibration={},
    metrics={},
    spec={},
    reading={},
)


def test_round_trip(tmp_path: Path) -> None:
    CARD.save(tmp_path)
    assert read_card(tmp_path) == CARD
    assert Card.from_json(json.loads(json.dumps(CARD.to_json()))) == CARD


def test_the_fingerprint_is_of_weights_and_words() -> None:
    weights = [np.arange(4.0)]
    sealed = CARD.sealed(weights)
    assert (
        sealed.fingerprint == CARD.sealed(weights).fingerprint == sealed.sealed(weights).fingerprint
    )
    assert CARD.sealed([np.arange(4.0) + 1e-9]).fingerprint != sealed.fingerprint
    assert replace(CARD, data="1").sealed(weights).fingerprint != sealed.fingerprint


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"name": "x"}'])
def test_what_is_no_card(tmp_path: Path, text: str) -> None:
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(SpecError, match="not a model's card"):
        read_card(tmp_path)


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no model here"):
        load_model(tmp_path)
    replace(CARD, kind="crystal_ball").save(tmp_path)
    with pytest.raises(SpecError, match="unknown kind"):
        load_model(tmp_path)
    replace(CARD, version=0).save(tmp_path)
    with pytest.raises(SpecError, match="version 0"):
        load_model(tmp_path)


def test_bits_do_not_move() -> None:
    # Stored catalogues hold these numbers.
    assert {flag.name: flag.value for flag in Quality} == {
        "NO_PHOTOMETRY": 1,
        "FEW_BANDS": 2,
        "SATURATED": 4,
        "UNDETECTED": 8,
        "OUTSIDE_TRAINING": 16,
        "ENSEMBLE_DISAGREES": 32,
        "PROBABLY_STAR": 64,
        "PROBABLY_QSO": 128,
    }
