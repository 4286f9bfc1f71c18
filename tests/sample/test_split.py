from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from galbatch.errors import SpecError
from galbatch.sample.split import TEST, TRAIN, VALIDATION, roles
from galbatch.spec.job import IdSplit, SkySplit

CELLS = np.random.default_rng(0).integers(0, 12 * 4**29, 20_000)


@given(st.integers(0, 20), st.integers(0, 2**32 - 1))
def test_cells_are_whole(order: int, seed: int) -> None:
    rng = np.random.default_rng(1)
    cell = rng.integers(0, 12 * 4**order, 50)
    inside = (cell[:, None] << 2 * (29 - order)) + rng.integers(0, 4 ** (29 - order), (50, 20))
    found = roles(SkySplit(order=order, seed=seed), inside.ravel(), np.arange(1000)).reshape(50, 20)
    assert (found == found[:, :1]).all()


def test_a_row_has_its_role_in_any_company() -> None:
    split = SkySplit(order=12)
    whole = roles(split, CELLS, CELLS)
    some = np.random.default_rng(2).permutation(len(CELLS))[:100]
    np.testing.assert_array_equal(roles(split, CELLS[some], CELLS[some]), whole[some])


@pytest.mark.parametrize("split", [SkySplit(order=20, test=0.3), IdSplit(test=0.3)])
def test_shares(split: SkySplit | IdSplit) -> None:
    found = roles(split, CELLS, np.arange(len(CELLS)))
    for role, share in ((TRAIN, 0.6), (VALIDATION, 0.1), (TEST, 0.3)):
        assert abs((found == role).mean() - share) < 0.015
    assert found.dtype == np.int8


def test_another_seed_is_another_split() -> None:
    one, other = (roles(IdSplit(seed=seed), None, np.arange(5000)) for seed in (0, 1))
    assert 0.3 < (one != other).mean() < 0.6


def test_names_are_ids_too() -> None:
    names = np.array([f"object {i}" for i in range(5000)])
    found = roles(IdSplit(), None, names)
    np.testing.assert_array_equal(found, roles(IdSplit(), None, names.astype(object)))
    assert abs((found == TEST).mean() - 0.2) < 0.03


def test_frozen_numbers() -> None:
    # A catalogue that was split years ago must not be split anew by an update.
    found = roles(SkySplit(order=3), np.arange(12) << 58 - 6, np.arange(12))
    assert found.tolist() == [2, 0, 0, 0, 0, 0, 2, 0, 2, 0, 2, 0]
    assert roles(IdSplit(seed=7), None, np.arange(12)).tolist() == [
        2,
        0,
        1,
        0,
        0,
        0,
        1,
        1,
        2,
        0,
        0,
        0,
    ]


def test_what_cannot_be() -> None:
    with pytest.raises(SpecError, match="nothing to train on"):
        roles(SkySplit(test=0.6, validation=0.4), CELLS, CELLS)
    with pytest.raises(SpecError, match="kind: id"):
        roles(SkySplit(), None, CELLS)
