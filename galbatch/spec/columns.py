"""Columns of a survey, and the axes of those that are arrays."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from galbatch.spec.base import Name, Settings, Slug
from galbatch.values import Coordinate, Dtype, is_array

AxisLength = Annotated[int, Field(ge=1, le=1_000_000)]
"""Values along an axis."""

Step = Annotated[float, Field(ge=-1e30, le=1e30)]
"""A value on an axis."""

_LARGEST_ROW = 2**24

_LARGEST_POWER = 308


class Column(Settings):
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
    shape: tuple[AxisLength, ...] = Field(default=(), max_length=4)
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
    def _had_a_length(cls, settings: Any) -> Any:
        if isinstance(settings, dict) and "length" in settings:
            raise ValueError(f"'length' is called 'shape' now: write shape: [{settings['length']}]")
        return settings

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


class Axis(Settings):
    """The values along a dimension of arrays: a grid of wavelengths, of redshifts."""

    name: Slug
    """Of the dimension."""
    values: tuple[Step, ...] | None = None
    """One for each step; or:"""
    start: Step | None = None
    """Value of the first step."""
    step: Step | None = None
    """From one step to the next."""
    points: AxisLength | None = None
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
        if self.values is not None and any(setting is not None for setting in even):
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
