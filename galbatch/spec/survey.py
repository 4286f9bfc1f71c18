"""What a catalogue is: `schemas/*.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Literal, Self

from pydantic import Field, model_validator

from galbatch.spec import units
from galbatch.spec.base import Line, Magnitude, Name, Settings, Slug
from galbatch.spec.columns import Axis, Column
from galbatch.spec.labels import Label, Labels, StarLabel, Value
from galbatch.spec.mock import MockSky
from galbatch.spec.spectra import Spectra
from galbatch.values import ARRAY_NAMES, TAKEN_ARRAY_NAMES, Target

_HIGHEST_PART = 2**30
"""Leaves room for the rows of any simulated sky in 32 bits."""


class Identifier(Settings):
    """The id: one column or several, whose value no two rows share."""

    column: Name
    """Column of the store that holds the id."""
    parts: tuple[Name, ...] = ()
    """For a key of several columns. Of two integer columns (high, low), `column` is made as
    high * 2**32 + low; of more, or where one of them is text (`dtype: string`), as text with a
    hyphen between the parts."""

    @model_validator(mode="after")
    def _several_parts(self) -> Self:
        if len(self.parts) == 1:
            raise ValueError("parts takes two columns or more; name a single one as 'column'")
        if len(set(self.parts)) != len(self.parts):
            raise ValueError("parts names a column twice")
        return self


class Sky(Settings):
    """Columns with the position, ICRS: degrees, or what the file's unit or the column's says.

    Text is read as numbers, or as sexagesimal (right ascension in hours).
    """

    ra: Name
    dec: Name


_ANY_WAVELENGTH = 5000.0


def not_ab(unit: str) -> str:
    """Why a unit is not that of AB magnitudes, and what to write."""
    if units.is_other_magnitude(unit):
        return "is not of AB magnitudes: convert the column to AB, and say unit: mag"
    if units.factor(unit, "uJy", _ANY_WAVELENGTH) is not None:
        return f"is of a flux density: say photometry: {{quantity: flux, unit: {unit}}}"
    return "is not of AB magnitudes: say unit: mag, or quantity: flux and its unit"


class Sentinel(Settings):
    """A number that stands for something other than a measurement."""

    value: Value
    """The number as it stands in the value column."""
    meaning: Literal["not_detected", "not_observed", "saturated"]
    """What it says."""
    error_is_limit: bool = False
    """For not_detected: the error column holds the 1-sigma limiting magnitude."""
    tolerance: float = Field(default=0.01, ge=0, le=1e30)
    """Values within this of `value` count as the sentinel."""


class VectorColumns(Settings):
    """Array-valued photometry: one column holds all bands, in the order of `bands`."""

    value: Name
    error: Name
    mask: Name | None = None
    """Per-band flags; anything but 0 makes that band not observed."""


class Flag(Settings):
    """A column, and the values in it that count."""

    column: Name
    values: tuple[Value, ...] = Field(min_length=1)


class Photometry(Settings):
    """How the band columns are to be read."""

    quantity: Literal["magnitude", "flux"] = "magnitude"
    """AB magnitudes, or flux densities in `unit`."""
    unit: str = "mag"
    """Unit of the values: `mag` (AB), or e.g. `uJy`, `nanomaggy`,
    `1e-19 erg / (s cm2 Angstrom)`. A file in another one is converted."""
    error: Literal["absolute", "relative"] = "absolute"
    """Errors in the unit of the values, or as a fraction of the flux."""
    vectors: VectorColumns | None = None
    """For array-valued columns; otherwise each band names its own."""
    sentinels: tuple[Sentinel, ...] = ()
    saturation: Flag | None = None
    """Objects whose flag has one of these values are saturated."""

    @model_validator(mode="after")
    def _unit_is_of_quantity(self) -> Self:
        if self.quantity == "flux":
            if units.factor(self.unit, "uJy", _ANY_WAVELENGTH) is None:
                given = "no unit" if "unit" not in self.model_fields_set else f"'{self.unit}'"
                raise ValueError(
                    f"quantity: flux needs its unit, got {given}; write e.g. unit: uJy, "
                    "nanomaggy, or 1e-19 erg / (s cm2 Angstrom)"
                )
        elif not units.is_magnitude(self.unit):
            raise ValueError(f"unit '{self.unit}' {not_ab(self.unit)}")
        return self


class Band(Settings):
    """One filter."""

    name: Name
    wavelength: float = Field(ge=100, le=1e8)
    """Effective wavelength, Angstrom."""
    width: float = Field(ge=1, le=1e8)
    """Full width at half maximum, Angstrom."""
    value: Name | None = None
    """Column of the magnitude or flux (without `photometry.vectors`)."""
    error: Name | None = None
    """Column of its 1-sigma error."""
    depth: Magnitude | None = None
    """5-sigma AB magnitude of a point source: the noise of the mock sky."""
    extinction: float | None = Field(default=None, ge=0, le=100)
    """A_band / E(B-V); by default from the Fitzpatrick (1999) curve at the band's wavelength."""

    @model_validator(mode="after")
    def _is_a_band(self) -> Self:
        if self.width >= self.wavelength:
            raise ValueError(
                f"band {self.name}: width ({self.width:g}) must be below wavelength "
                f"({self.wavelength:g})"
            )
        return self


