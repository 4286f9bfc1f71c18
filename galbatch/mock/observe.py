"""What a survey's catalogue says about the simulated sky.

True fluxes become measured ones: noise of the sky (from the band's 5-sigma depth, more for large
galaxies), of the source itself, and a systematic part; then the survey's own magnitudes or fluxes,
with errors estimated from the *measured* flux, and its own sentinels for what was not detected or
not observed. Sizes and shapes are those of the galaxy blurred by the seeing and scattered with the
signal to noise, so that faint stars and small galaxies are confused as they are in nature.

Rows come in blocks of `population.BLOCK_ROWS`; block i depends on the survey, the seed and i alone.
The same rows come out for any batch size, and a longer catalogue begins with the shorter one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from galbatch.columns import from_numpy
from galbatch.errors import SpecError, did_you_mean
from galbatch.flux.clean import (
    MAGNITUDE_PER_LN_FLUX,
    ZERO_POINT,
    flux_from_magnitude,
    magnitude_from_flux,
    microjansky,
)
from galbatch.flux.dust import band_extinction
from galbatch.intake.types import arrow_type, item_type
from galbatch.mock.image import TO_FWHM, Image, detection_image, stellarity
from galbatch.mock.noise import NoiseLaw
from galbatch.mock.objects import Array, Objects
from galbatch.mock.population import BLOCK_ROWS, Population, population
from galbatch.spec.columns import Column
from galbatch.spec.labels import Label
from galbatch.spec.mock import MockSky
from galbatch.spec.survey import Survey
from galbatch.values import TARGETS

Known = dict[str, NDArray[Any] | float]

NOT_A_LABEL = -99.0
"""Stands in a label's column where there is no label."""

UNKNOWN_STAR = 0.5
"""Star flag of what could be either."""

PART_ROWS = 65_536
"""Objects that share the high part of an id of two parts."""

_DETECTOR_PIXELS = 4096


