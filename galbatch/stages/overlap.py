"""What a run reads is apart from what it writes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from galbatch.errors import SpecError
from galbatch.readers.patterns import takes
from galbatch.readers.remote import is_url
from galbatch.sinks.open import sink_of
from galbatch.spec.job import FilesSource, Job
from galbatch.stages.site import Site
from galbatch.store.identity import read_identity
from galbatch.store.layout import Layout
from galbatch.values import Partition

_APART = "choose another 'store', or a pattern that leaves it out"


def keep_apart(site: Site, files: Iterable[str]) -> None:
    """Refuse sources that this store's own runs write.

    Parameters
    ----------
    site : Site
    files : iterable of str
        Those that there are.

    Raises
    ------
    SpecError
        If one of them is below the store or its scratch folder, by whatever way, or a database
        that predictions are appended to.
    """
    places = {_real(str(site.layout.root)): "the store itself"}
    places[_real(str(site.layout.work))] = "the scratch folder of this store"
    databases = {_real(path) for path in _databases(site.job)}

    @cache
    def folder_of(folder: str) -> str:
        real = _real(folder)
        return next((what for place, what in places.items() if _below(real, place)), "")

    for file in files:
        # One look at a folder for all files in it.
        folder = file.rpartition("/")[0] or "."
        if not is_url(file) and Path(file).is_symlink():
            folder = str(Path(_real(file)).parent)
        if what := folder_of(folder):
            raise SpecError("source.paths", f"{file} is in {what}", _APART)
        if databases and _real(file) in databases:
            raise SpecError(
                "source.paths",
                f"{file} is the database that 'sinks' names",
                "give the sink another 'path', or the source a pattern that leaves it out",
            )


def refuse_what_comes(site: Site) -> None:
    """Refuse a pattern that would take what the first run is going to write.

    Raises
    ------
    SpecError
        Naming the pattern.
    """
    source = site.job.source
    if not isinstance(source, FilesSource):
        return
    for pattern in source.paths:
        for file in _to_come(site):
            if takes(pattern, str(file)):
                root = site.layout.root
                said = f"'{pattern}' takes what is in the store itself ({root}) once it is there"
                if not _below(_real(str(file)), _real(str(root))):
                    said = f"'{pattern}' takes {file}, which the run writes"
                raise SpecError("source.paths", said, _APART)


def other_stores(files: Sequence[str]) -> tuple[str, ...]:
    """What is to be said of files that are in stores of other jobs.

    Parameters
    ----------
    files : sequence of str

    Returns
    -------
    tuple of str
        A line for each store.
    """

    @cache
    def store_of(folder: Path) -> Path | None:
        if Layout(folder).identity.is_file():
            return folder
        return store_of(folder.parent) if folder != folder.parent else None

    local = [Path(file).absolute().parent for file in files if not is_url(file)]
    stores = Counter(store for folder in local if (store := store_of(folder)) is not None)
    lines = []
    for store, number in stores.items():
        try:
            identity = read_identity(Layout(store))
        except SpecError:  # of another version, or damaged: a store all the same
            identity = None
        whose = f"of job '{identity.job}'" if identity else "of another job"
        count = f"{number:,} file{'s are' if number > 1 else ' is'}"
        lines.append(f"{count} in the store {whose}, {store}")
    return tuple(lines)


def _to_come(site: Site) -> Iterator[Path]:
    """One of every kind of file that runs leave."""
    layout = site.layout
    kind: Partition = (
        Partition("healpix", 0, 0) if site.survey.sky is not None else Partition("rows", 0, 0)
    )
    yield from (layout.identity, layout.sources, layout.history, layout.receipt("ingest", "x"))
    yield from (layout.report / name for name in ("index.html", "report.json"))
    yield from (layout.rejected("rows.x"), layout.shard("000000-000000"), layout.collection)
    for model in (None, *(model.name for model in site.job.models)):
        yield layout.partition(kind, model)
        table = layout.table(model)
        names = ("skymap.fits", "partition_info.csv", "properties", "hats.properties")
        yield from (table / name for name in names)
        yield layout.dataset(model) / "_metadata"
        if model is not None:
            yield layout.arrays(model) / "pz" / "zarr.json"
            names = ("card.json", "history.json", "network.onnx", "network.weights.h5")
            yield from (layout.model(model) / name for name in names)
    for path in _databases(site.job):
        yield Path(path).absolute()


def _databases(job: Job) -> list[str]:
    return [str(file) for sink in job.sinks for file in sink_of(sink).files]


def _real(path: str) -> str:
    return path.rstrip("/") if is_url(path) else os.path.realpath(path)


def _below(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place}/")
