"""Spectra of a survey: which columns hold them, and what their wavelengths are."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from galbatch.spec import units
from galbatch.spec.base import Name, Settings

Wavelength = Annotated[float, Field(ge=100, le=1e7)]
"""Angstrom."""

Constant = Annotated[float, Field(ge=-1e30, le=1e30)]

Bit = Annotated[int, Field(ge=0, le=63)]

Scale = Literal["linear", "log10", "ln"]
Medium = Literal["vacuum", "air"]
Frame = Literal["observed", "rest"]


class SkyResidual(Settings):
    """Observed wavelengths at which the night sky leaves too much behind."""

    low: Wavelength
    high: Wavelength

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low: {self.low:g} is not below high: {self.high:g}")
        return self


Truth = Literal[
    "redshift", "class", "subclass", "signal_to_noise", "age", "metallicity", "dispersion", "mass",
    "extinction", "log_gas",
]  # fmt: skip


class SpectralMock(Settings):
    """How a simulated catalogue of spectra looks."""

    of: Literal["subclasses", "sed_library", "dusty_sed_library"] = "subclasses"
    """Observed spectra of SDSS's subclasses, all as frequent; or galaxies at rest, each of one age
    and metallicity, without noise, with dust and lines of gas too if `dusty_sed_library`."""
    columns: dict[str, Truth] = Field(default_factory=dict)
    """Which column of the catalogue holds what is known of a simulated object."""
    constants: dict[str, Constant] = Field(default_factory=dict)
    """Columns that hold one number everywhere. Others, but for id and position, are empty."""

    @property
    def at_rest(self) -> bool:
        """Whether the spectra are at rest."""
        return self.of != "subclasses"


class Spectra(Settings):
    """The columns of a spectrum. They have one axis, in the store in vacuum and in Angstrom.

    A file whose wavelengths are others, for all of its rows or for each, is brought onto that axis
    when it is read: by whole pixels where both are the same grid, else so that flux is conserved.
    """

    flux: Name
    """Flux density per wavelength."""
    ivar: Name
    """Inverse variance of the flux; 0 where there is none."""
    mask: Name | None = None
    """Flags of the pixels."""
    bad_bits: Annotated[tuple[Bit, ...], Field(max_length=64)] = ()
    """Bits of the mask that say that a pixel is none; by default any."""
    wavelength: Name = "wavelength"
    """Column of a file that holds the wavelengths of each row; or, in HDF5, Zarr and archives of
    NumPy, an array of shape (m,) or (1, m) with those of all rows. A file without it is on the
    axis."""
    scale: Scale = "linear"
    """Of the numbers in that column: wavelengths, or their logarithms to base 10 or e."""
    unit: str = "Angstrom"
    """Of the wavelengths in that column, where the file does not say it."""
    medium: Medium = "vacuum"
    """What files give wavelengths in, where they do not say it themselves."""
    frame: Frame = "observed"
    """Whether the wavelengths are those that were observed, or already those at rest."""
    sky: Annotated[tuple[SkyResidual, ...], Field(max_length=100)] = (
        SkyResidual(low=5565, high=5590),
    )
    """Where no pixel of an observed spectrum is used: by default around the line of oxygen at 5577
    Angstrom."""
    known_class: Name | None = None
    """Column with a class that is known already: GALAXY, QSO (or quasar) or STAR, in letters of any
    case. The report compares it with what models find, where the survey's label of the redshift
    holds too, and names other words; no model learns it."""
    known_subclass: Name | None = None
    """Column with a subclass that is known already, as SDSS names it."""
    mock: SpectralMock | None = None
    """How a simulated catalogue looks, of a survey without bands."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Those that the catalogue has."""
        return (self.flux, self.ivar, *((self.mask,) if self.mask else ()))

    @model_validator(mode="after")
    def _can_be_read(self) -> Self:
        if len({*self.columns, self.wavelength}) < len(self.columns) + 1:
            raise ValueError("one column cannot be two of flux, ivar, mask and wavelength")
        if units.factor(self.unit, "Angstrom") is None:
            raise ValueError(f"unit '{self.unit}' is not of wavelengths: write Angstrom, nm or um")
        if self.known_subclass and not self.known_class:
            raise ValueError("known_subclass: 'known_class' must say what it is a subclass of")
        if self.bad_bits and not self.mask:
            raise ValueError("bad_bits: there is no 'mask' to have them")
        return self
