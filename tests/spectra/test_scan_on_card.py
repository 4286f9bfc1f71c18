"""The same scan on a card: one code path, one answer."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import strict_cupy
from toy_bases import GRID, observed, toy_bases

from galbatch.arrays import to_numpy, worker_namespace
from galbatch.spectra.clean import cleaned
from galbatch.spectra.scan import ScanResult, ScanSettings, scan

BASES = toy_bases()


def assert_alike(xp: Any, tolerance: float) -> None:
    flux, ivar, _, _ = observed(1, 5, 3)
    flux[3], ivar[4, 100:110], flux[6, 50] = np.nan, -1, 1e4
    here = scan(flux, cleaned(flux, ivar, GRID), GRID, BASES, ScanSettings(fast=False))
    flux, ivar = xp.asarray(flux), xp.asarray(ivar)
    weights = cleaned(flux, ivar, GRID)
    there = scan(flux, weights, GRID, BASES, ScanSettings())
    assert to_numpy(weights)[6, 50] == 0
    for field in fields(ScanResult):
        one, two = getattr(here, field.name), getattr(there, field.name)
        assert isinstance(two, np.ndarray)
        if one.dtype.kind == "f":
            np.testing.assert_allclose(two, one, rtol=tolerance, atol=1e-9, err_msg=field.name)
        else:
            np.testing.assert_array_equal(two, one, err_msg=field.name)


def test_a_strict_stand_in_agrees() -> None:
    assert_alike(strict_cupy, 1e-8)


@pytest.mark.gpu
def test_a_card_agrees() -> None:
    cupy = worker_namespace()
    if cupy is np:
        pytest.skip("no CUDA device, or cupy is not installed")
    assert_alike(cupy, 1e-6)
