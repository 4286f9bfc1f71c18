"""Every path of a store. Nothing else builds one."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from galbatch.errors import SpecError
from galbatch.store.locations import is_remote
from galbatch.store.units import rejected_unit, split_rejected
from galbatch.values import Partition

CATALOGUE = "catalogue"
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_PIXELS_PER_FOLDER = 10_000
_WORK = "work/"


def file_name(unit: str) -> str:
    """A file name for a unit of work: itself where that is safe, else a readable hash of it.

    Parameters
    ----------
    unit : str
        A partition, file, model or sink.

    Returns
    -------
    str
        At most 100 characters, no separators, different for different units.
    """
    if _SAFE.fullmatch(unit):
        return unit
    readable = re.sub(r"[^A-Za-z0-9]+", "-", unit).strip("-")[-60:].lstrip("-") or "unit"
    return f"{readable}.{hashlib.sha256(unit.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class Layout:
    """The folders and files of one store.

    Parameters
    ----------
    root : Path
        Folder of the store: a HATS collection, where the survey has a sky. It may be in object
        storage.
    scratch : Path, optional
        Folder for what lives only during a run, on a disk that all workers share: every store
        has a folder of its own in it. By default `work` in the store, or one of this machine's
        where that is in object storage.
    """

    root: Path
    scratch: Path | None = None

    @property
    def identity(self) -> Path:
        """Which job made the store."""
        return self.root / "galbatch.json"

    @property
    def lock(self) -> Path:
        """Held by the run that works on the store."""
        return self.root / ".galbatch.lock"

    @property
    def collection(self) -> Path:
        """HATS properties of the collection."""
        return self.root / "collection.properties"

    @property
    def sources(self) -> Path:
        """Which file each `_file` of the catalogue is."""
        return self.root / "sources.json"

    @property
    def catalogue(self) -> Path:
        """The survey's own catalogue."""
        return self.root / CATALOGUE

    @property
    def predictions(self) -> Path:
        """Parent of the extension catalogues."""
        return self.root / "predictions"

    def extension(self, model: str) -> Path:
        """The extension catalogue with one model's predictions."""
        return self.predictions / model

    def extension_properties(self, model: str) -> Path:
        """HATS properties that join a model's predictions to the catalogue.

        Raises
        ------
        SpecError
            If the model's name would take the place of the collection's own properties.
        """
        if model.lower() == "collection":
            raise SpecError(f"model '{model}'", "this name is taken in a store", "rename the model")
        return self.root / f"{model}.properties"

    def table(self, model: str | None = None) -> Path:
        """The catalogue, or the extension catalogue of a model."""
        return self.catalogue if model is None else self.extension(model)

    def dataset(self, model: str | None = None) -> Path:
        """Folder of the partitions of the catalogue, or of a model's predictions."""
        return self.table(model) / "dataset"

    def partition(self, partition: Partition, model: str | None = None) -> Path:
        """The Parquet file of one partition of the catalogue, or of a model's predictions."""
        if partition.kind == "rows":
            return self.dataset(model) / f"{partition.name}.parquet"
        # The naming of HATS, checked against the hats library in the tests: importing that
        # library takes seconds, which every worker would pay for a path.
        folder = partition.index // _PIXELS_PER_FOLDER * _PIXELS_PER_FOLDER
        return (
            self.dataset(model)
            / f"Norder={partition.order}"
            / f"Dir={folder}"
            / f"Npix={partition.index}.parquet"
        )

    def arrays(self, model: str | None = None) -> Path:
        """The Zarr group with the arrays of the catalogue's rows, or of a model's predictions.

        Raises
        ------
        SpecError
            If the model's name would take the place of the catalogue.
        """
        if model is not None and model.lower() == CATALOGUE:
            raise SpecError(f"model '{model}'", "this name is taken in a store", "rename the model")
        return self.root / "arrays" / (CATALOGUE if model is None else model)

    def model(self, name: str) -> Path:
        """Folder of a trained model: its card and networks."""
        return self.root / "models" / name

    @property
    def receipts(self) -> Path:
        """Folder of all receipts."""
        return self.root / "receipts"

    def receipt(self, stage: str, unit: str) -> Path:
        """The receipt of one unit of a stage."""
        return self.receipts / stage / f"{file_name(unit)}.json"

    @property
    def quarantine(self) -> Path:
        """Folder of what was rejected."""
        return self.root / "quarantine"

    def rejected(self, unit: str) -> Path:
        """Rows rejected by one unit of work: of `predict.o3-p7`, say, the name begins so, too."""
        kind, rest = split_rejected(unit)
        name = rejected_unit(kind, file_name(rest)) if kind else file_name(unit)
        return self.quarantine / f"{name}.parquet"

    def damaged(self, path: Path) -> Path:
        """Where a file of the store is kept that turned out to be damaged."""
        return self.quarantine / "damaged" / self.relative(path)

    @property
    def history(self) -> Path:
        """The log of all runs, a line for each stage."""
        return self.root / "history.jsonl"

    @property
    def report(self) -> Path:
        """Folder of the HTML report."""
        return self.root / "report"

    @property
    def work(self) -> Path:
        """Temporary files of this store's runs: never read by users, removed when they are done."""
        if self.scratch is None and not is_remote(self.root):
            return self.root / "work"
        root = self.root if is_remote(self.root) else self.root.absolute()
        name = hashlib.sha256(str(root).encode()).hexdigest()[:16]
        if self.scratch is not None:
            # Other stores may have the same scratch, and the user files in it.
            return self.scratch / f"galbatch-{name}"
        cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
        try:
            return Path(cache).expanduser() / "galbatch" / name
        except RuntimeError as error:
            raise SpecError(
                "scratch", "there is no home to keep it in", "name a folder for it in the job"
            ) from error

    @property
    def logs(self) -> Path:
        """Output of the jobs of a queue: beside the folder that a run may remove."""
        in_store = self.scratch is None and not is_remote(self.root)
        beside = self.root if in_store else self.work
        return beside.with_name(f"{beside.name}.logs")

    @property
    def queue_jobs(self) -> Path:
        """Folder of the records of a queue's jobs."""
        return self.logs / "jobs"

    def queue_job(self, kind: str, number: str) -> Path:
        """The record of one of them."""
        return self.queue_jobs / f"{file_name(f'{kind}-{number}')}.json"

    @property
    def driver_script(self) -> Path:
        """The job of `galbatch submit`."""
        return self.logs / "driver.sh"

    @property
    def drivers(self) -> Path:
        """What the drivers that followed each other say to the next one."""
        return self.logs / "drivers.json"

    @property
    def cancelled(self) -> Path:
        """There from `galbatch cancel` until the job is submitted again: no driver goes on."""
        return self.logs / "cancelled"

    @property
    def shared(self) -> dict[str, Path]:
        """A file on each disk that workers must share, by the job's setting that names the disk."""
        files = {"scratch": self.work / "token"}
        if is_remote(self.root):
            return files
        return {"store": self.root / ".galbatch.token", **files}

    @property
    def shards(self) -> Path:
        """Rows between scan and ingest."""
        return self.work / "shards"

    def shard(self, name: str) -> Path:
        """One batch of rows between scan and ingest."""
        return self.shards / f"{file_name(name)}.arrow"

    @property
    def staging(self) -> Path:
        """Where files are prepared that a library writes by itself."""
        return self.work / "staging"

    @property
    def notes(self) -> Path:
        """Notes on what partitions being written are made from."""
        return self.work / "notes"

    def note(self, partition: Partition) -> Path:
        """The note of one of these partitions."""
        return self.notes / f"{partition.name}.json"

    @property
    def spill(self) -> Path:
        """Where a database may write what does not fit in memory."""
        return self.work / "spill"

    def relative(self, path: Path) -> str:
        """A path of the store as receipts write it; in the scratch folder, under `work`."""
        if path.is_relative_to(self.work):
            return f"{_WORK}{path.relative_to(self.work).as_posix()}"
        return path.relative_to(self.root).as_posix()

    def output(self, name: str) -> Path:
        """The inverse of `relative`."""
        return self.work / name.removeprefix(_WORK) if name.startswith(_WORK) else self.root / name
