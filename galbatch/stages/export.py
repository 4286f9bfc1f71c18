"""Redshift distributions of a whole store as one file that others' tools read."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from galbatch.columns import is_text
from galbatch.errors import SpecError, counted, did_you_mean
from galbatch.models.base import read_card
from galbatch.models.pdf import QUANTILES
from galbatch.stages.predictions import predict_need
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store.model_facts import TrainFacts
from galbatch.store.tables import read_partition, read_schema
from galbatch.targets import RECORDS
from galbatch.values import Partition

_COLUMNS = ("z_mode", "z_median", "z_mean", "odds", "quality")
# Quantiles that coincide (float32) must not make an infinite density.
_NARROWEST = 1e-6


def export_qp(site: Site, version: str, path: Path, force: bool = False) -> int:
    """Write the redshift distribution of every predicted row as a ``qp`` ensemble.

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
        table has their ids (UTF-8 where they are strings) and point values.

    Raises
    ------
    SpecError
        If there is no such version, it predicts no redshift distribution, some rows are not
        predicted yet, the file exists or cannot be written, or qp is not installed.

    Notes
    -----
    Partition by partition: memory does not grow with the catalogue. An ``interp_irregular``
    ensemble of qp (LSSTDESC/qp) with the densities of `steps`: its pdf integrates to 1, and its cdf
    and ppf are linear between the stored quantiles. A ``quant`` ensemble would be smaller, but qp
    makes of it a density that does not integrate to 1, and a cdf that is a quadratic spline, which
    overshoots between two peaks.
    """
    try:
        import qp
    except ImportError as error:
        raise SpecError("export", "qp is not installed", "pip install 'galbatch[qp]'") from error
    _refuse(path, force)
    snapshot = Snapshot(site)
    known = snapshot.versions.known()
    if version not in known:
        hint = did_you_mean(version, known) or "it holds no model"
        raise SpecError(str(site.layout.root), f"holds no model '{version}'", hint)
    _require_redshift(snapshot, version, known)
    partitions = _predicted(snapshot, version)
    rows, width = _extent(site, version, partitions)
    if not rows:
        raise SpecError(str(site.layout.root), f"'{version}' has no row with a redshift")
    with _appearing(path) as temporary:
        _write(qp, site, version, partitions, rows, width, temporary)
    return rows


def steps(quantiles: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Density that is constant between the quantiles that are stored of a redshift.

    Parameters
    ----------
    quantiles : array, shape (n, k)
        Redshifts at the levels `QUANTILES`, ascending along each row.

    Returns
    -------
    z, density : array, shape (n, 2 k + 2), float32
        The ends of every step, and its height at both. Both by the trapezoidal rule and by
        that of qp (the right end's density times the width) the integral is 1.

    Notes
    -----
    The outermost steps have the density of their neighbours, but do not reach below z = 0.
    Quantiles closer than 1e-6 (1 + z) are moved apart.
    """
    levels = np.array(QUANTILES)
    at = np.asarray(quantiles, np.float64)
    least = _NARROWEST * (1.0 + np.abs(at[:, len(levels) // 2, None]))
    shift = least * np.arange(len(levels))
    # Rounded first: the densities are to fit the widths that are stored.
    at = (np.maximum.accumulate(at - shift, axis=1) + shift).astype(np.float32).astype(np.float64)
    below = levels[0] * (at[:, 1:2] - at[:, :1]) / (levels[1] - levels[0])
    above = (1.0 - levels[-1]) * (at[:, -1:] - at[:, -2:-1]) / (levels[-1] - levels[-2])
    first = np.minimum(np.maximum(at[:, :1] - below, 0.0), at[:, :1] - least)
    ends = np.hstack([first, at, at[:, -1:] + above]).astype(np.float32)
    share = np.diff(levels, prepend=0.0, append=1.0)
    height = (share / np.diff(ends.astype(np.float64))).astype(np.float32)
    return np.repeat(ends, 2, axis=1)[:, 1:-1], np.repeat(height, 2, axis=1)


def _refuse(path: Path, force: bool) -> None:
    """A place where the file cannot be, as far as can be seen without writing."""
    if path.suffix != ".hdf5":
        raise SpecError(str(path), "expected a name that ends with .hdf5", "qp tells by the ending")
    with _explained(path):
        if path.is_dir():
            raise SpecError(str(path), "is a folder", f"{path / 'redshifts.hdf5'}?")
        if path.exists() and not force:
            raise SpecError(str(path), "there is a file already", "--force replaces it")
        nearest = next(folder for folder in path.parents if folder.exists())
        if not nearest.is_dir():
            raise SpecError(str(path), f"{nearest} is not a folder")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SpecError(str(path), f"cannot be written: {error.strerror or error}") from error


@contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that becomes it, or vanishes."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.hdf5")
    try:
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch()
            yield temporary
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _require_redshift(snapshot: Snapshot, version: str, known: tuple[str, ...]) -> None:
    if _has_redshift(snapshot, version):
        return
    others = []
    for other in known:
        # One of which no more than predictions are left cannot be exported either.
        with suppress(SpecError):
            others += [other] if _has_redshift(snapshot, other) else []
    hint = f"these do: {', '.join(others)} (--model)" if others else "none of the store does"
    raise SpecError(
        str(snapshot.site.layout.root), f"'{version}' predicts no redshift distribution", hint
    )


def _has_redshift(snapshot: Snapshot, version: str) -> bool:
    """Whether there are distributions among the predictions of a version that is still there."""
    layout, catalogue = snapshot.site.layout, snapshot.catalogue
    if "redshift" not in read_card(layout.model(version)).targets:
        return False
    for partition in catalogue.partitions if catalogue else ():
        path = layout.partition(partition, version)
        if path.exists():
            return RECORDS["redshift"].judged.quantiles in read_schema(path).names
    return True


def _predicted(snapshot: Snapshot, version: str) -> tuple[Partition, ...]:
    """All partitions of the catalogue, if the version as it is now has predicted them all."""
    site, receipts = snapshot.site, snapshot.receipts
    root, hint = str(site.layout.root), "'galbatch run' first"
    catalogue = snapshot.catalogue
    if catalogue is None:
        raise SpecError(root, "the catalogue is not finished", hint)
    trained = receipts.get("train", version)
    if trained is None:
        raise SpecError(root, f"has no sound record of the training of '{version}'", hint)
    fingerprint = TrainFacts.from_json(trained.facts).fingerprint
    known, missing = receipts.all("predict"), []
    for partition in catalogue.partitions:
        need = predict_need(catalogue, partition, version, fingerprint, None, {})
        receipt = known.get(need.unit)
        if receipt is not None:
            # What was asked for besides does not matter to the quantiles.
            same = {name: receipt.depends.get(name) for name in ("code", "rows", "model")}
            if same == {name: need.depends[name] for name in same}:
                need = replace(need, depends=receipt.depends)
        if not receipts.holds(receipt, need):
            missing.append(partition)
    if missing:
        wanted = snapshot.versions.all_current
        if version not in wanted:
            hint = f"the job predicts with {', '.join(wanted)} now"
        rows = sum(partition.rows for partition in missing)
        raise SpecError(
            root,
            f"'{version}' has not predicted {counted(rows, 'row')} of {len(missing)} of "
            f"{counted(len(catalogue.partitions), 'partition')} yet",
            hint,
        )
    return catalogue.partitions


def _extent(site: Site, version: str, partitions: tuple[Partition, ...]) -> tuple[int, int]:
    """Rows with a redshift, and the bytes of the longest id of theirs, where ids are strings."""
    rows, width, identity = 0, 1, site.survey.id.column
    for partition in partitions:
        table = _with_redshift(site, version, partition, (identity, "z_mode"))
        rows += table.num_rows
        if table.num_rows and is_text(table[identity].type):
            width = max(width, pc.max(pc.binary_length(table[identity])).as_py())
    return rows, width


def _with_redshift(
    site: Site, version: str, partition: Partition, columns: tuple[str, ...]
) -> pa.Table:
    table = read_partition(site.layout, partition, columns, model=version)
    return table.filter(pc.is_finite(table["z_mode"]))


def _write(
    qp: Any,
    site: Site,
    version: str,
    partitions: tuple[Partition, ...],
    rows: int,
    width: int,
    path: Path,
) -> None:
    columns = (site.survey.id.column, *_COLUMNS, "z_quantiles")
    chunks = (
        _ensemble(qp, table, site.survey.id.column, width)
        for partition in partitions
        if (table := _with_redshift(site, version, partition, columns)).num_rows
    )
    first = next(chunks)
    group, file = first.initializeHdf5Write(str(path), rows)
    with closing(file):
        start = 0
        for ensemble in chain([first], chunks):
            end = start + ensemble.npdf
            ensemble.writeHdf5Chunk(group, start, end)
            start = end
        first.finalizeHdf5Write(file)


def _ensemble(qp: Any, table: pa.Table, identity: str, width: int) -> Any:
    flat = table["z_quantiles"].combine_chunks().flatten().to_numpy()
    z, density = steps(flat.reshape(-1, len(QUANTILES)))
    ancil = {column: table[column].to_numpy() for column in _COLUMNS}
    ids = table[identity]
    if is_text(ids.type):
        # HDF5 knows no longer text than that of the first rows: all of one width.
        ancil[identity] = ids.cast(pa.binary()).to_numpy().astype(f"S{width}")
    else:
        ancil[identity] = ids.to_numpy()
    return qp.Ensemble(qp.interp_irregular, {"xvals": z, "yvals": density}, ancil=ancil)
