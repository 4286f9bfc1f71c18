"""Settings of the family of models that take spectra apart into stellar populations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from galbatch.spec.base import Location, Name, Settings, Share, Slug, must_rise
from galbatch.spec.model_settings import Epochs, ModelSettings
from galbatch.spec.spectra import Medium

Speed = Annotated[float, Field(ge=0, le=1000)]
Reddening = Annotated[float, Field(ge=0, le=5)]
GasStrength = Annotated[float, Field(ge=1e-3, le=1000)]
SignalToNoise = Annotated[float, Field(ge=0.5, le=10_000)]


class PopulationFile(Settings):
    """A library of stellar populations, each of one age and metallicity."""

    file: Location
    """A Parquet table with the columns `age_gyr`, `metallicity` (log10 of the Sun's) and `flux`,
    and `wavelength.npy` beside it; or FITS with such a table and one with the column `wavelength`.
    Relative to the current directory."""
    medium: Medium = "air"
    """What its wavelengths are in."""

    @property
    def files(self) -> tuple[str, ...]:
        """All that it is read from."""
        if not self.file.endswith(".parquet"):
            return (self.file,)
        return (self.file, str(Path(self.file).parent / "wavelength.npy"))


class SspMixtureModel(ModelSettings):
    """Galaxies' spectra as mixtures of a few stellar populations, learned from simulated mixtures.

    After a thesis (appendix B), which left it undone: one network for all parameters, a network for
    each kind, and an invertible network, whose draws tell what goes with what.
    """

    kind: Literal["ssp_mixture"]
    name: Slug = "ssp_mixture"
    templates: PopulationFile | None = None
    """By default the library that galbatch ships: 160 populations of Bruzual & Charlot with MILES's
    stars, from 10 Myr to 13.5 Gyr and from a fifth to 2.5 times the Sun's metallicity."""
    network: Literal["single", "separate", "invertible"] = "separate"
    """`single`: one network for all numbers; `separate`: one for each kind of parameter; both give
    quantiles. `invertible`: a flow whose draws are those of all numbers together; it adds how age
    and metallicity go together."""
    components: int = Field(default=4, ge=1, le=8)
    """Populations in a mixture, at most."""
    own: bool = False
    """Each component has a velocity, dispersion, extinction and gas of its own, as the thesis drew
    them. By default they are the galaxy's: one spectrum hardly tells them apart."""
    least_weight: float = Field(default=0.05, ge=0.01, le=0.1)
    """Share of the light that a component has at least."""
    redshift: Name | None = None
    """Column of the catalogue with the redshift that brings a spectrum to rest; needed where the
    survey's spectra are as observed. The velocity is what is left of it."""
    velocity: float = Field(default=500.0, ge=1, le=2000)
    """km/s: the largest that is simulated, to both sides."""
    dispersion: tuple[Speed, Speed] = (20.0, 350.0)
    """km/s, beyond the width of the library's own lines."""
    extinction: tuple[Reddening, Reddening] = (0.0, 0.5)
    """E(B-V) of the stars in magnitudes, after Calzetti's law."""
    gas: tuple[GasStrength, GasStrength] = (0.03, 30.0)
    """Equivalent width of H beta in Angstrom; even in its logarithm."""
    signal_to_noise: tuple[SignalToNoise, SignalToNoise] | None = None
    """Of a pixel of 69 km/s, even in its logarithm. By default those of the catalogue's rows, held
    between 3 and 200."""
    mixtures: int = Field(default=100_000, ge=200, le=10_000_000)
    """Simulated spectra; a tenth ends the fit, and another calibrates the intervals."""
    spectral_components: int = Field(default=192, ge=2, le=2000)
    """Principal components that a network reads of a spectrum."""
    width: int = Field(default=160, ge=4, le=4096)
    """Units in a layer of each of the `separate` networks. The `single` one has as many weights as
    all of these, and so has what reads the spectrum for the `invertible` one."""
    layers: int = Field(default=3, ge=1, le=16)
    couplings: int = Field(default=8, ge=2, le=64)
    """Of the `invertible` network."""
    draws: int = Field(default=256, ge=32, le=10_000)
    """From the distribution of an `invertible` network, for each row."""
    dropout: Share = 0.0
    epochs: Epochs | None = None
    """At most; by default 40."""
    patience: Epochs = 8
    batch: int = Field(default=256, ge=1, le=100_000)
    learning_rate: float = Field(default=2e-3, ge=1e-8, le=1)
    """Falls to nothing."""
    max_rows: int = Field(default=2_000, ge=100, le=100_000_000)
    """Rows of the catalogue that noise and gaps of the simulated spectra are taken from."""

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        for one in (self.dispersion, self.extinction, self.gas, self.signal_to_noise):
            if one is not None:
                must_rise(*one)
        if self.least_weight * self.components > 0.5:
            raise ValueError(
                f"least_weight: {self.components} components of {self.least_weight:g} each leave "
                "less than half of the light to be shared out"
            )
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """Those of the library."""
        return self.templates.files if self.templates else ()
