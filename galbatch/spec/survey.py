"""What a catalogue is: `schemas/*.yaml`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from galbatch.spec import units
from galbatch.spec.base import Line, Magnitude, Name, Slug, Words, must_rise
from galbatch.spec.mock import MockSky
from galbatch.values import Coordinate, Dtype, Target, is_array

Value = float
"""A number that stands in a column: of any unit, so any finite one."""
Size = Annotated[int, Field(ge=1, le=1_000_000)]
"""Values along an axis."""
Step = Annotated[float, Field(ge=-1e30, le=1e30)]
"""A value on an axis."""
_LARGEST_ROW = 2**24
_LARGEST_POWER = 308
_HIGHEST_PART = 2**30
"""Leaves room for the rows of any simulated sky in 32 bits."""


class Column(Words):
    """One column of the survey's catalogue."""

    name: Name
    """Name in the store; the first spelling looked for in a file (case does not matter)."""
    dtype: Dtype | None = None
    """Type in the store where files have none (CSV), or do not agree on it; a file's own width is
    kept where the kind is the same (float32 and float64, say). By default float64, and for the id
    what its files hold: int64, uint64 or text."""
    unit: str = ""
    """VOUnit string: of the values where the file does not say it, and of those in the store (a
    position is in deg there). Empty for dimensionless, or for what the file says."""
    ucd: str = ""
    """UCD1+ words."""
    description: str = ""
    """One line."""
    aliases: tuple[Name, ...] = ()
    """Other spellings that releases have used."""
    required: bool = False
    """A file without this column is refused. The id, sky and band columns always are required."""
    shape: tuple[Size, ...] = Field(default=(), max_length=4)
    """Shape of one row: empty for one value, `[60]` for a value in each of 60 bands, `[4096]` for a
    spectrum, `[5, 64, 64]` for cutouts in five bands. Up to 256 values in one row are a list in
    Parquet; what is longer, or has more axes, is an array in Zarr, of float32 where `dtype` says
    nothing."""
    dimensions: tuple[Slug, ...] = ()
    """A name for each axis of an array; columns with the same axis (a spectrum and its inverse
    variance) share the name. By default each has axes of its own."""

    @property
    def kind(self) -> Dtype:
        """Type where neither the survey nor the file says one."""
        return self.dtype or ("float32" if self.is_array else "float64")

    @property
    def is_array(self) -> bool:
        """Whether it lies in Zarr, not in Parquet."""
        return is_array(self.shape)

    @property
    def axes(self) -> tuple[str, ...]:
        """A name for each axis of an array."""
        return self.dimensions or tuple(f"{self.name}_{axis}" for axis in range(len(self.shape)))

    @model_validator(mode="before")
    @classmethod
    def _had_a_length(cls, words: Any) -> Any:
        if isinstance(words, dict) and "length" in words:
            raise ValueError(f"'length' is called 'shape' now: write shape: [{words['length']}]")
        return words

    @model_validator(mode="after")
    def _has_a_shape(self) -> Self:
        if self.dimensions and len(self.dimensions) != len(self.shape):
            raise ValueError(
                f"column '{self.name}': {len(self.dimensions)} dimensions for a shape of "
                f"{len(self.shape)}"
            )
        if len(set(self.dimensions)) != len(self.dimensions):
            raise ValueError(f"column '{self.name}': names a dimension twice")
        if self.is_array and self.dtype == "string":
            raise ValueError(f"column '{self.name}': an array holds numbers, not text")
        if math.prod(self.shape) > _LARGEST_ROW:
            raise ValueError(f"column '{self.name}': more than {_LARGEST_ROW:,} values in a row")
        return self


class Axis(Words):
    """What the steps along a dimension of arrays stand for: a grid of wavelengths, of redshifts."""

    name: Slug
    """Of the dimension."""
    values: tuple[Step, ...] | None = None
    """One for each step; or:"""
    start: Step | None = None
    """Value of the first step."""
    step: Step | None = None
    """From one step to the next."""
    points: Size | None = None
    """How many steps there are."""
    scale: Literal["linear", "log10"] = "linear"
    """`log10`: `start` and `step` are of the logarithm (as COEFF0 and COEFF1 of SDSS)."""
    unit: str = ""
    """VOUnit string."""
    ucd: str = ""
    """UCD1+ words."""
    description: str = ""
    """One line."""

    @model_validator(mode="after")
    def _says_its_values(self) -> Self:
        even = (self.start, self.step, self.points)
        if (self.values is None) == (None in even):
            raise ValueError(f"axis '{self.name}': give 'values', or start, step and points")
        if self.values is not None and any(word is not None for word in even):
            raise ValueError(f"axis '{self.name}': give 'values' or start, step and points")
        found = self.coordinate.values
        if not all(map(math.isfinite, found)):
            raise ValueError(f"axis '{self.name}': 10 to its power is beyond what a float64 holds")
        return self

    @cached_property
    def coordinate(self) -> Coordinate:
        """Its values."""
        values = self.values
        if values is None:
            assert self.start is not None and self.step is not None and self.points is not None
            values = tuple(self.start + self.step * place for place in range(self.points))
            if self.scale == "log10":
                values = tuple(10.0**value if value < _LARGEST_POWER else math.inf
                               for value in values)  # fmt: skip
        return Coordinate(self.name, values, self.unit, self.ucd, self.description)


