"""The same cleaning on a GPU: one code path, one answer."""

from __future__ import annotations

import numpy as np
import pytest

from galbatch.arrays import namespace, to_numpy, worker_namespace
from galbatch.flux.clean import clean
from galbatch.spec.job import StandardClean
from galbatch.spec.survey import Band, Photometry, Sentinel


@pytest.mark.gpu
def test_cupy_agrees_with_numpy() -> None:
    cupy = worker_namespace()
    if cupy is np:
        pytest.skip("no CUDA device, or cupy is not installed")
    rng = np.random.default_rng(0)
    value = rng.uniform(18, 28, (1000, 2))
    value[::7, 0], value[::5, 1] = 99, -99
    error = rng.uniform(0.01, 0.5, (1000, 2))
    error[::7, 0] = 26.5
    photometry = Photometry(
        sentinels=(
            Sentinel(value=99, meaning="not_detected", error_is_limit=True),
            Sentinel(value=-99, meaning="not_observed"),
        )
    )
    bands = (Band(name="g", wavelength=4800, width=1400), Band(name="r", wavelength=6200, width=9))
    recipe = StandardClean(error_floor=0.01)
    here = clean(value, error, photometry, bands, recipe)
    there = clean(cupy.asarray(value), cupy.asarray(error), photometry, bands, recipe)
    assert namespace(there.flux) is cupy
    for name in ("flux", "error", "observed", "detected", "saturated"):
        np.testing.assert_allclose(
            to_numpy(getattr(there, name)), getattr(here, name), rtol=1e-5, err_msg=name
        )
