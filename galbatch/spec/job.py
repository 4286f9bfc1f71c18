"""What to do: `jobs/*.yaml`."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import (
    Field,
    SerializeAsAny,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from galbatch.spec.base import (
    Location,
    Magnitude,
    Name,
    Seed,
    Settings,
    Share,
    Slug,
    must_rise,
)
from galbatch.spec.cluster import Cluster, LocalCluster
from galbatch.spec.formats import Format
from galbatch.spec.grid import RedshiftGrid
from galbatch.spec.labels import Condition
from galbatch.spec.map_models import SomModel
from galbatch.spec.model_settings import Epochs, ModelSettings
from galbatch.spec.population_models import SspMixtureModel
from galbatch.spec.spectral_models import (
    Chi2ScanModel,
    GasnetModel,
    InfoVaeModel,
    SedAutoencoderModel,
)
from galbatch.spec.training import TrainingProcesses
from galbatch.values import Target

BatchRows = Annotated[int, Field(ge=1, le=10_000_000)]


class FilesSource(Settings):
    """Catalogue files."""

    kind: Literal["files"]
    paths: tuple[Location, ...] = Field(min_length=1)
    """Files, globs and folders of HATS catalogues, relative to the current directory."""
    format: Format | None = None
    """By default from the file's ending."""
    batch_rows: BatchRows = 65_536
    """Rows read at a time, at most."""
    bad_rows: float = Field(default=0.01, ge=0, le=1)
    """Share of malformed rows up to which they are quarantined; more, and the run stops."""


class MockSource(Settings):
    """A simulated sky seen through the survey."""

    kind: Literal["mock"]
    rows: int = Field(ge=1, le=10_000_000_000)
    seed: Seed = 0
    batch_rows: BatchRows = 65_536
    """Rows made at a time."""


Source = Annotated[FilesSource | MockSource, Field(discriminator="kind")]


class PartitionSpec(Settings):
    """How the catalogue is cut."""

    rows: int = Field(default=50_000, ge=1, le=100_000_000)
    """Rows in a partition, at most (as far as `max_order` allows)."""
    max_order: int = Field(default=8, ge=0, le=13)
    """Highest HEALPix order of a partition."""


class SkySplit(Settings):
    """Whole sky cells are held out, so that no field is on both sides."""

    kind: Literal["sky"] = "sky"
    order: int = Field(default=9, ge=0, le=20)
    """HEALPix order of the cells (9: 6.9 arcmin)."""
    test: Share = 0.2
    """Share held out: never trained, tuned or calibrated on."""
    validation: float = Field(default=0.1, gt=0, lt=1)
    """Share for early stopping and calibration."""
    seed: Seed = 0


class IdSplit(Settings):
    """Rows are held out by a hash of their id (a survey without positions)."""

    kind: Literal["id"] = "id"
    test: Share = 0.2
    validation: float = Field(default=0.1, gt=0, lt=1)
    seed: Seed = 0


Split = Annotated[SkySplit | IdSplit, Field(discriminator="kind")]


class StandardClean(Settings):
    """Sentinels by their meaning, magnitudes to fluxes with errors, masks."""

    kind: Literal["standard"] = "standard"
    extinction: bool = False
    """Correct for Galactic dust with the survey's E(B-V) column."""
    error_floor: Share = 0.0
    """Added in quadrature to every error, as a fraction of the flux."""


class ThesisClean(Settings):
    """The recipe of the thesis: -99 becomes 99, then everything is clipped."""

    kind: Literal["thesis"] = "thesis"
    low: float = Field(default=0.0, ge=-1e6, le=1e6)
    high: float = Field(default=27.0, ge=-1e6, le=1e6)

    @model_validator(mode="after")
    def _rises(self) -> Self:
        must_rise(self.low, self.high)
        return self


