"""A catalogue's rows as photometry: cleaned fluxes, magnitudes and shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.arrays import namespace, upload
from galbatch.errors import SpecError, did_you_mean
from galbatch.flux.clean import clean, magnitude_from_flux
from galbatch.flux.columns import has, numbers, photometry_inputs, raw_photometry
from galbatch.spec.job import PhotometricModel, StandardClean
from galbatch.spec.survey import Survey
from galbatch.values import FluxBlock


@dataclass(frozen=True)
class BandReader:
    """From a catalogue's rows to the network's inputs.

    Parameters
    ----------
    survey : Survey
    bands : tuple of str
    clean : StandardClean
    morphology : tuple of str
    """

    survey: Survey
    bands: tuple[str, ...]
    clean: StandardClean
    morphology: tuple[str, ...]

    @classmethod
    def of(cls, spec: PhotometricModel, survey: Survey, bands: tuple[str, ...]) -> BandReader:
        """How a model with these settings reads a survey."""
        shapes = survey.morphology if spec.morphology else ()
        return cls(survey, bands, spec.clean, shapes)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns that are read."""
        photometry = photometry_inputs(self.survey, self.bands, reddening=self.clean.extinction)
        return (*photometry, *self.morphology)

    def block(self, table: pa.Table) -> FluxBlock:
        """Cleaned photometry of a table's rows, as NumPy arrays."""
        block: FluxBlock = self.read(table, np)[0]
        return block

    def read(self, table: pa.Table, xp: Any, *others: NDArray[Any]) -> tuple[Any, ...]:
        """Cleaned photometry of a table's rows, on a device.

        Parameters
        ----------
        table : pa.Table
        xp : module
            NumPy or cupy.
        *others : ndarray
            What else is to be on the device: all is copied there at once.

        Returns
        -------
        block : FluxBlock
        *others : array
        """
        raw = raw_photometry(table, self.survey, self.bands, reddening=self.clean.extinction)
        value, error, mask, saturated, reddening, *moved = upload(
            xp, raw.value, raw.error, raw.mask, raw.saturated, raw.reddening, *others
        )
        block = clean(
            value,
            error,
            self.survey.photometry,
            self.survey.named(self.bands),
            self.clean,
            mask=mask,
            saturated=saturated,
            reddening=reddening,
        )
        return (block, *moved)

    def magnitude(self, block: FluxBlock) -> Any:
        """AB magnitude of the rows of `block` in the survey's reference band.

        Parameters
        ----------
        block : FluxBlock
            n rows of `bands`.

        Returns
        -------
        array, shape (n,), float32
            That of half the error where the flux is lower; NaN where the band was not observed, or
            is none of `bands`.
        """
        xp = namespace(block.flux)
        name = self.survey.reference_band
        if name is None or name not in self.bands:
            return xp.full(len(block), xp.nan, xp.float32)
        band = self.bands.index(name)
        least = xp.maximum(block.error[:, band] / 2, xp.float32(1e-9))
        magnitude = magnitude_from_flux(xp.maximum(block.flux[:, band], least))
        return xp.where(block.observed[:, band], magnitude, xp.nan).astype(xp.float32)

    def shapes(self, table: pa.Table) -> NDArray[np.float64]:
        """Morphology of a table's rows, shape (n, m); NaN where the table has no such column."""
        matrix = np.full((table.num_rows, len(self.morphology)), np.nan)
        for index, name in enumerate(self.morphology):
            if has(table, name):
                matrix[:, index] = numbers(table, name)
        return matrix


def choose_bands(asked: Sequence[str] | None, survey: Survey, where: str) -> tuple[str, ...]:
    """The bands to use, in the survey's order.

    Parameters
    ----------
    asked : sequence of str, optional
    survey : Survey
    where : str

    Returns
    -------
    tuple of str

    Raises
    ------
    SpecError
        If one is not a band of the survey.
    """
    for band in asked or ():
        if band not in survey.band_names:
            raise SpecError(
                f"{where}.bands",
                f"'{band}' is not a band of {survey.name}",
                did_you_mean(band, survey.band_names),
            )
    return tuple(band for band in survey.band_names if not asked or band in asked)


def photometry_and_shapes(survey: Survey) -> tuple[str, ...]:
    """All columns with a row's photometry and shape.

    Parameters
    ----------
    survey : Survey

    Returns
    -------
    tuple of str
        Without those that the survey does not have.
    """
    names = [*survey.photometry_columns, *survey.morphology]
    if survey.extinction:
        names.append(survey.extinction)
    if survey.photometry.saturation:
        names.append(survey.photometry.saturation.column)
    return tuple(dict.fromkeys(names))


def reference_inputs(survey: Survey) -> tuple[str, ...]:
    """Columns that `reference_magnitude` reads."""
    if survey.reference_band is None:
        return ()
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
        NaN where the band is not detected, or there is none.
    """
    if survey.reference_band is None:
        return np.full(table.num_rows, np.nan)
    raw = raw_photometry(table, survey, (survey.reference_band,))
    bands = [band for band in survey.bands if band.name == survey.reference_band]
    block = clean(raw.value, raw.error, survey.photometry, bands, StandardClean(), mask=raw.mask)
    flux = np.where(block.detected[:, 0], block.flux[:, 0].astype(np.float64), np.nan)
    magnitude: NDArray[np.float64] = magnitude_from_flux(flux)
    return magnitude


def present(survey: Survey, table: pa.Table) -> Survey:
    """The survey without the optional columns that a table does not have.

    Parameters
    ----------
    survey : Survey
    table : pa.Table

    Returns
    -------
    Survey

    Raises
    ------
    SpecError
        If a band's column is not there.
    """
    there = set(table.column_names)
    photometry = survey.photometry
    for name in survey.photometry_columns:
        if name not in there and name in survey.required:
            raise SpecError(f"survey {survey.name}", f"column '{name}' is not in the table")
    if photometry.vectors and photometry.vectors.mask not in there:
        vectors = photometry.vectors.model_copy(update={"mask": None})
        photometry = photometry.model_copy(update={"vectors": vectors})
    if photometry.saturation and photometry.saturation.column not in there:
        photometry = photometry.model_copy(update={"saturation": None})
    return survey.model_copy(
        update={
            "photometry": photometry,
            "extinction": survey.extinction if survey.extinction in there else None,
            "morphology": tuple(name for name in survey.morphology if name in there),
        }
    )
