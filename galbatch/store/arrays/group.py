"""A group of arrays as files: what is where, and what the metadata says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.codec import BytesBytesCodec
from zarr.abc.store import Store
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec
from zarr.storage import FsspecStore, LocalStore

from galbatch.store.arrays.spans import Span
from galbatch.store.arrays.spec import (
    NO_ID,
    VERSION,
    ArraySpec,
    GroupSpec,
    id_dtype,
)
from galbatch.store.layout import Layout
from galbatch.store.locations import is_remote
from galbatch.values import ID, ROW_DIMENSION, Coordinate

PARTITIONS, OWN = "partitions", "galbatch"
_PARTIAL = ".partial"


@dataclass(frozen=True)
class StoredGroup:
    """The attributes of a group.

    Parameters
    ----------
    digest : str
        Of its spec.
    end : int
        Rows of its arrays.
    spans : mapping of str to Span
        By partition.
    arrays : tuple of str
        Names.
    """

    digest: str
    end: int
    spans: Mapping[str, Span]
    arrays: tuple[str, ...] = ()


def open_store(root: Path, read_only: bool = False) -> Store:
    """Where Zarr reads and writes: the one function that knows what kind of path it is.

    LocalStore writes to a temporary name and renames that, so a file is whole or not there; object
    storage does the same by itself.
    """
    if not is_remote(root):
        return LocalStore(root, read_only=read_only)
    options: dict[str, Any] = dict(cast(Any, root).storage_options)
    return FsspecStore.from_url(str(root), storage_options=options, read_only=read_only)


def open_array(store: Store, path: str, *, empty: bool = False) -> Any:
    """An array of the group, opened without the group (whose list of partitions may be long).

    With `empty`, chunks of nothing but fill are written too: a shard that is not there was not
    written. (The keyword `config` of `open_array` is ignored by zarr 3.1.6.)
    """
    array = zarr.open_array(store, path=path, mode="r" if store.read_only else "r+")
    return array.with_config({"write_empty_chunks": True}) if empty else array


def read_stored(root: Path) -> StoredGroup | None:
    """The attributes of the group; None where there is no group, or an unfinished one."""
    try:
        attributes = zarr.open_group(open_store(root, read_only=True), mode="r").attrs.asdict()
        own: Any = attributes[OWN]
        if own["version"] != VERSION:
            return None
        lists: Any = attributes[PARTITIONS]
        spans = {name: Span(*numbers) for name, numbers in lists.items()}
        return StoredGroup(own["digest"], own["rows"], spans, tuple(own["arrays"]))
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return None


def write_stored(store: Store, spec: GroupSpec, end: int, spans: Mapping[str, Span]) -> None:
    """Write the attributes, in one file that appears whole, if they have changed."""
    group = zarr.open_group(store, mode="r+")
    names = [array.name for array in spec.arrays]
    own = {"version": VERSION, "digest": spec.digest, "arrays": names, "rows": end}
    lists = {key: [one.first, one.rows, one.room] for key, one in spans.items()}
    if group.attrs.asdict() != {OWN: own, PARTITIONS: lists}:
        group.update_attributes({OWN: own, PARTITIONS: lists})


def array_names(spec: GroupSpec) -> tuple[str, ...]:
    """The arrays that have a row for each of the table's, the ids last."""
    return (*(array.name for array in spec.arrays), ID)


def metadata_files(root: Path, spec: GroupSpec) -> list[Path]:
    """All files of a group but the shards."""
    names = [*array_names(spec), *(one.name for one in spec.coordinates)]
    grids = [root / one.name / "c" / "0" for one in spec.coordinates]
    return [root / "zarr.json", *(root / name / "zarr.json" for name in names), *grids]


def create(root: Path, store: Store, spec: GroupSpec, *, around_shards: bool) -> None:
    """Make the group, empty, or the metadata alone where the shards are there."""
    # Without this file there is no group: where this is cut short, none is left.
    (root / "zarr.json").unlink(missing_ok=True)
    if around_shards:
        for path in metadata_files(root, spec):
            path.unlink(missing_ok=True)
    group = zarr.create_group(store, overwrite=not around_shards)
    described = meanings(spec)
    for coordinate in spec.coordinates:
        group.create_array(
            coordinate.name,
            data=np.array(coordinate.values, np.float64),
            chunks=(max(len(coordinate.values), 1),),
            compressors=None,
            dimension_names=(coordinate.name,),
            attributes=described[coordinate.name],
        )
    keys = {"name": "default", "separator": "."}
    group.create_array(
        ID,
        shape=(0,),
        dtype=spec.ids,
        # One chunk for each shard of the values: ids are searched as a whole.
        chunks=(spec.shard_rows,),
        compressors=codecs(spec.ids),
        fill_value=NO_ID[spec.ids],
        dimension_names=(ROW_DIMENSION,),
        chunk_key_encoding=keys,  # type: ignore[arg-type]
    )
    for array in spec.arrays:
        group.create_array(
            array.name,
            shape=(0, *array.shape),
            dtype=array.dtype,
            chunks=(array.chunk_rows, *array.shape),
            shards=(spec.shard_rows, *array.shape),
            compressors=codecs(array.dtype),
            fill_value=array.missing,
            dimension_names=(ROW_DIMENSION, *array.dimensions),
            attributes=described[array.name],
            chunk_key_encoding=keys,  # type: ignore[arg-type]
        )