class PhotometricModel(ModelSettings):
    """The default: one trunk over cleaned fluxes, a head for each target."""

    only_predict: ClassVar[frozenset[str]] = frozenset({"monte_carlo", "redshift_grid"})

    kind: Literal["photometric"]
    name: Slug = "photometric"
    targets: Annotated[tuple[Target, ...], Field(min_length=1)] | None = None
    """By default all that the catalogue has labels for."""
    bands: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    """By default all bands of the survey."""
    morphology: bool = True
    """Use the survey's morphology columns."""
    clean: StandardClean = StandardClean()
    members: int | None = Field(default=None, ge=1, le=32)
    """Networks in the ensemble. By default 2, or those of `pretrained`. More of them tell better
    what they do not agree on."""
    width: int | None = Field(default=None, ge=4, le=4096)
    """Units in a layer of the trunk. By default 256, 384 for 200,000 rows and more, or those of
    `pretrained`."""
    layers: int | None = Field(default=None, ge=1, le=16)
    """By default 4, or those of `pretrained`."""
    bins: int | None = Field(default=None, ge=20, le=2000)
    """Cells of the redshift distribution, even in ln(1 + z) over the range of the labels. By
    default as many as make them a tenth as wide as the bands, from 300 to 900; the same as those of
    `pretrained`, where they hold the labels."""
    epochs: Epochs | None = None
    """At most; early stopping may end it before. By default 40, fewer for many rows."""
    patience: Epochs = 15
    batch: int | None = Field(default=None, ge=1, le=10_000_000)
    """Rows in a step over all replicas. By default 256, 512 for 200,000 rows and more."""
    learning_rate: float = Field(default=2e-3, ge=1e-8, le=1)
    """For steps of 256 rows; for others by the square root of their size."""
    weight_decay: float = Field(default=0.3, ge=0, le=100)
    """For a fit of 3,000 steps; a longer one has less in each."""
    dropout: Share | None = None
    """Share of the units that a step leaves out. By default 0.1, 0.05 for 200,000 rows and more."""
    noise: float = Field(default=0.3, ge=0, le=10)
    """Training fluxes are perturbed by this many of their own errors."""
    drop_bands: Share = 0.02
    """Probability that a band of a training row is taken for not observed."""
    fainter: float = Field(default=1.0, ge=0, le=10)
    """Copies of each row with a class label, made as faint and noisy as the catalogue goes beyond
    the labels. None are made where the labels reach as far as the catalogue."""
    match: bool = False
    """Weigh labels that are brighter than the catalogue so that they stand for it, in magnitude and
    colours. Labels that are like the catalogue are left alone. For small networks: one that can
    follow the bright rows and the faint ones alike loses more by fewer effective rows."""
    pretrained: Location | None = None
    """Begin with this trained model: its folder, e.g. `stores/mock/models/photometric`, relative to
    the current directory, where it has to stay until this one is trained. Features and targets are
    matched by name; `members`, `width` and `layers` are its own, and it is taught on at a
    fifth of `learning_rate`. Rows that are held out here should have been held out there: the same
    `split`, where it is of the same survey.
    """
    monte_carlo: int = Field(default=0, ge=0, le=10_000)
    """How often fluxes are drawn at random within their errors when predicting, to tell photometric
    noise (`*_noise`) from the model's own doubt (`*_model`); 0 for none, 100 is enough. Another
    number predicts again, and trains nothing."""
    redshift_grid: RedshiftGrid | None = None
    """Predict p(z) of every row on this grid as well: the column `pz`, or for more than 256 points
    an array of that name (Zarr, in `arrays/`). By default it is kept in the compact form of its
    quantiles alone. Another grid predicts again, and trains nothing."""
    max_rows: int = Field(default=400_000, ge=100, le=100_000_000)
    """Labelled rows to train on, at most (a random sample of them)."""
    seed: Seed = 0

    @model_validator(mode="after")
    def _draws_scatter(self) -> Self:
        if self.monte_carlo == 1:
            raise ValueError("monte_carlo: one draw has no scatter; 0 for none, or 2 and more")
        return self

    @model_validator(mode="after")
    def _has_a_redshift(self) -> Self:
        if self.redshift_grid and self.targets and "redshift" not in self.targets:
            raise ValueError("redshift_grid: 'redshift' is not among the targets")
        return self

    @property
    def begins_with(self) -> str | None:
        """`pretrained`."""
        return self.pretrained


class ThesisModel(ModelSettings):
    """The networks of Cacho (2020), as a reference to compare against."""

    kind: Literal["thesis"]
    name: Slug = "thesis"
    targets: Annotated[tuple[Target, ...], Field(min_length=1)] | None = None
    layout: Literal["text", "slides"] = "text"
    """The thesis' text and its slides give different hidden layers."""
    clean: ThesisClean = ThesisClean()
    sample: float = Field(default=1.0, gt=0, le=1)
    """Share of the rows to train on."""
    max_rows: int = Field(default=1_000_000, ge=100, le=100_000_000)
    """Labelled rows to take that share of, at most (a random sample of them)."""
    polynomial: int = Field(default=5, ge=0, le=12)
    """Degree of the correction of predicted to expected values; 0 for none."""
    epochs: Epochs | None = None
    """By default the thesis' own number for each network."""
    seed: Seed = 42


