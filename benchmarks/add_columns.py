"""Five predicted columns for a catalogue of 123: galbatch beside LSDB, on the same two workers.

    python benchmarks/add_columns.py [--rows 1000000] [--repeats 3]

The catalogue is one that galbatch made: 113 columns of the simulated ALHAMBRA survey, seven more,
and `_healpix_29`, `_file`, `_row`. Everywhere the same function makes the same five columns from
the same 48 (magnitudes and errors), and costs next to nothing: reading, writing and
bookkeeping are what is compared.

- galbatch: its predict stage, from finding out what is pending to the published HATS extension;
  every file is synced, read back and verified, and has a receipt.
- rewrite: LSDB's `map_partitions` adds the columns, `write_catalog` writes all 128.
- separate: LSDB reads the 48 columns, the id and the position, and writes a catalogue of the id,
  the position and the five: the columns that galbatch's extension has.

LSDB writes with its own settings (zstd, level 15), and again with galbatch's level 1. Targets: at
least 10 x the rewrite and 2 x the separate catalogue.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from distributed import Client, WorkerPlugin

from galbatch.cluster import connect
from galbatch.cluster.workers import Workers
from galbatch.mock.observe import mock_batches
from galbatch.models.base import tabulate
from galbatch.run.loop import run
from galbatch.spec import load_survey
from galbatch.spec.cluster import LocalCluster
from galbatch.spec.columns import Column
from galbatch.spec.job import Job
from galbatch.spec.survey import Survey
from galbatch.stages import predictions
from galbatch.stages.base import AnyPending, AnyStage
from galbatch.stages.ingest import Ingest
from galbatch.stages.predict import Predict
from galbatch.stages.scan import Scan
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store.layout import Layout
from galbatch.store.model_facts import TrainFacts
from galbatch.values import PredictedColumn

WORKERS = 2
COLUMNS = 123
MODEL = "five"
OWN = 3
"""Columns that the store adds: `_healpix_29`, `_file`, `_row`."""
PREDICTED = (
    PredictedColumn("z_mode", "float32", "", "src.redshift.phot", "stands for a redshift"),
    PredictedColumn("z_err", "float32", "", "stat.error;src.redshift.phot", "for its error"),
    PredictedColumn("prob_star", "float32", "", "src.class.starGalaxy", "for a probability"),
    PredictedColumn("ood", "float32", "", "stat.value", "for a score"),
    PredictedColumn("quality", "int32", "", "meta.code.qual", "for a mask"),
)
LEVEL_1 = {"compression": "zstd", "compression_level": 1}


def five(columns: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Five numbers of each row, from its magnitudes and errors (alternately), in one pass."""
    total = np.zeros(len(columns[0]), np.float32)
    weighted, errors, seen = total.copy(), total.copy(), total.copy()
    for number, (value, error) in enumerate(zip(columns[::2], columns[1::2], strict=True)):
        good = (value > 0) & (value < 50)
        total += np.where(good, value, 0)
        weighted += np.where(good, number * value, 0)
        errors += np.where(good, error, 0)
        seen += good
    seen = np.maximum(seen, 1)
    return {
        "z_mode": weighted / seen / 100,
        "z_err": errors / seen,
        "prob_star": 1 / (1 + np.exp(total / seen - 22)),
        "ood": errors / (1 + total),
        "quality": (seen < len(columns) / 4).astype(np.int32),
    }


class Five:
    """A model for the predict stage: `five`."""

    columns = PREDICTED

    def __init__(self, inputs: tuple[str, ...]) -> None:
        self.card = SimpleNamespace(inputs=inputs, fingerprint="f" * 64)

    def predict(self, table: pa.Table) -> pa.Table:
        """As `models.base.Model`."""
        values = five([table[name].to_numpy() for name in self.card.inputs])
        return tabulate(self.columns, values)


