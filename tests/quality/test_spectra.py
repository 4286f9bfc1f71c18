"""Classes and redshifts of spectra judged by hand-made rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from galbatch.quality.spectra import (
    OTHERS,
    KnownSpectra,
    class_of_words,
    confusion,
    failures,
    ranking,
    spectral_statistics,
)
from galbatch.shown import SpectralColumns

COLUMNS = SpectralColumns("k", "z", "e", "d", "D", "c", ("GALAXY", "QSO", "STAR"))


def rows(**changes: Any) -> KnownSpectra:
    known = ["GALAXY", "GALAXY", "QSO", "QSO", "STAR", ""]
    found = {
        "known_kind": np.array(known),
        "kind": np.array(["GALAXY", "QSO", "QSO", "QSO", "STAR", "STAR"]),
        "known_subclass": np.array([""] * 6),
        "subclass": np.array([""] * 6),
        "known_z": np.array([0.1, 0.2, 1.0, 2.0, 0.0, 0.5]),
        "z": np.array([0.1 + 0.0005, 0.2, 1.0 + 0.015, 2.0 + 0.04, np.nan, 0.5]),
        "error": np.full(6, 0.001),
        "score": np.array([0.5, 0.01, 0.4, 0.02, 0.3, -1.0]),
        "chi2": np.array([1.0, 1.1, 1.0, 0.9, 1.0, 1.0]),
    }
    return KnownSpectra(**{**found, **changes})


def test_a_failure_is_another_class_or_a_redshift_that_is_far() -> None:
    assert failures(rows()).tolist() == [False, True, False, True, False, False]


def test_without_a_known_class_the_limit_is_that_of_the_class_that_was_found() -> None:
    bare = rows(known_kind=np.array([""] * 6))
    assert failures(bare).tolist() == [False, False, False, True, False, False]
    as_galaxy = rows(known_kind=np.array([""] * 6), kind=np.array(["GALAXY"] * 6))
    assert failures(as_galaxy).tolist() == [False, False, True, True, False, False]


def test_classes_are_read_as_people_write_them() -> None:
    said = np.array(["galaxy", " Quasar ", "qso", "STAR", "unknown", ""])
    found = class_of_words(said, COLUMNS.classes)
    assert found.tolist() == ["GALAXY", "QSO", "QSO", "STAR", "", ""]
    assert class_of_words(said[:0], COLUMNS.classes).tolist() == []


def test_classes_and_redshifts_are_judged_each_on_its_own() -> None:
    classes = spectral_statistics(rows(), None, COLUMNS)
    assert classes is not None and classes.classes is not None
    assert classes.redshifts == () and classes.ranking is None
    redshifts = spectral_statistics(None, rows(), COLUMNS)
    assert redshifts is not None and redshifts.classes is None
    assert redshifts.redshifts[0].rows == 5 and redshifts.ranking is not None


def test_what_is_told_of_rows() -> None:
    found = spectral_statistics(rows(), rows(), COLUMNS)
    assert found is not None and found.classes is not None
    assert found.classes.names == ("GALAXY", "QSO", "STAR")
    assert found.classes.rows == ((1, 1, 0), (0, 2, 0), (0, 0, 1))
    assert (found.classes.right, found.classes.total) == (4, 5)
    every, galaxies, quasars, stars = found.redshifts
    assert (every.name, every.rows, every.missing) == ("all", 5, 1)
    assert (galaxies.rows, galaxies.within) == (2, (1.0, 1.0, 1.0))
    assert quasars.within == (0.0, 0.0, 0.5)
    assert (stars.rows, stars.missing) == (0, 1) and np.isnan(stars.sigma_nmad)
    assert found.subclasses is None


def test_the_score_ranks_failures_and_chi_square_does_not() -> None:
    found = ranking(rows(), "D")
    assert found is not None and (found.rows, found.failures) == (5, 2)
    # Without a second minimum there is no doubt: -1 is the surest.
    assert found.by_score == 1.0 and found.by_chi2 == pytest.approx(0.5)
    assert found.kept[0] == 1.0 and found.failing[0] == 0.4 and found.failing[-1] == 0.0


def test_rare_names_are_told_together_and_none_is_lost() -> None:
    names = np.array([f"S{number}" for number in range(40) for _ in range(number + 1)])
    found = confusion(names, names)
    assert found is not None and found.names[-1] == OTHERS and len(found.names) == 14
    assert found.total == len(names)


def test_where_nothing_is_known_nothing_is_told() -> None:
    nothing = {"known_kind": np.array([""] * 6), "known_z": np.full(6, np.nan)}
    assert spectral_statistics(rows(**nothing), rows(**nothing), COLUMNS) is None
    assert ranking(rows(known_z=np.full(6, np.nan)), "D") is None
