"""Redshift distributions of a whole store as one file that others' tools read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from galbatch.errors import SpecError, did_you_mean
from galbatch.models.pdf import QUANTILES
from galbatch.stages.base import Site
from galbatch.stages.catalogue import finished_catalogue
from galbatch.stages.drop import versions
from galbatch.stages.predict import prediction_unit
from galbatch.store.tables import read_partition
from galbatch.values import Partition

_COLUMNS = ("z_mode", "z_median", "z_mean", "odds", "quality")


def export_qp(site: Site, version: str, path: Path, force: bool = False) -> int:
    """Write the quantiles of every predicted row as a ``qp`` ensemble.

    Parameters
    ----------
    site : Site
    version : str
        ``photometric``, ``photometric_v2``, ...
    path : Path
        Ends with ``.hdf5``. Appears whole or not at all.
    force : bool, default False
        Replace the file if there is one.

    Returns
    -------
    int
        Distributions written: rows with a redshift, in the order of the catalogue. The ancillary
        table has their ids and point values.

    Raises
    ------
    SpecError
        If there is no such version, it predicts no redshift, the file exists, or qp is not
        installed.

    Notes
    -----
    Partition by partition: memory does not grow with the catalogue. A ``quant`` ensemble of qp
    (LSSTDESC/qp), which is linear between quantiles as galbatch's own statistics are.
    """
    try:
        import qp
    except ImportError as error:
        raise SpecError("export", "qp is not installed", "pip install 'galbatch[qp]'") from error
    if path.suffix != ".hdf5":
        raise SpecError(str(path), "expected a name that ends with .hdf5", "qp tells by the ending")
    if path.exists() and not force:
        raise SpecError(str(path), "there is a file already", "--force replaces it")
    known = versions(site)
    if version not in known:
        hint = did_you_mean(version, known) or "it holds no model"
        raise SpecError(str(site.layout.root), f"holds no model '{version}'", hint)
    partitions = _predicted(site, version)
    rows = 0
    for one in partitions:
        rows += int(_with_redshift(site, version, one, ("z_mode",)).num_rows)
    if not rows:
        raise SpecError(str(site.layout.root), f"'{version}' has predicted no redshift yet")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".hdf5")
    os.close(handle)
    try:
        _write(qp, site, version, partitions, rows, name)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return rows


def _predicted(site: Site, version: str) -> tuple[Partition, ...]:
    catalogue = finished_catalogue(site)
    receipts = site.book.all("predict")
    partitions = catalogue.partitions if catalogue else ()
    return tuple(one for one in partitions if prediction_unit(version, one) in receipts)


def _with_redshift(
    site: Site, version: str, partition: Partition, columns: tuple[str, ...]
) -> pa.Table:
    table = read_partition(site.layout, partition, columns, model=version)
    return table.filter(pc.is_finite(table["z_mode"]))


def _write(
    qp: Any, site: Site, version: str, partitions: tuple[Partition, ...], rows: int, name: str
) -> None:
    identity = site.survey.id.column
    group = file = ensemble = None
    start = 0
    for partition in partitions:
        table = _with_redshift(site, version, partition, (identity, *_COLUMNS, "z_quantiles"))
        if not table.num_rows:
            continue
        flat = table["z_quantiles"].combine_chunks().flatten().to_numpy()
        quantiles = flat.reshape(-1, len(QUANTILES)).astype(np.float64)
        ancil = {column: table[column].to_numpy() for column in (identity, *_COLUMNS)}
        if ancil[identity].dtype == object:
            ancil[identity] = ancil[identity].astype(np.bytes_)
        ensemble = qp.Ensemble(
            qp.quant, {"quants": np.array(QUANTILES), "locs": quantiles}, ancil=ancil
        )
        if file is None:
            group, file = ensemble.initializeHdf5Write(name, rows)
        ensemble.writeHdf5Chunk(group, start, start + table.num_rows)
        start += table.num_rows
    assert ensemble is not None
    ensemble.finalizeHdf5Write(file)
