"""Settings of the families of models that read spectra."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from galbatch.spec.base import Location, Name, Settings, Slug, must_rise
from galbatch.spec.map_models import Cells, PropertyNames, SomWidth
from galbatch.spec.model_settings import Epochs, ModelSettings
from galbatch.spec.spectra import Wavelength

TriedRedshift = Annotated[float, Field(ge=-0.1, le=20)]


class TemplateFile(Settings):
    """Spectra at rest that others are fitted with."""

    file: Location
    """Of SDSS (`spEigenGal-*.fits`, `spEigenQSO-*.fits`, `spEigenStar-*.fits`) or of redrock
    (`rrtemplate-*.fits`), relative to the current directory."""
    of: Literal["GALAXY", "QSO", "STAR"] | None = None
    """The class that they are of; a file of redrock says it itself."""
    redshifts: tuple[TriedRedshift, TriedRedshift] | None = None
    """The lowest and the highest that are tried: by default -0.003 to 1 for galaxies, 0.003 to 5
    for quasars, and within 0.004 for stars."""
    vectors: Annotated[int, Field(ge=1, le=100)] | None = None
    """How many of the file's eigenspectra are used, from the first on; by default all."""

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.redshifts is not None:
            must_rise(*self.redshifts)
        return self


class ScanningModel(ModelSettings):
    """What models that try templates at all redshifts share."""

    only_predict: ClassVar[frozenset[str]] = frozenset({"keep_model"})

    polynomial: int = Field(default=2, ge=0, le=10)
    """Degree of the polynomial that is added to every template."""
    keep_model: bool = False
    """Keep the best model and what it leaves of each spectrum: the arrays `spec_model` and
    `spec_residual`."""


class Chi2ScanModel(ScanningModel):
    """Class and redshift of spectra: the least chi-square over templates and redshifts."""

    kind: Literal["chi2_scan"]
    name: Slug = "chi2_scan"
    templates: Annotated[tuple[TemplateFile, ...], Field(min_length=1)]
    max_rows: int = Field(default=20_000, ge=100, le=100_000_000)
    """Rows that the errors of redshifts are calibrated with, at most, where there are labels."""

    @property
    def files(self) -> tuple[str, ...]:
        """Those of the templates."""
        return tuple(one.file for one in self.templates)


class GasnetModel(ScanningModel):
    """Subclass, class and redshift of spectra, learned from simulated ones alone.

    After GaSNet-II (a residual network for 13 subclasses) and GaSNet-III (eigenspectra that are
    learned, and tried at all redshifts). No real spectrum and no label teaches it.
    """

    kind: Literal["gasnet"]
    name: Slug = "gasnet"
    mocks: int = Field(default=26_000, ge=130, le=10_000_000)
    """Simulated spectra that teach the network; a tenth of them ends the fit and calibrates it."""
    galaxies: int = Field(default=6, ge=1, le=20)
    """Vectors of the basis of galaxies."""
    quasars: int = Field(default=4, ge=1, le=20)
    """Vectors of the basis of quasars."""
    stars: int = Field(default=10, ge=1, le=1000)
    """Templates of each of the seven stellar subclasses, beside every star of the library."""
    at_rest: int = Field(default=1500, ge=50, le=100_000)
    """Galaxies and quasars without noise that each basis is learned from."""
    filters: Annotated[
        tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(min_length=1, max_length=6)
    ] = (24, 32, 48, 64)
    """Of the residual block at each scale; every one has half the pixels of that before."""
    kernel: int = Field(default=3, ge=1, le=99)
    coefficients: Literal["solved", "encoder"] = "solved"
    """How much of each template is in a spectrum: `solved` at every redshift; or
    said beforehand by an `encoder` for ten templates that are nowhere below 0, as GaSNet-III does
    it."""
    redshift_network: bool = True
    """Ten small networks for each subclass of galaxies and quasars, which tell the redshift too:
    `z_network` beside `z_spec_model`."""
    epochs: Epochs | None = None
    """At most; by default 12."""
    patience: Epochs = 4
    batch: int = Field(default=64, ge=1, le=100_000)
    learning_rate: float = Field(default=1e-3, ge=1e-8, le=1)

    @property
    def most_epochs(self) -> int:
        """`epochs`, or its default."""
        return self.epochs or 12