def describe(store: Store, spec: GroupSpec) -> None:
    """Write units and descriptions where they are not what the spec says: no bytes depend on it."""
    for path, attributes in meanings(spec).items():
        opened = zarr.open_array(store, path=path, mode="r+")
        if opened.attrs.asdict() != attributes:
            opened.update_attributes(attributes)


def meanings(spec: GroupSpec) -> dict[str, dict[str, Any]]:
    """Attributes of each array; `units` and `long_name` are the attributes that xarray plots."""
    described: tuple[ArraySpec | Coordinate, ...] = (*spec.arrays, *spec.coordinates)
    found: dict[str, dict[str, Any]] = {
        one.name: {"units": one.unit, "ucd": one.ucd, "long_name": one.description}
        for one in described
    }
    for array in spec.arrays:
        if np.dtype(array.dtype).kind != "f":
            found[array.name]["galbatch_missing"] = array.missing
    return found


def codecs(dtype: str) -> tuple[BytesBytesCodec, ...]:
    """zstd-1 of shuffled bytes, and a checksum: blosc decodes a flipped bit to another number."""
    packed: BytesBytesCodec = BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")
    return (ZstdCodec(level=1) if dtype == "string" else packed, Crc32cCodec())


def no_ids(spec: GroupSpec, rows: int) -> NDArray[Any]:
    """Ids of rows that are no object's."""
    return np.full(rows, NO_ID[spec.ids], id_dtype(spec.ids))


def shard_path(root: Path, spec: GroupSpec, array: str, number: int) -> Path:
    """The file of a shard."""
    axes = 0 if array == ID else len(spec.of[array].shape)
    return root / array / ".".join(["c", str(number), *["0"] * axes])


def shards_there(root: Path, spec: GroupSpec, array: str) -> dict[int, Path]:
    """The shards that are there, by number."""
    found = {}
    for path in (root / array).iterdir():
        parts = path.name.split(".")
        if parts[0] == "c" and len(parts) > 1 and parts[1].isdecimal():
            number = int(parts[1])
            if path.name == shard_path(root, spec, array, number).name:
                found[number] = path
    return found


def remove_unused_shards(root: Path, spec: GroupSpec, spans: Iterable[Span]) -> None:
    """Remove shards that no partition has, and what a killed process left unfinished."""
    used = {number for span in spans for number in span.shards(spec.shard_rows)}
    for folder in (root, *(root / one.name for one in spec.coordinates)):
        _remove_partial(folder)
    for array in array_names(spec):
        _remove_partial(root / array)
        for number, path in shards_there(root, spec, array).items():
            if number not in used:
                path.unlink(missing_ok=True)


def _remove_partial(folder: Path) -> None:
    for path in list(folder.iterdir()):
        if path.name.endswith(_PARTIAL):
            path.unlink(missing_ok=True)


def written_spans(
    layout: Layout, table: str | None, spec: GroupSpec, written: Mapping[str, Sequence[str]]
) -> dict[str, Span]:
    """Where the partitions lie whose shards are there: shards have their number in their name."""
    prefix = f"{layout.relative(layout.arrays(table))}/{ID}/c."
    size, spans = spec.shard_rows, {}
    for partition, outputs in written.items():
        numbers = sorted(int(one.removeprefix(prefix)) for one in outputs if one.startswith(prefix))
        if numbers:
            room = len(numbers) * size
            spans[partition] = Span(numbers[0] * size, room, room)
    return spans


def misplaced(stored: StoredGroup, kept: Mapping[str, Span]) -> Iterator[str]:
    """Partitions that the group has elsewhere than where their shards are."""
    for partition, span in kept.items():
        found = stored.spans.get(partition)
        if found is None or found.first != span.first or found.end > stored.end:
            yield partition


def end_of(root: Path, spec: GroupSpec, kept: Mapping[str, Span]) -> int:
    """The row after all that is there: a place is not given to another (see `plan_spans`)."""
    found = shards_there(root, spec, ID) if kept else {}
    ends = [(number + 1) * spec.shard_rows for number in found]
    return max([0, *ends, *(span.end for span in kept.values())])