def mock_batches(
    survey: Survey, rows: int, seed: int, batch_rows: int, first: int = 0
) -> Iterator[pa.Table]:
    """A simulated catalogue of a survey, batch by batch.

    Parameters
    ----------
    survey : Survey
        With a `mock` section, and a depth for each band.
    rows : int
        Objects in the catalogue.
    seed : int
        Same seed, same sky.
    batch_rows : int
        Rows of a batch (the last may have fewer). Does not change the rows.
    first : int
        Objects to leave out at the beginning, a multiple of `BLOCK_ROWS`: so that several
        processes make a part each of one sky.

    Returns
    -------
    iterator of pa.Table
        With the survey's columns, in its order and types.

    Raises
    ------
    SpecError
        If the survey has no usable `mock` section.
    """
    if first % BLOCK_ROWS:
        raise ValueError(f"first: expected a multiple of {BLOCK_ROWS}, got {first}")
    # How many threads share a matrix product changes its last bits, and so the sky: always one.
    with threadpool_limits(limits=1, user_api="blas"):
        telescope = _Telescope(survey)

    def batches() -> Iterator[pa.Table]:
        waiting: list[pa.Table] = []
        held = 0
        for block in range(first // BLOCK_ROWS, -(-rows // BLOCK_ROWS)):
            table = telescope.block(seed, block)
            table = table.slice(0, min(BLOCK_ROWS, rows - block * BLOCK_ROWS))
            waiting.append(table)
            held += len(table)
            while held >= batch_rows:
                joined = pa.concat_tables(waiting)
                yield joined.slice(0, batch_rows).combine_chunks()
                held -= batch_rows
                waiting = [joined.slice(batch_rows)]
        if held:
            yield pa.concat_tables(waiting).combine_chunks()

    return batches()


@dataclass(frozen=True)
class _Photometry:
    """Measured fluxes and their stated errors in microjansky, (n, b)."""

    flux: NDArray[np.float32]
    error: NDArray[np.float32]
    sky: NDArray[np.float32]
    observed: NDArray[np.bool_]
    saturated: NDArray[np.bool_]


class _Telescope:
    def __init__(self, survey: Survey) -> None:
        where = f"survey {survey.name}"
        if survey.mock is None:
            raise SpecError(where, "has no 'mock' section", "write one, or run on catalogue files")
        self.survey = survey
        self.mock: MockSky = survey.mock
        self.names = survey.band_names
        self.reference = self.names.index(survey.reference_band)
        self._check(where)
        depth = np.array([band.depth for band in survey.bands], np.float64)
        self.sky_noise = (flux_from_magnitude(depth) / 5.0).astype(np.float32)
        self.extinction = np.array([band_extinction(b) for b in survey.bands], np.float32)
        self.not_observed = self._sentinel("not_observed")
        self.not_detected = self._sentinel("not_detected")
        if self.not_detected is None:
            self.not_detected = self.not_observed
        self.limits = any(
            s.meaning == "not_detected" and s.error_is_limit for s in survey.photometry.sentinels
        )
        self.missing = np.full(len(self.names), self.mock.unobserved, np.float32)
        for name, chance in self.mock.unobserved_bands.items():
            self.missing[self.names.index(name)] = chance
        self.missing[self.reference] = 0.0
        self.population: Population = population(
            survey.bands,
            self.reference,
            self.mock.magnitudes,
            self.mock.star_fraction,
            self.mock.qso_fraction,
        )

    def _check(self, where: str) -> None:
        mock, survey = self.mock, self.survey
        for band in survey.bands:
            if band.depth is None:
                raise SpecError(f"{where}: band {band.name}", "a mock needs its 'depth'")
        if survey.sky and (mock.ra is None or mock.dec is None):
            raise SpecError(f"{where}: mock", "'ra' and 'dec' are missing")
        for name in (*mock.columns, *mock.constants, *mock.id_digits):
            if name not in survey.column:
                hint = did_you_mean(name, survey.column)
                raise SpecError(f"{where}: mock", f"there is no column '{name}'", hint)
        for name in mock.unobserved_bands:
            if name not in self.names:
                hint = did_you_mean(name, self.names)
                raise SpecError(f"{where}: mock", f"there is no band '{name}'", hint)

        label = survey.labels.star
        if mock.qso_fraction > 0 and not (label and label.qso and label.galaxy):
            raise SpecError(
                f"{where}: mock",
                "'qso_fraction' makes quasars that no label tells",
                "say in labels.star which values mean galaxy and quasar (galaxy, qso)",
            )

    def _sentinel(self, meaning: str) -> float | None:
        sentinels = self.survey.photometry.sentinels
        return next((s.value for s in sentinels if s.meaning == meaning), None)

    def block(self, seed: int, index: int) -> pa.Table:
        rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence((seed, index))))
        objects = self.population.draw(rng, BLOCK_ROWS)
        number = index * BLOCK_ROWS + np.arange(BLOCK_ROWS, dtype=np.int64)
        known = self._identity(number) | self._position(rng)
        true_flux = objects.flux
        if self.survey.extinction:
            ebv = self._reddening(known)
            known[self.survey.extinction] = ebv
            dimming = np.float32(-0.4 * np.log(10.0)) * ebv.astype("f4")[:, None] * self.extinction
            true_flux = true_flux * np.exp(dimming)
        weight = 1.0 - 0.3 * rng.random(len(objects)) ** 4
        image = detection_image(
            rng,
            objects,
            true_flux[:, self.reference] / self.sky_noise[self.reference],
            weight,
            self.mock.seeing,
        )
        seen = self._expose(rng, true_flux, image, weight)
        known |= self._band_columns(seen)
        known |= self._label_columns(objects, seen)
        if self.survey.photometry.saturation:
            flag = self.survey.photometry.saturation
            known[flag.column] = np.where(seen.saturated, flag.values[0], 0.0)
        for name, quantity in self.mock.columns.items():
            column = self.survey.column[name]
            known[name] = self._quantity(
                rng, quantity, column, number, known, objects, image, seen, weight
            )
        known |= dict(self.mock.constants)
        columns = self.survey.stored_columns
        arrays = [_arrow(column, known.get(column.name), len(number)) for column in columns]
        return pa.table(arrays, names=[column.name for column in columns])

    def _identity(self, number: NDArray[np.int64]) -> Known:
        known: Known = {}
        identifier = self.survey.id
        if identifier.parts:
            high = self.mock.first_id + number // PART_ROWS
            low = 1 + number % PART_ROWS
            known[identifier.parts[0]], known[identifier.parts[1]] = high, low
            ids = high * 2**32 + low
        else:
            ids = self.mock.first_id + number
        known[identifier.column] = ids
        for name, place in self.mock.id_digits.items():
            known[name] = ids // 10**place % 10
        return known

    def _position(self, rng: np.random.Generator) -> Known:
        if self.survey.sky is None:
            return {}
        assert self.mock.ra is not None and self.mock.dec is not None
        ra = rng.uniform(*self.mock.ra, BLOCK_ROWS) % 360.0
        south, north = np.sin(np.radians(self.mock.dec))
        sine = rng.uniform(south, north, BLOCK_ROWS)
        return {self.survey.sky.ra: ra, self.survey.sky.dec: np.degrees(np.arcsin(sine))}

    def _reddening(self, known: Known) -> Array:
        """Galactic E(B-V): thin cirrus, smooth over a degree."""
        if self.survey.sky is None:
            return np.full(BLOCK_ROWS, 0.02)
        ra = np.radians(np.asarray(known[self.survey.sky.ra], np.float64))
        dec = np.radians(np.asarray(known[self.survey.sky.dec], np.float64))
        waves = np.sin(150.0 * ra * np.cos(dec) + 1.0) + np.sin(210.0 * dec + 60.0 * ra)
        return np.asarray(0.02 * 10.0 ** (0.1 * waves))

    def _expose(
        self, rng: np.random.Generator, true: NDArray[np.float32], image: Image, weight: Array
    ) -> _Photometry:
        mock = self.mock
        saturated = np.zeros(len(true), bool)
        if mock.saturation is not None:
            spread = image.semi_major * image.semi_minor * (TO_FWHM / mock.seeing) ** 2
            peak = true[:, self.reference] / np.maximum(spread, 1.0)
            saturated = peak > flux_from_magnitude(mock.saturation)
            # The cores of saturated images are lost: half of what is above the limit, in mag.
            limit = np.float32(flux_from_magnitude(mock.saturation))
            lost = saturated[:, None] & (true > limit)
            true = np.where(lost, np.sqrt(np.maximum(true, limit) * limit), true)
        sky = self.sky_noise * image.noise_factor[:, None]
        law = NoiseLaw(self.sky_noise, np.float32(mock.calibration))
        scatter = np.sqrt(law.variance(true, sky))
        flux = true + scatter * rng.standard_normal(true.shape, np.float32)
        positive = np.maximum(flux, 0.0)
        error = np.sqrt(law.variance(positive, sky))
        observed = rng.random(true.shape, np.float32) >= self.missing
        return _Photometry(flux, error, sky, observed, saturated)

    def _band_columns(self, seen: _Photometry) -> Known:
        value, error = self._stated(seen.flux, seen.error, seen.sky, seen.observed)
        vectors = self.survey.photometry.vectors
        if vectors is not None:
            known: Known = {
                vectors.value: value,
                vectors.error: error,
            }
            if vectors.mask:
                known[vectors.mask] = (~seen.observed).astype(np.int32)
            return known
        known = {}
        for index, band in enumerate(self.survey.bands):
            assert band.value is not None and band.error is not None
            known[band.value] = value[:, index]
            known[band.error] = error[:, index]
        return known

    def _stated(
        self,
        flux: NDArray[np.float32],
        error: NDArray[np.float32],
        sky: NDArray[np.float32],
        observed: NDArray[np.bool_],
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Values and errors as the survey writes them, (n, b)."""
        photometry = self.survey.photometry
        unseen = np.nan if self.not_observed is None else self.not_observed
        if photometry.quantity == "magnitude":
            detected = (flux > 0) & (flux >= self.mock.detection * error)
            value: NDArray[Any] = magnitude_from_flux(flux)
            stated: NDArray[Any] = MAGNITUDE_PER_LN_FLUX * error / np.where(detected, flux, 1.0)
            missed = np.nan if self.not_detected is None else self.not_detected
            value = np.where(detected, value, missed)
            stated = np.where(detected, stated, magnitude_from_flux(sky) if self.limits else missed)
        else:
            unit = np.array(
                [
                    microjansky(photometry.unit, band.wavelength, f"band {band.name}")
                    for band in self.survey.bands
                ]
            )
            value = flux / unit
            stated = error / np.abs(flux) if photometry.error == "relative" else error / unit
        unseen_error = self.mock.unobserved_error
        return (
            np.where(observed, value, unseen),
            np.where(observed, stated, unseen if unseen_error is None else unseen_error),
        )

    def _label_columns(self, objects: Objects, seen: _Photometry) -> Known:
        labels = self.survey.labels
        known: Known = {}
        for target in TARGETS:
            label = labels.of(target)
            if isinstance(label, Label):
                truth: Array = getattr(objects, target)
                truth = 10.0**truth if label.scale == "log10" else truth
                blank = NOT_A_LABEL if label.low > NOT_A_LABEL else np.nan
                known[label.column] = np.where(np.isfinite(truth), truth, blank)
        if labels.star is not None:
            star = labels.star
            if star.galaxy:
                flag = np.where(objects.is_star, star.star[0], star.galaxy[0])
                if star.qso:
                    flag = np.where(objects.is_qso, star.qso[0], flag)
                if self.mock.star_flag_limit is not None:
                    limit = flux_from_magnitude(self.mock.star_flag_limit)
                    flag = np.where(seen.flux[:, self.reference] < limit, UNKNOWN_STAR, flag)
                known[star.column] = flag
            elif star.column in known:
                # One column is both: a redshift whose values for stars are no redshifts.
                known[star.column] = np.where(objects.is_star, star.star[0], known[star.column])
        return known

    def _quantity(
        self,
        rng: np.random.Generator,
        quantity: str,
        column: Column,
        number: NDArray[np.int64],
        known: Known,
        objects: Objects,
        image: Image,
        seen: _Photometry,
        weight: Array,
    ) -> Any:
        mock, at = self.mock, self.reference
        flux, error = seen.flux[:, at], seen.error[:, at]
        # Detection pipelines state the noise of the image, without the calibration's.
        noise = np.sqrt(error**2 - (mock.calibration * np.maximum(flux, 0.0)) ** 2)
        ratio = np.maximum(flux / noise, 0.1)
        length = {"deg": 1.0 / 3600.0, "pix": 1.0 / mock.pixel_scale}.get(
            column.unit.partition("**")[0], 1.0
        )
        match quantity:
            case "running_number":
                return number + 1
            case "magnitude":
                return self._stated(seen.flux, seen.error, seen.sky, seen.observed)[0][:, at]
            case "x" | "y":
                return self._pixel(rng, quantity, known)
            case "area":
                isophote = 2.0 * np.log1p(ratio / 3.0) + 0.3
                return np.pi * image.semi_major * image.semi_minor * isophote * length**2
            case "fwhm":
                return image.fwhm * length
            case "half_light_radius":
                return image.half_light * length
            case "semi_major":
                return image.semi_major * length
            case "semi_minor":
                return image.semi_minor * length
            case "ellipticity":
                return 1.0 - image.semi_minor / image.semi_major
            case "elongation":
                return image.semi_major / image.semi_minor
            case "position_angle":
                return image.position_angle
            case "kron_radius":
                return np.maximum(3.5 + 0.8 * rng.standard_normal(len(objects)), 3.5)
            case "peak_surface_brightness":
                spread = 2.0 * np.pi * image.semi_major * image.semi_minor
                return ZERO_POINT - 2.5 * np.log10(np.maximum(flux, 0.1 * error) / spread)
            case "signal_to_noise":
                return np.maximum(flux / noise, 0.0)
            case "stellarity_index":
                return stellarity(rng, image.fwhm / mock.seeing, ratio)
            case "saturated":
                return seen.saturated.astype(np.int64)
            case "observed_bands":
                return seen.observed.sum(axis=1)
            case "exposure_weight":
                return weight
            case "aperture_magnitude" | "aperture_error" | "aperture_magnitude_corrected":
                return self._aperture(quantity, column, image, seen)
            case "true_redshift":
                return _labelled(objects.redshift)
            case "true_log_mass":
                return _labelled(objects.log_mass)
            case "true_mass":
                return _labelled(10.0**objects.log_mass)
            case "true_spectral_type":
                return _labelled(objects.spectral_type)
            case "true_abs_mag_b":
                return _labelled(objects.abs_mag_b)
            case "star_flag":
                return objects.is_star.astype(np.float64)
            case "ebv":
                return self._reddening(known)
        raise AssertionError(quantity)

    def _pixel(
        self,
        rng: np.random.Generator,
        axis: str,
        known: Known,
    ) -> NDArray[Any]:
        """Position on a detector of a mosaic that covers the footprint."""
        if self.survey.sky is None:
            return rng.uniform(1.0, _DETECTOR_PIXELS, BLOCK_ROWS)
        dec = np.asarray(known[self.survey.sky.dec], np.float64)
        ra = np.asarray(known[self.survey.sky.ra], np.float64)
        degrees = ra * np.cos(np.radians(dec)) if axis == "x" else dec
        return np.asarray(1.0 + degrees * 3600.0 / self.mock.pixel_scale % _DETECTOR_PIXELS)

    def _aperture(
        self, quantity: str, column: Column, image: Image, seen: _Photometry
    ) -> NDArray[Any]:
        """Photometry in a circular aperture, of one band or of all."""
        spread = 2.0 * image.semi_major * image.semi_minor
        inside = (1.0 - np.exp(-((self.mock.aperture / 2.0) ** 2) / spread)).astype(np.float32)
        point = 2.0 * (self.mock.seeing / TO_FWHM) ** 2
        of_point = np.float32(1.0 - np.exp(-((self.mock.aperture / 2.0) ** 2) / point))
        kept = inside / of_point if quantity == "aperture_magnitude_corrected" else inside
        value, error = self._stated(
            seen.flux * kept[:, None],
            np.maximum(seen.error * kept[:, None], self.sky_noise),
            seen.sky,
            seen.observed,
        )
        wanted = error if quantity == "aperture_error" else value
        return wanted if column.shape else wanted[:, self.reference]


def _labelled(truth: Array) -> Array:
    return np.where(np.isfinite(truth), truth, NOT_A_LABEL)


def _arrow(column: Column, values: NDArray[Any] | float | None, rows: int) -> pa.Array:
    """Values as a column of its own type: 0 for integers and null for others where unknown."""
    item = item_type(column)
    kind = arrow_type(column)
    integer = pa.types.is_integer(item)
    if values is None:
        if not integer:
            return pa.nulls(rows, kind)
        values = 0.0
    dtype = np.dtype(column.kind)
    if np.ndim(values) == 0:
        shape = (rows, *column.shape)
        full = np.full(shape, values)
    else:
        full = np.asarray(values)
    if integer and full.dtype.kind == "f":
        full = np.rint(full)
    return from_numpy(np.ascontiguousarray(full, dtype), kind)
