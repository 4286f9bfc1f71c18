"""The spectra of a catalogue's rows, cleaned, on a grid that is even in the logarithm."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.columns import to_numpy
from galbatch.errors import SpecError
from galbatch.spec.survey import Survey
from galbatch.spectra.axis import ToAxis, to_axis
from galbatch.spectra.clean import cleaned, has_data
from galbatch.spectra.grids import SDSS_STEP, LogGrid, log_grid_of


class SpectrumReader:
    """Reads the spectra of rows.

    Parameters
    ----------
    survey : Survey
        With spectra.

    Raises
    ------
    SpecError
        If it has none.
    """

    def __init__(self, survey: Survey) -> None:
        if survey.spectra is None:
            raise SpecError(
                f"survey {survey.name}", "has no spectra", "say where they are: 'spectra'"
            )
        self._spectra = survey.spectra
        self.unit = survey.column[survey.spectra.flux].unit
        self._wavelengths = np.array(survey.wavelengths)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns that are read."""
        return self._spectra.columns

    @cached_property
    def grid(self) -> LogGrid:
        """The grid that spectra are given on: the axis itself where it is even in the logarithm."""
        found = log_grid_of(self._wavelengths)
        if found is not None:
            return found
        logarithms = np.log10(self._wavelengths)
        first = int(np.ceil(logarithms[0] / SDSS_STEP))
        last = int(np.floor(logarithms[-1] / SDSS_STEP))
        return LogGrid(first * SDSS_STEP, SDSS_STEP, last - first + 1)

    @cached_property
    def _to_axis(self) -> ToAxis:
        return to_axis(self._wavelengths, self.grid.wavelengths)

    def read(self, table: pa.Table) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Flux and inverse variance.

        Parameters
        ----------
        table : pa.Table
            n rows with the columns `inputs`.

        Returns
        -------
        tuple of ndarray, shape (n, grid.points)
            The inverse variance is 0 where there are no data, the mask has a bad bit, the night sky
            leaves too much behind, or a single pixel stands out; the flux is finite.
        """
        flux, ivar = self.on_axis(table)
        flux, ivar = self._to_axis.spectra(np.where(np.isfinite(flux), flux, 0.0), ivar)
        return np.nan_to_num(flux), cleaned(np.nan_to_num(flux), ivar, self.grid, lines=())

    def on_axis(self, table: pa.Table) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Flux and inverse variance on the survey's own axis.

        Parameters
        ----------
        table : pa.Table
            n rows with the columns `inputs`.

        Returns
        -------
        tuple of ndarray, shape (n, points)
            The inverse variance is 0 where there are no data, the mask has a bad bit, or the night
            sky leaves too much behind.
        """
        settings = self._spectra
        flux = np.asarray(to_numpy(table[settings.flux]), np.float64)
        ivar = np.asarray(to_numpy(table[settings.ivar]), np.float64)
        bad = ~has_data(flux, ivar)
        # What stands under a null is anything: zeros, once rows have been filtered.
        for name in (settings.flux, settings.ivar):
            bad |= ~np.asarray(table[name].is_valid())[:, None]
        if settings.mask and settings.mask in table.column_names:
            bad |= self._flagged(to_numpy(table[settings.mask]))
        for one in settings.sky if settings.frame == "observed" else ():
            bad |= (self._wavelengths >= one.low) & (self._wavelengths <= one.high)
        return flux, np.where(bad, 0.0, ivar)

    def _flagged(self, mask: NDArray[Any]) -> NDArray[np.bool_]:
        """Pixels with a bit that says that they are none."""
        values = np.asarray(mask).astype(np.int64)
        wanted = sum(1 << bit for bit in self._spectra.bad_bits) or -1
        flagged: NDArray[np.bool_] = (values & np.int64(wanted)) != 0
        # What the store fills a row without a mask with.
        limits = np.iinfo(mask.dtype)
        filling = limits.max if mask.dtype.kind == "u" else limits.min
        missing = np.all(values == filling, axis=1, keepdims=True)
        return np.asarray(flagged & ~missing, np.bool_)
