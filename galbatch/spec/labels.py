"""Where a survey has the known values of targets: the labels that models learn from."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from galbatch.spec.base import Name, Settings, must_rise
from galbatch.values import Target

Value = float
"""A number that stands in a column: of any unit, so any finite one."""


class Condition(Settings):
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


class Label(Settings):
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


class StarLabel(Settings):
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


class Labels(Settings):
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