class UseFive(WorkerPlugin):
    """Let the predict stage of a process load `Five`, and import what LSDB's tasks need."""

    def __init__(self, inputs: tuple[str, ...]) -> None:
        self.inputs = inputs

    def setup(self, worker: object) -> None:
        """Called on each worker before it has a task."""
        import lsdb  # noqa: F401

        mock.patch.object(predictions, "load_model", lambda folder, **_: Five(self.inputs)).start()


def add_five(frame: Any, inputs: tuple[str, ...], kept: list[str] | None) -> Any:
    """For LSDB: the frame (or some of its columns) with five more."""
    values = five([frame[name].to_numpy() for name in inputs])
    return (frame if kept is None else frame[kept]).assign(**values)


class Quiet:
    """A monitor that shows nothing."""

    def start(self, stage: AnyStage, pending: AnyPending) -> None:
        """As `run.Monitor`."""

    def progress(self, unit: str, done: int, total: int | None, note: str) -> None:
        """As `run.Monitor`."""

    def retry(self, result: Any, attempt: int) -> None:
        """As `run.Monitor`; nothing may fail here."""
        raise result.error

    failed = None

    def waiting(self, text: str) -> None:
        """As `run.Monitor`."""

    def end(self, record: Any) -> None:
        """As `run.Monitor`."""


def make_catalogue(folder: Path, rows: int, workers: Workers) -> Site:
    """A store with 123 columns, and the receipt of a model that was trained on it."""
    alhambra = load_survey("alhambra")
    more = COLUMNS - OWN - len(alhambra.columns)
    added = tuple(Column(name=f"extra_{number}", dtype="float32") for number in range(more))
    survey = Survey.model_validate(
        alhambra.model_dump() | {"columns": (*alhambra.columns, *added)}, from_attributes=True
    )
    files = folder / "files"
    files.mkdir()
    rng = np.random.default_rng(2)
    for number, table in enumerate(mock_batches(alhambra, rows, 1, 131_072)):
        for column in added:
            values = pa.array(rng.standard_normal(len(table), np.float32))
            table = table.append_column(column.name, values)
        pq.write_table(table, files / f"{number:03}.parquet", compression="zstd")
    job = Job.model_validate(
        {
            "name": "add_columns",
            "survey": "alhambra",
            "source": {"kind": "files", "paths": [str(files / "*.parquet")]},
            "store": str(folder / "store"),
            "models": [{"kind": "photometric", "name": MODEL}],
        }
    )
    site = Site(job, survey, Layout(folder / "store"))
    run((Scan(), Ingest()), site, lambda: nullcontext(workers), Quiet())  # type: ignore[arg-type]
    site.layout.model(MODEL).mkdir(parents=True)
    trained = (
        Snapshot(site)
        .versions.need(job.models[0], MODEL)
        .receipt(
            digest="",
            rows=0,
            outputs={},
            seconds=0,
            facts=TrainFacts(rows=0, fingerprint="f" * 64, catalogue="").to_json(),
        )
    )
    site.book.put(trained)
    return site


def with_galbatch(site: Site, workers: Workers) -> Path:
    """Predict, as `galbatch run` does."""
    outcome = run((Predict(),), site, lambda: nullcontext(workers), Quiet())  # type: ignore[arg-type]
    assert outcome.records[0].failed == 0
    return site.layout.extension(MODEL)


def forget(site: Site) -> None:
    """Take galbatch's predictions away again."""
    for unit in site.book.all("predict"):
        site.book.forget("predict", unit)
    shutil.rmtree(site.layout.predictions)
    site.layout.extension_properties(MODEL).unlink()


def with_lsdb(
    site: Site, client: Client, target: Path, separate: bool, options: dict[str, Any] | None
) -> Path:
    """The rewrite, or the separate catalogue."""
    import lsdb

    survey = site.survey
    assert survey.sky is not None
    inputs = survey.photometry_columns
    kept = [survey.id.column, survey.sky.ra, survey.sky.dec] if separate else None
    columns: Any = [*kept, *inputs] if kept else "all"
    with warnings.catch_warnings(), client.as_current():
        warnings.simplefilter("ignore")
        catalogue = lsdb.open_catalog(site.layout.catalogue, columns=columns)  # type: ignore[attr-defined]
        added = catalogue.map_partitions(add_five, inputs=inputs, kept=kept)
        added.write_catalog(
            target,
            catalog_name="with_five",
            as_collection=False,
            overwrite=True,
            progress_bar=False,
            write_table_kwargs=options,
        )
    return target