_Shipped = (
    PhotometricModel
    | ThesisModel
    | Chi2ScanModel
    | GasnetModel
    | SedAutoencoderModel
    | InfoVaeModel
    | SomModel
    | SspMixtureModel
)


def _of_its_kind(model: Any, shipped: ValidatorFunctionWrapHandler) -> Any:
    """Settings of a family that is not shipped are its own class's to read."""
    kind = model.get("kind") if isinstance(model, dict) else getattr(model, "kind", None)
    settings = ModelSettings.of_kind.get(kind) if isinstance(kind, str) else None
    if settings is None or settings in get_args(_Shipped):
        return shipped(model)
    return settings.model_validate(model)


_OfTheShipped = Annotated[_Shipped, Field(discriminator="kind")]
AnyModel = Annotated[SerializeAsAny[_OfTheShipped], WrapValidator(_of_its_kind)]


class DuckdbSink(Settings):
    """A DuckDB file."""

    kind: Literal["duckdb"]
    path: Location
    table: Slug | None = None
    """Table that holds the predictions of the current version; by default a table for each version,
    of its name."""


SinkSettings = Annotated[DuckdbSink, Field(discriminator="kind")]


class ReportSpec(Settings):
    """The HTML page."""

    magnitude_bins: Annotated[tuple[Magnitude, ...], Field(min_length=2)] | None = None
    """Edges for statistics by reference magnitude; by default from the data."""
    max_points: int = Field(default=20_000, ge=100, le=1_000_000)
    """Points in a scatter plot, at most."""
    max_rows: int = Field(default=300_000, ge=100, le=100_000_000)
    """Held-out rows that are judged, at most (a random sample of them)."""
    where: tuple[Condition, ...] = ()
    """Only held-out rows for which these hold are judged."""

    @model_validator(mode="after")
    def _edges_rise(self) -> Self:
        edges = self.magnitude_bins or ()
        if any(low >= high for low, high in pairwise(edges)):
            raise ValueError("magnitude_bins: each edge must be above the one before it")
        return self


class Job(Settings):
    """A job: what to do."""

    name: Slug
    site: Slug | None = None
    """Take `cluster` and `scratch` from `~/.config/galbatch/sites/NAME.yaml`, but for what the job
    says itself; nothing where the job is for another kind of cluster."""
    survey: Location
    """Name of a survey that galbatch ships, or a path to a YAML file."""
    source: Source
    store: Location
    """Folder that the run leaves its results in, relative to the current directory, or a place in
    object storage: s3://bucket/folder."""
    scratch: Location | None = None
    """Folder for what lives only during a run, on a disk that all workers share: a folder of the
    store's own is made in it, and nothing else there is touched. By default `work` in the store;
    one of this machine's for a store in object storage."""
    partition: PartitionSpec = PartitionSpec()
    split: Split | None = None
    """By default by sky cell, or by id for a survey without positions."""
    models: tuple[AnyModel, ...] = Field(min_length=1)
    """The first is the one whose predictions lead the report."""
    sinks: tuple[SinkSettings, ...] = ()
    report: ReportSpec = ReportSpec()
    cluster: Cluster = LocalCluster()
    training: TrainingProcesses = TrainingProcesses()
    mixed_devices: bool = False
    """Let CPUs and GPUs, or several kinds of GPU, make the predictions of one version of a model.
    They agree to about 1e-5, but not in the last digits. By default those of one kind are kept, and
    others are made again."""

    @model_validator(mode="before")
    @classmethod
    def _grid_is_a_models(cls, settings: Any) -> Any:
        if isinstance(settings, dict) and "redshift_grid" in settings:
            raise ValueError(
                "'redshift_grid' is a setting of a photometric model: write it in 'models', beside "
                "that model's 'kind'"
            )
        return settings

    @model_validator(mode="after")
    def _tables_differ(self) -> Self:
        if len(self.models) > 1 and any(sink.table for sink in self.sinks):
            raise ValueError("sinks: several models cannot share one 'table'; leave it out")
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [model.name.lower() for model in self.models]
        if len(set(names)) != len(names):
            raise ValueError("two models have the same name")
        for name in names:
            if re.search(r"_v\d+$", name):
                raise ValueError(f"model name '{name}': the ending _v<number> is for its versions")
        return self