class SedAutoencoderModel(ModelSettings):
    """Spectra at rest in few numbers, and these on a map and in clusters (a thesis on SEDs).

    The encoder has blocks of a convolution and a pooling, the decoder mirrors it. What the thesis
    leaves open is chosen here: filters, kernels, pooling, patience, and all of the map.
    """

    kind: Literal["sed_autoencoder"]
    name: Slug = "sed_autoencoder"
    latents: int = Field(default=256, ge=1, le=4096)
    """Numbers that a spectrum becomes."""
    network: Literal["convolutional", "dense"] = "convolutional"
    """`convolutional` is that of the thesis. `dense` reads the first `components` principal
    components of the spectra: smaller, and far better where few latents are wanted."""
    components: int = Field(default=32, ge=2, le=4096)
    """Of a `dense` network."""
    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(max_length=8)] = (
        128,
        128,
    )
    """Units of the layers between components and latents of a `dense` network."""
    variational: bool = False
    """Learn a distribution of latents that is near a normal one; the column holds its mean."""
    kl_weight: float = Field(default=1e-3, ge=0, le=100)
    """Of the Kullback-Leibler divergence against the squared error, where `variational`."""
    points: int = Field(default=4096, ge=64, le=65_536)
    """Pixels of the network's linear grid of wavelengths; `pool` to the power of the number of
    `filters` must divide it."""
    normalise: tuple[Wavelength, Wavelength] = (4050.0, 4150.0)
    """A spectrum is divided by its mean flux between these wavelengths."""
    filters: Annotated[
        tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(min_length=1, max_length=8)
    ] = (16, 32, 64)
    """Of the convolution in each block."""
    kernel: int = Field(default=5, ge=1, le=99)
    pool: int = Field(default=4, ge=2, le=16)
    epochs: Epochs | None = None
    """At most; by default 50, of a `dense` network 60."""
    patience: Epochs = 10
    batch: int = Field(default=100, ge=1, le=100_000)
    learning_rate: float | None = Field(default=None, ge=1e-8, le=1)
    """By default 1e-3; of a `dense` network 2e-3, which falls to nothing."""
    clusters: int = Field(default=6, ge=2, le=1000)
    """k of k-means, on the latents."""
    som: tuple[Cells, Cells] = (10, 10)
    """Cells of the self-organising map along x and y."""
    som_passes: int = Field(default=20, ge=1, le=1000)
    som_width: tuple[SomWidth, SomWidth] = (4.0, 0.35)
    """Of the neighbourhood in cells, in the first and in the last pass. A smaller last one has a
    smaller error of quantisation, and a larger one of topology."""
    properties: PropertyNames = ()
    max_rows: int = Field(default=100_000, ge=100, le=100_000_000)

    @model_validator(mode="after")
    def _has_a_bottleneck(self) -> Self:
        must_rise(*self.normalise)
        smallest = self.pool ** len(self.filters)
        if self.variational and self.network == "dense":
            raise ValueError("variational: a dense network has no such form")
        if self.network == "convolutional" and self.points % smallest:
            raise ValueError(
                f"points: {self.points} cannot be pooled {len(self.filters)} times by "
                f"{self.pool}: write a multiple of {smallest}"
            )
        if self.som_width[0] < self.som_width[1]:
            raise ValueError("som_width: the first must not be smaller than the last")
        return self


class InfoVaeModel(ModelSettings):
    """Galaxies' spectra in six numbers that are spread like a normal distribution.

    After Portillo et al. (2020, AJ 160, 45; arXiv:2002.10464): an InfoVAE (Zhao, Song & Ermon 2017,
    arXiv:1706.02262) of spectra at rest. Its decoder makes a spectrum of any six numbers.
    """

    kind: Literal["infovae"]
    name: Slug = "infovae"
    latents: int = Field(default=6, ge=1, le=256)
    """Numbers that a spectrum becomes."""
    rest: tuple[Wavelength, Wavelength] = (3388.0, 8318.0)
    """The range at rest, in Angstrom. By default what spectra of SDSS have of galaxies up to a
    redshift of 0.36, in parts; a spectrum that has less than half of it gets no latents."""
    pixels: int = Field(default=1000, ge=50, le=5000)
    """Of the range, even in the logarithm of the wavelength."""
    redshift: Name | None = None
    """Column with the redshift of spectra as observed; by default that of the survey's label."""
    redshifts: tuple[TriedRedshift, TriedRedshift] = (0.002, 0.36)
    """Spectra as observed at other redshifts get no latents and teach nothing: stars are below."""
    components: int = Field(default=10, ge=1, le=50)
    """Directions that are learned of the spectra, to fill pixels without data by."""
    hidden: Annotated[
        tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(min_length=1, max_length=8)
    ] = (549, 110)
    """Units of the layers between pixels and latents; the decoder has them the other way round."""
    alpha: float = Field(default=0.0, ge=0, le=1)
    """1 - alpha is the weight of the Kullback-Leibler divergence of each spectrum."""
    mmd_weight: float = Field(default=1e4, ge=0, le=1e9)
    """Lambda: lambda + alpha - 1 is the weight of the maximum mean discrepancy between the latents
    and a normal distribution."""
    epochs: Epochs | None = None
    """At most; by default 100."""
    patience: Epochs = 10
    batch: int = Field(default=64, ge=2, le=100_000)
    learning_rate: float = Field(default=1e-3, ge=1e-8, le=1)
    """Of Adam; falls to nothing along a cosine."""
    max_rows: int = Field(default=100_000, ge=100, le=100_000_000)

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        must_rise(*self.rest)
        must_rise(*self.redshifts)
        if self.mmd_weight + self.alpha < 1:
            raise ValueError("mmd_weight: with alpha it must not be below 1")
        return self