def check(site: Site, made: dict[str, Path]) -> None:
    """Check that all have the same values in the same rows."""
    survey = site.survey
    found = {}
    for name, folder in made.items():
        paths = sorted((folder / "dataset").rglob("Npix=*.parquet"))
        wanted = [survey.id.column, *(column.name for column in PREDICTED)]
        tables = [pq.ParquetFile(path).read(columns=wanted) for path in paths]
        found[name] = pa.concat_tables(
            [table.select(wanted).replace_schema_metadata() for table in tables],
            promote_options="permissive",
        ).sort_by(survey.id.column)
    first, *others = found.values()
    for other in others:
        for name in first.column_names:
            np.testing.assert_array_equal(first[name].to_numpy(), other[name].to_numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    arguments = parser.parse_args()
    cluster = LocalCluster(workers=WORKERS, memory="6 GiB")
    with (
        tempfile.TemporaryDirectory(dir=arguments.folder) as temporary,
        connect(cluster, Path(temporary) / "scratch", Path(temporary) / "logs", {}) as workers,
    ):
        assert workers is not None
        compare(Path(temporary), arguments.rows, arguments.repeats, workers)


def compare(folder: Path, rows: int, repeats: int, workers: Workers) -> None:
    """Make the catalogue, time all ways by turns, and print."""
    client = workers.client
    inputs = load_survey("alhambra").photometry_columns
    client.register_plugin(UseFive(inputs))
    UseFive(inputs).setup(None)
    site = make_catalogue(folder, rows, workers)
    schema = pq.read_schema(site.layout.dataset() / "_common_metadata")
    partitions = len(list(site.layout.dataset().rglob("Npix=*.parquet")))
    lsdb = partial(with_lsdb, site, client)
    ways: dict[str, Callable[[Path], Path]] = {
        "galbatch": lambda _: with_galbatch(site, workers),
        "separate, zstd-1": partial(lsdb, separate=True, options=LEVEL_1),
        "separate, zstd-15": partial(lsdb, separate=True, options=None),
        "rewrite, zstd-1": partial(lsdb, separate=False, options=LEVEL_1),
        "rewrite, zstd-15": partial(lsdb, separate=False, options=None),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    made: dict[str, Path] = {}
    with_galbatch(site, workers)  # once for the imports of both, which a longer run does not see
    forget(site)
    lsdb(folder / "first", separate=True, options=LEVEL_1)
    for turn in range(repeats):
        for name, way in ways.items():
            if name == "galbatch" and turn:
                forget(site)
            began = time.perf_counter()
            made[name] = way(folder / name.replace(", ", "-"))
            seconds[name].append(time.perf_counter() - began)
    check(site, made)
    print(f"{rows:,} rows x {len(schema)} columns in {partitions} partitions, ", end="")
    print(f"{WORKERS} workers; all five columns of all ways are equal\n")
    print(f"{'':20}{'seconds':>24}{'krows/s':>10}{'MB':>8}{'galbatch is':>14}")
    middle = {name: median(taken) for name, taken in seconds.items()}
    for name, taken in seconds.items():
        ratio = f"{middle[name] / middle['galbatch']:.1f} x" if name != "galbatch" else ""
        size = sum(path.stat().st_size for path in made[name].rglob("*") if path.is_file())
        words = " ".join(f"{one:.2f}" for one in taken)
        rate = rows / middle[name] / 1e3
        print(f"{name:20}{words:>24}{rate:10.1f}{size / 1e6:8.0f}{ratio:>14}")
    print("\ntargets: >= 10 x the rewrite, >= 2 x the separate catalogue")


if __name__ == "__main__":
    main()