class Published(Settings):
    """A published number, shown beside the measured ones."""

    target: Target
    statistic: Line
    """A statistic of the report: `sigma_nmad`, `outliers`, `r2`, `accuracy`, `auc`, ...; where
    quasars are a class `multiclass_accuracy`, `galaxy_auc`, `qso_auc`, `quasars_sigma_nmad`, ..."""
    value: float = Field(ge=-1e6, le=1e6)
    source: Line
    """Whose, and on which rows."""


class Survey(Settings):
    """A survey: what its catalogue is."""

    name: Slug
    title: Line
    references: tuple[Line, ...] = ()
    id: Identifier
    sky: Sky | None = None
    """Without it, the catalogue is partitioned by row range."""
    photometry: Photometry = Photometry()
    bands: tuple[Band, ...] = ()
    reference_band: Name | None = None
    """The band whose magnitude orders the sample (detection or selection band)."""
    spectra: Spectra | None = None
    """Where there is a spectrum of each object."""
    extinction: Name | None = None
    """Column with the Galactic E(B-V), where the catalogue has one."""
    morphology: tuple[Name, ...] = ()
    """Columns with size, shape and concentration that the default model may use."""
    labels: Labels = Labels()
    thesis_inputs: tuple[Name, ...] = ()
    """Inputs of the `thesis` networks; by default id, position, bands, errors and morphology."""
    odds_width: float = Field(default=0.02, ge=1e-6, le=1)
    """odds = P(|z - z_mode| <= odds_width * (1 + z_mode))."""
    published: tuple[Published, ...] = ()
    """What others reached on this survey."""
    columns: tuple[Column, ...] = Field(min_length=1)
    axes: tuple[Axis, ...] = ()
    """What the dimensions of array-valued columns stand for."""
    mock: MockSky | None = None
    """How a simulated sky of this survey looks; without it there is no mock."""

    @cached_property
    def column(self) -> dict[str, Column]:
        """Columns by name."""
        return {column.name: column for column in self.columns}

    def named(self, names: Sequence[str]) -> list[Band]:
        """The bands of these names, in their order."""
        # Not kept, as a copy of the survey with other bands would keep it too.
        of = {band.name: band for band in self.bands}
        return [of[name] for name in names]

    @cached_property
    def band_names(self) -> tuple[str, ...]:
        """Names of the bands in order."""
        return tuple(band.name for band in self.bands)

    @cached_property
    def stored_columns(self) -> tuple[Column, ...]:
        """The columns as the store has them where no file says otherwise: positions in degrees,
        photometry in its unit, the id as an integer.
        """
        positions = (self.sky.ra, self.sky.dec) if self.sky else ()
        ids, photometry = (self.id.column, *self.id.parts), set(self.in_photometry_unit)
        found = []
        for column in self.columns:
            changes: dict[str, str] = {}
            if column.name in positions:
                changes["unit"] = "deg"
            if column.name in photometry and not column.unit:
                changes["unit"] = self.photometry.unit
            if column.name in ids and column.dtype is None:
                changes["dtype"] = "int64"
            found.append(column.model_copy(update=changes) if changes else column)
        return tuple(found)

    @cached_property
    def id_is_text(self) -> bool:
        """Whether an id of several parts is made as text."""
        texts = any(self.column[name].dtype == "string" for name in self.id.parts)
        return len(self.id.parts) > 2 or texts

    @cached_property
    def required(self) -> tuple[str, ...]:
        """Columns without which a file is refused."""
        names = list(self.id.parts or (self.id.column,))
        if self.sky:
            names += [self.sky.ra, self.sky.dec]
        vectors = self.photometry.vectors
        mask = vectors.mask if vectors else None
        names += [name for name in self.photometry_columns if name != mask]
        names += self.spectra.columns if self.spectra else ()
        names += [column.name for column in self.columns if column.required]
        return tuple(dict.fromkeys(names))

    @cached_property
    def photometry_columns(self) -> tuple[str, ...]:
        """Columns that hold band values and errors."""
        vectors = self.photometry.vectors
        if vectors:
            return (vectors.value, vectors.error) + ((vectors.mask,) if vectors.mask else ())
        return tuple(
            name for band in self.bands for name in (band.value, band.error) if name is not None
        )

    @model_validator(mode="after")
    def _columns_exist(self) -> Self:
        seen: set[str] = set()
        for column in self.columns:
            if column.name in seen:
                raise ValueError(f"column '{column.name}' is listed twice")
            seen.add(column.name)
        named = [*self.photometry_columns, *self.morphology, *self.thesis_inputs]
        named += self.id.parts or [self.id.column]
        if self.sky:
            named += [self.sky.ra, self.sky.dec]
        if self.extinction:
            named.append(self.extinction)
        if self.photometry.saturation:
            named.append(self.photometry.saturation.column)
        if self.spectra:
            named += self.spectra.columns
        for target in ("redshift", "star", "log_mass", "spectral_type", "abs_mag_b"):
            label: Label | StarLabel | None = getattr(self.labels, target)
            if label:
                named += [label.column, *(condition.column for condition in label.where)]
        for name in named:
            if name not in self.column:
                raise ValueError(f"'{name}' is used but is not in 'columns'")
        return self

    @cached_property
    def arrays(self) -> tuple[Column, ...]:
        """The columns that lie in Zarr."""
        return tuple(column for column in self.columns if column.is_array)

    @model_validator(mode="after")
    def _dimensions_agree(self) -> Self:
        sizes: dict[str, int] = {}
        for column in self.arrays:
            for name, size in zip(column.axes, column.shape, strict=True):
                if sizes.setdefault(name, size) != size:
                    raise ValueError(
                        f"column '{column.name}': dimension '{name}' has {size} values here, "
                        f"{sizes[name]} in another column"
                    )
        for name in (*(column.name for column in self.arrays), *sizes):
            taken_names = ", ".join(sorted(TAKEN_ARRAY_NAMES))
            if not ARRAY_NAMES.fullmatch(name) or name.lower() in TAKEN_ARRAY_NAMES:
                raise ValueError(
                    f"'{name}' cannot be the name of an array or a dimension: expected a letter, "
                    "then letters, digits, '_', '.', '+' or '-' (100 at most), and none of "
                    f"{taken_names}; name the column otherwise, and say its spelling "
                    "in the files under 'aliases'"
                )
        if len({column.name.lower() for column in self.arrays}) < len(self.arrays):
            raise ValueError("two arrays have names that differ by case alone; rename one")
        taken = {column.name for column in self.columns}
        for axis in self.axes:
            if axis.name not in sizes:
                raise ValueError(f"axes: no array has a dimension '{axis.name}'")
            if len(axis.coordinate.values) != sizes[axis.name]:
                raise ValueError(
                    f"axes: '{axis.name}' has {len(axis.coordinate.values)} values, arrays have "
                    f"{sizes[axis.name]} along it"
                )
        for name in sizes:
            if name in taken:
                raise ValueError(f"'{name}' is a column and a dimension; name them differently")
        if len({axis.name for axis in self.axes}) != len(self.axes):
            raise ValueError("axes: a dimension is named twice")
        return self

    @property
    def is_simulated(self) -> bool:
        """Whether there is a mock of it."""
        return self.mock is not None or bool(self.spectra and self.spectra.mock)

    @cached_property
    def wavelengths(self) -> tuple[float, ...]:
        """Of the pixels of a spectrum in the store, in Angstrom; none without spectra."""
        if self.spectra is None:
            return ()
        (name,) = self.column[self.spectra.flux].axes
        (axis,) = [axis for axis in self.axes if axis.name == name]
        return axis.coordinate.values

    @model_validator(mode="after")
    def _spectra_have_an_axis(self) -> Self:
        if self.spectra is None:
            return self
        flux = self.column[self.spectra.flux]
        if len(flux.axes) != 1 or not flux.is_array:
            raise ValueError(f"spectra: '{flux.name}' needs one axis of more than 256 pixels")
        for name in self.spectra.columns:
            column = self.column[name]
            if column.axes != flux.axes:
                raise ValueError(f"spectra: '{name}' has another dimension than '{flux.name}'")
            integers = column.kind.startswith(("int", "uint"))
            if integers != (name == self.spectra.mask):
                wanted = "an integer" if name == self.spectra.mask else "float32 or float64"
                raise ValueError(f"spectra: '{name}' is {column.kind}, expected {wanted}")
        axis = next((axis for axis in self.axes if axis.name == flux.axes[0]), None)
        if axis is None:
            raise ValueError(f"spectra: 'axes' does not say what '{flux.axes[0]}' stands for")
        values = axis.coordinate.values
        rising = all(one < other for one, other in pairwise(values))
        if not rising or not 100 <= values[0] <= values[-1] <= 1e7:
            raise ValueError(
                f"axes: '{axis.name}' must be wavelengths in Angstrom, from the shortest to the "
                "longest"
            )
        if axis.unit and units.factor(axis.unit, "Angstrom") != 1.0:
            raise ValueError(f"axes: '{axis.name}' has unit '{axis.unit}', expected Angstrom")
        ivar = self.column[self.spectra.ivar]
        if units.is_per_frequency(flux.unit):
            raise ValueError(
                f"spectra: '{flux.name}' has unit '{flux.unit}', expected flux per wavelength "
                "(erg/s/cm2/Angstrom, say)"
            )
        if flux.unit and ivar.unit and units.variance_factor(ivar.unit, flux.unit) != 1.0:
            raise ValueError(
                f"spectra: '{ivar.name}' has unit '{ivar.unit}', expected ({flux.unit})-2"
            )
        mock = self.spectra.mock
        if mock is not None and mock.at_rest != (self.spectra.frame == "rest"):
            raise ValueError("spectra.mock: 'subclasses' are as observed, the others at rest")
        for name in (*mock.columns, *mock.constants) if mock else ():
            if name not in self.column:
                raise ValueError(f"spectra.mock: '{name}' is not in 'columns'")
        return self

    @model_validator(mode="after")
    def _units_agree(self) -> Self:
        for name in (self.sky.ra, self.sky.dec) if self.sky else ():
            unit = self.column[name].unit
            if unit and units.factor(unit, "deg") is None and not units.is_hours(unit):
                raise ValueError(f"column '{name}': expected a unit of angle (deg), got '{unit}'")
        wanted = self.photometry.unit
        for name in self.in_photometry_unit:
            unit = self.column[name].unit
            if unit and units.factor(unit, wanted) != 1.0:
                raise ValueError(
                    f"column '{name}' has unit '{unit}', but photometry.unit says '{wanted}'; "
                    "correct one of them"
                )
        return self

    @cached_property
    def in_photometry_unit(self) -> tuple[str, ...]:
        """Columns of values, and of errors where these are absolute."""
        vectors, relative = self.photometry.vectors, self.photometry.error == "relative"
        pairs = [(vectors.value, vectors.error)] if vectors else []
        pairs += [(str(band.value), str(band.error)) for band in self.bands if band.value]
        return tuple(
            dict.fromkeys(name for pair in pairs for name in (pair[:1] if relative else pair))
        )

    @model_validator(mode="after")
    def _ids_are_exact(self) -> Self:
        if self.id.column in self.column:
            for name in (self.id.column, *self.id.parts):
                kind = self.column[name].dtype
                if kind in ("float32", "float64"):
                    raise ValueError(
                        f"column '{name}': an id cannot be {kind}, which rounds long ones; "
                        "write dtype: int64 or string, or leave it out"
                    )
        return self

    @model_validator(mode="after")
    def _mock_can_be_written(self) -> Self:
        mock = self.mock
        if mock is None:
            return self
        if self.id.parts and mock.first_id > _HIGHEST_PART:
            raise ValueError(f"mock.first_id: the high part of an id is at most {_HIGHEST_PART}")
        for name in (self.id.column, *mock.columns, *mock.constants, *mock.id_digits):
            dtype = self.column[name].kind if name in self.column else "float64"
            if dtype == "string":
                raise ValueError(f"mock: column '{name}' is text; it can hold numbers alone")
            value = abs(mock.constants.get(name, 0.0))
            if dtype.startswith("int") and value >= 2.0 ** (int(dtype[3:]) - 1):
                raise ValueError(f"mock.constants: {value:g} is no {dtype} (column '{name}')")
        return self

    @model_validator(mode="after")
    def _bands_are_read(self) -> Self:
        vectors = self.photometry.vectors
        for band in self.bands:
            if vectors is None and (band.value is None or band.error is None):
                raise ValueError(f"band {band.name}: needs 'value' and 'error' (their columns)")
            if vectors is not None and (band.value or band.error):
                raise ValueError(f"band {band.name}: 'photometry.vectors' names its columns")
        if vectors is not None:
            for name in self.photometry_columns:
                if self.column[name].shape != (len(self.bands),):
                    raise ValueError(
                        f"column '{name}': shape must be [{len(self.bands)}], the number of bands"
                    )
        if self.bands and self.reference_band is None:
            raise ValueError("'reference_band' is missing")
        if self.reference_band is not None and self.reference_band not in self.band_names:
            raise ValueError(f"reference_band '{self.reference_band}' is not a band")
        if len(set(self.band_names)) != len(self.bands):
            raise ValueError("two bands have the same name")
        return self
