"""Files that make a folder of partitions a catalogue which other programs open.

With a sky: a HATS collection of the survey's catalogue and one extension per model. Without:
Parquet datasets with `_metadata`. Everything here is made from the partitions, may be made
again at any time, and has the same bytes each time.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from galbatch.errors import DataError, counted
from galbatch.spec.survey import Survey
from galbatch.store.commit import TEMPORARY, commit_bytes, remove_unfinished
from galbatch.store.layout import CATALOGUE, Layout
from galbatch.store.locations import is_remote
from galbatch.store.partitions import HEALPIX_ORDER, PixelCounts
from galbatch.store.tables import HEALPIX, read_schema
from galbatch.values import Partition

# hats is imported inside the functions: it takes seconds, and only these few need it.

MOST_IN_METADATA = 1_000
"""Partitions whose footers are also gathered in one file."""
SKYMAP_ORDER = 8
"""Highest order of the sky map: order 8 has 786,432 pixels."""


def finish_catalogue(
    layout: Layout,
    survey: Survey,
    partitions: Sequence[Partition],
    *,
    fingerprint: str,
    histogram: PixelCounts | None = None,
) -> dict[str, str]:
    """Publish the catalogue: properties, partition list, metadata, sky map, collection.

    Files in the dataset that belong to none of the partitions (of an earlier plan) are removed.

    Parameters
    ----------
    layout : Layout
    survey : Survey
    partitions : sequence of Partition
        Those that are written.
    fingerprint : str
        Digest of the catalogue's content. Predictions made from another one are not listed in
        the collection.
    histogram : PixelCounts, optional
        Rows over the sky; needed for a survey with a sky.

    Returns
    -------
    dict of str to str
        Files that are its own, relative to the store, each with its SHA-256: not the collection's,
        which all share.

    Raises
    ------
    DataError
        If a partition's file is missing.
    """
    written = _finish_table(layout, None, survey, partitions, fingerprint, histogram)
    _write_collection(layout, survey)
    return written


def finish_extension(
    layout: Layout,
    survey: Survey,
    model: str,
    partitions: Sequence[Partition],
    columns: Sequence[str],
    *,
    fingerprint: str,
    catalogue: str,
    histogram: PixelCounts | None = None,
) -> dict[str, str]:
    """Publish a model's predictions as an extension of the catalogue.

    Parameters
    ----------
    layout : Layout
    survey : Survey
    model : str
        Its name; `lsdb`'s ``load_extension(model)``.
    partitions : sequence of Partition
        Those that are written: a partition that failed is left out, and its rows have no
        predictions.
    columns : sequence of str
        Predicted columns. A partition also holds `_healpix_29`, the id and the position.
    fingerprint : str
        Of the model.
    catalogue : str
        The `fingerprint` that the catalogue was finished with.
    histogram : PixelCounts, optional
        Rows over the sky; needed for a survey with a sky.

    Returns
    -------
    dict of str to str
        Files that are its own, relative to the store, each with its SHA-256: not the collection's,
        which all share.

    Raises
    ------
    DataError
        If a partition's file is missing.
    """
    properties = layout.extension_properties(model)
    written = _finish_table(layout, model, survey, partitions, fingerprint, histogram)
    if survey.sky is None:
        return written
    from hats.catalog.dataset.extension_properties import ExtensionProperties

    with _staged(layout) as folder:
        ExtensionProperties(
            name=model,
            primary_catalog=survey.name,
            primary_column=survey.id.column,
            join_catalog=layout.relative(layout.extension(model)),
            join_column=survey.id.column,
            extension_columns=list(columns),
            extension_join_style="left",
            shares_primary_coordinates=True,
            galbatch_catalogue=catalogue,
            galbatch_model=fingerprint,
        ).to_properties_file(folder)
        written |= _commit(layout, folder, layout.root)
    assert layout.relative(properties) in written
    _write_collection(layout, survey)
    return written


def retract(layout: Layout, survey: Survey, model: str | None = None) -> None:
    """Take the catalogue, or a model's predictions, out of the collection.

    Done before its partitions are written again: a reader finds the old catalogue or the new one,
    or none, but never a mixture. Also removes what killed processes left there.

    Parameters
    ----------
    layout : Layout
    survey : Survey
    model : str, optional
        The model; the catalogue, and with it the whole collection, when not given.
    """
    remove_unfinished(layout.table(model))
    if model is None:
        layout.collection.unlink(missing_ok=True)
        for file in ("hats.properties", "properties"):
            (layout.catalogue / file).unlink(missing_ok=True)
        return
    layout.extension_properties(model).unlink(missing_ok=True)
    for file in ("hats.properties", "properties"):
        (layout.extension(model) / file).unlink(missing_ok=True)
    if layout.collection.exists():
        _write_collection(layout, survey)


def finish_collection(layout: Layout, survey: Survey) -> None:
    """Write what lists the catalogue and its predictions again, where it is gone.

    Parameters
    ----------
    layout : Layout
        Its catalogue may be retracted: then there is no collection.
    survey : Survey
    """
    if not layout.collection.exists():
        _write_collection(layout, survey)


def collection_problem(layout: Layout, fingerprint: str, *, deep: bool) -> str:
    """The problem of the file that lists the catalogue and its predictions, if any.

    It is in no receipt, since more than one stage writes it.

    Parameters
    ----------
    layout : Layout
    fingerprint : str
        That the catalogue was finished with.
    deep : bool
        Compare all of it with the properties of the catalogue and of the predictions, from which
        it follows: they must be sound.

    Returns
    -------
    str
        One line, or nothing: also where the catalogue is none of HATS, or is retracted.
    """
    if not (layout.catalogue / "hats.properties").exists():
        return ""
    if not layout.collection.exists():
        return "is gone"
    from hats.catalog.dataset.collection_properties import CollectionProperties
    from hats.catalog.dataset.table_properties import TableProperties

    try:
        found = CollectionProperties.read_from_dir(layout.root)
    except Exception as error:  # whatever its parser raises
        return f"cannot be read: {' '.join(str(error).split())}"
    pairs: list[tuple[str, Any, Any]] = [
        ("galbatch_fingerprint", getattr(found, "galbatch_fingerprint", None), fingerprint),
        ("hats_primary_table_url", found.hats_primary_table_url, CATALOGUE),
    ]
    if deep:
        catalogue = TableProperties.read_from_dir(layout.catalogue)
        pairs += [
            ("obs_collection", found.name, catalogue.catalog_name),
            ("all_extensions", found.all_extensions or {}, _extensions(layout, catalogue)),
        ]
        pairs += [
            (word, getattr(found, word, None), getattr(catalogue, word, None))
            for word in ("obs_title", "hats_version")
        ]
    for word, one, other in pairs:
        if one != other:
            return f"{word}: expected {other}, found {one}"
    return ""


def _finish_table(
    layout: Layout,
    model: str | None,
    survey: Survey,
    partitions: Sequence[Partition],
    fingerprint: str,
    histogram: PixelCounts | None,
) -> dict[str, str]:
    expected = {layout.partition(partition, model) for partition in partitions}
    missing = sorted(str(path) for path in expected if not path.is_file())
    if missing:
        raise DataError(missing[0], f"{counted(len(missing), 'partition')} not written")
    remove_unfinished(layout.table(model))
    _remove_others(layout.dataset(model), expected)
    table = layout.table(model)
    with _staged(layout) as folder:
        rows = _write_metadata(layout, model, survey, partitions, folder)
        if survey.sky is not None:
            if histogram is None:
                raise ValueError("a survey with a sky needs a histogram")
            _write_hats(folder, model, survey, partitions, fingerprint, histogram, rows)
        return _commit(layout, folder, table)


def _write_metadata(
    layout: Layout,
    model: str | None,
    survey: Survey,
    partitions: Sequence[Partition],
    folder: Path,
) -> int:
    """`_common_metadata`, and `_metadata` of a catalogue that is not too large; all rows."""
    if len(partitions) <= MOST_IN_METADATA:
        from hats.io.parquet_metadata import write_parquet_metadata

        return int(
            write_parquet_metadata(
                layout.table(model), output_path=folder, order_by_healpix=survey.sky is not None
            )
        )
    # All footers in one file would take memory that grows with the catalogue, here and in every
    # program that opens it; HATS does without.
    (layout.dataset(model) / "_metadata").unlink(missing_ok=True)
    (folder / "dataset").mkdir()
    schema = read_schema(layout.partition(partitions[0], model))
    pq.write_metadata(schema, folder / "dataset" / "_common_metadata")
    return sum(partition.rows for partition in partitions)


def _write_hats(
    folder: Path,
    model: str | None,
    survey: Survey,
    partitions: Sequence[Partition],
    fingerprint: str,
    histogram: PixelCounts,
    rows: int,
) -> None:
    from hats.catalog.dataset.table_properties import TableProperties
    from hats.catalog.partition_info import PartitionInfo
    from hats.io.skymap import write_skymap
    from hats.pixel_math.healpix_pixel import HealpixPixel

    assert survey.sky is not None
    pixels = [HealpixPixel(partition.order, partition.index) for partition in partitions]
    PartitionInfo(pixels).write_to_file(catalog_path=folder)
    order = min(histogram.order, SKYMAP_ORDER)
    write_skymap(histogram.coarser(order).dense(), folder)
    title = survey.title if model is None else f"{survey.title}: predictions of '{model}'"
    TableProperties(
        catalog_name=survey.name if model is None else f"{survey.name}_{model}",
        catalog_type="object",
        total_rows=rows,
        ra_column=survey.sky.ra,
        dec_column=survey.sky.dec,
        healpix_column=HEALPIX,
        healpix_order=HEALPIX_ORDER,
        skymap_order=order,
        hats_max_rows=max(partition.rows for partition in partitions),
        **_provenance(title, fingerprint),
    ).to_properties_file(folder)


def _write_collection(layout: Layout, survey: Survey) -> None:
    """List the catalogue and those predictions that were made from it."""
    if survey.sky is None or not (layout.catalogue / "hats.properties").exists():
        return
    from hats.catalog.dataset.collection_properties import CollectionProperties
    from hats.catalog.dataset.table_properties import TableProperties

    try:
        catalogue = TableProperties.read_from_dir(layout.catalogue)
    except Exception as error:  # whatever its parser raises
        path = layout.catalogue / "hats.properties"
        problem = f"cannot be read: {' '.join(str(error).split())}"
        raise DataError(str(path), problem, "'galbatch verify', then run again") from error
    with _staged(layout) as folder:
        CollectionProperties(
            name=survey.name,
            hats_primary_table_url=CATALOGUE,
            all_extensions=_extensions(layout, catalogue) or None,
            **_provenance(survey.title, _fingerprint(catalogue)),
        ).to_properties_file(folder)
        _commit(layout, folder, layout.root)


def _extensions(layout: Layout, catalogue: Any) -> dict[str, str]:
    """The properties of those predictions that were made from this catalogue, by model."""
    from hats.catalog.dataset.extension_properties import ExtensionProperties
    from hats.io.file_io.file_pointer import get_upath

    extensions = {}
    for path in sorted(layout.root.glob("*.properties")):
        if path == layout.collection:
            continue
        try:
            extension = ExtensionProperties.read_from_file(get_upath(path))
        except Exception:  # whatever its parser raises: who publishes it again lists it again
            continue
        if getattr(extension, "galbatch_catalogue", None) == _fingerprint(catalogue):
            extensions[extension.name] = path.name
    return extensions


def _fingerprint(catalogue: Any) -> str:
    return str(getattr(catalogue, "galbatch_fingerprint", ""))


def _provenance(title: str, fingerprint: str) -> dict[str, Any]:
    # No dates: the same catalogue makes the same bytes.
    return {
        "obs_title": " ".join(title.split()),
        "hats_builder": f"galbatch {version('galbatch')}, hats v{version('hats')}",
        "hats_version": "v1.0",
        "galbatch_fingerprint": fingerprint,
    }


def _remove_others(dataset: Path, expected: set[Path]) -> None:
    for path in list(dataset.rglob("*.parquet")):
        if path not in expected:
            path.unlink()
    if is_remote(dataset):
        return
    for folder in sorted((path for path in dataset.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def _staged(layout: Layout) -> Iterator[Path]:
    """A folder for libraries that write by themselves; its files are then committed one by one."""
    layout.staging.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".", suffix=TEMPORARY, dir=layout.staging))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _commit(layout: Layout, folder: Path, destination: Path) -> dict[str, str]:
    written = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        target = destination / path.relative_to(folder).as_posix()
        written[layout.relative(target)] = commit_bytes(target, path.read_bytes())
    return written
