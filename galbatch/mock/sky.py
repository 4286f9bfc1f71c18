"""A simulated catalogue of any survey that has a mock."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from galbatch.mock.observe import mock_batches
from galbatch.mock.spectral_sky import spectral_batches
from galbatch.spec.survey import Survey


def sky_batches(
    survey: Survey, rows: int, seed: int, batch_rows: int, first: int = 0
) -> Iterator[pa.Table]:
    """A simulated catalogue of photometry (`mock`) or of spectra (`spectra.mock`), batch by batch.

    Parameters
    ----------
    survey : Survey
    rows, seed, batch_rows, first : int
        See `galbatch.mock.observe.mock_batches`.

    Returns
    -------
    iterator of pa.Table

    Raises
    ------
    SpecError
        If the survey has no mock.
    """
    if survey.mock is None and survey.spectra is not None and survey.spectra.mock is not None:
        return spectral_batches(survey, rows, seed, batch_rows, first)
    return mock_batches(survey, rows, seed, batch_rows, first)