class Identifier(Words):
    """What tells one row from another."""

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


class Sky(Words):
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


class Sentinel(Words):
    """A number that stands for something other than a measurement."""

    value: Value
    """The number as it stands in the value column."""
    meaning: Literal["not_detected", "not_observed", "saturated"]
    """What it says."""
    error_is_limit: bool = False
    """For not_detected: the error column holds the 1-sigma limiting magnitude."""
    tolerance: float = Field(default=0.01, ge=0, le=1e30)
    """Values within this of `value` count as the sentinel."""


class VectorColumns(Words):
    """Array-valued photometry: one column holds all bands, in the order of `bands`."""

    value: Name
    error: Name
    mask: Name | None = None
    """Per-band flags; anything but 0 makes that band not observed."""


class Flag(Words):
    """A column, and the values in it that count."""

    column: Name
    values: tuple[Value, ...] = Field(min_length=1)


class Photometry(Words):
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


class Band(Words):
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


class Condition(Words):
    """A condition on a column of the catalogue: `low <= column <= high`, or one of `values`."""

    column: Name
    low: Value | None = None
    high: Value | None = None
    values: tuple[Value, ...] = ()

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if self.low is None and self.high is None and not self.values:
            raise ValueError(f"the condition on '{self.column}' needs 'low', 'high' or 'values'")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low ({self.low:g}) must not be above high ({self.high:g})")
        return self


class Label(Words):
    """A column with the known value of a target, for the rows that have one."""

    column: Name
    low: float = Field(ge=-1e6, le=1e6)
    """Values below are no label."""
    high: float = Field(ge=-1e6, le=1e6)
    """Values above are no label."""
    scale: Literal["linear", "log10"] = "linear"
    """`log10` takes the logarithm of the column (a mass in solar masses, say)."""
    where: tuple[Condition, ...] = ()
    """The value is a label only where all of these hold."""

    @model_validator(mode="after")
    def _some_value_is_one(self) -> Self:
        must_rise(self.low, self.high)
        return self


class StarLabel(Words):
    """A column that tells stars, galaxies and quasars apart, for the rows that are known."""

    column: Name
    galaxy: tuple[Value, ...] = ()
    """Values that mean galaxy."""
    galaxy_range: tuple[Value, Value] | None = None
    """From low to high (both included), values mean galaxy too: a spectroscopic redshift, say."""
    star: tuple[Value, ...] = Field(min_length=1)
    """Values that mean star. Anything else is unknown."""
    qso: tuple[Value, ...] = ()
    """Values that mean quasar; without them, models tell stars from galaxies alone."""
    qso_redshifts: bool = False
    """Redshifts of quasars are labels too. Their masses, types and luminosities never are."""
    where: tuple[Condition, ...] = ()
    """The value is a label only where all of these hold."""

    @model_validator(mode="after")
    def _galaxies_are_known(self) -> Self:
        if not self.galaxy and self.galaxy_range is None:
            raise ValueError("needs 'galaxy' (values) or 'galaxy_range' (low, high)")
        if self.galaxy_range is not None and self.galaxy_range[0] >= self.galaxy_range[1]:
            raise ValueError("galaxy_range: the first number must be smaller than the second")
        if self.qso_redshifts and not self.qso:
            raise ValueError("qso_redshifts: 'qso' (values) must say which rows are quasars")
        return self

    @model_validator(mode="after")
    def _classes_differ(self) -> Self:
        values = (*self.galaxy, *self.star, *self.qso)
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ValueError(f"the value {twice[0]:g} cannot mean two classes")
        return self


class Labels(Words):
    """Where the known values are."""

    redshift: Label | None = None
    star: StarLabel | None = None
    log_mass: Label | None = None
    """log10 of the stellar mass in solar masses."""
    spectral_type: Label | None = None
    abs_mag_b: Label | None = None
    """Absolute AB magnitude, Johnson B."""

    def of(self, target: Target) -> Label | StarLabel | None:
        """The label of one target."""
        label: Label | StarLabel | None = getattr(self, target)
        return label

    @model_validator(mode="after")
    def _redshifts_have_a_logarithm(self) -> Self:
        if self.redshift is not None and self.redshift.low <= -1:
            raise ValueError(f"redshift: low must be above -1, not {self.redshift.low:g}")
        return self


class Published(Words):
    """A published number, shown beside the measured ones."""

    target: Target
    statistic: Line
    """A word of the report: `sigma_nmad`, `outliers`, `r2`, `accuracy`, `auc`, ...; where quasars
    are a class `multiclass_accuracy`, `galaxy_auc`, `qso_auc`, `quasars_sigma_nmad`, ..."""
    value: float = Field(ge=-1e6, le=1e6)
    source: Line
    """Whose, and on which rows."""


class Survey(Words):
    """A survey: what its catalogue is."""

    name: Slug
    title: Line
    references: tuple[Line, ...] = ()
    id: Identifier
    sky: Sky | None = None
    """Without it, the catalogue is partitioned by row range."""
    photometry: Photometry = Photometry()
    bands: tuple[Band, ...] = Field(min_length=1)
    reference_band: Name
    """The band whose magnitude orders the sample (detection or selection band)."""
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
        if self.reference_band not in self.band_names:
            raise ValueError(f"reference_band '{self.reference_band}' is not a band")
        if len(set(self.band_names)) != len(self.bands):
            raise ValueError("two bands have the same name")
        return self
