"""The magnitude that orders a survey's sample."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.flux.clean import clean, magnitude_from_flux
from galbatch.flux.columns import photometry_inputs, raw_photometry
from galbatch.spec.job import StandardClean
from galbatch.spec.survey import Survey


def reference_inputs(survey: Survey) -> tuple[str, ...]:
    """Columns that `reference_magnitude` reads."""
    return photometry_inputs(survey, (survey.reference_band,))


def reference_magnitude(survey: Survey, table: pa.Table) -> NDArray[np.float64]:
    """AB magnitude in the survey's reference band, as observed.

    Parameters
    ----------
    survey : Survey
    table : pyarrow.Table
        With the columns `reference_inputs`.

    Returns
    -------
    ndarray, shape (n,)
        NaN where the band is not detected.
    """
    raw = raw_photometry(table, survey, (survey.reference_band,))
    bands = [band for band in survey.bands if band.name == survey.reference_band]
    block = clean(raw.value, raw.error, survey.photometry, bands, StandardClean(), mask=raw.mask)
    flux = np.where(block.detected[:, 0], block.flux[:, 0].astype(np.float64), np.nan)
    magnitude: NDArray[np.float64] = magnitude_from_flux(flux)
    return magnitude
