"""Arrays beside a table, a row of the array for each row: spectra, cutouts, p(z) on a grid.

A Zarr 3 group for the catalogue and one for each model, which other programs open without
galbatch. One object by its id:

>>> group = zarr.open_group("store/arrays/photometric", mode="r")
>>> pdf = group["pz"][int(np.flatnonzero(group["id"][:] == 42)[0])]

One partition, the rows of its Parquet file in their order:

>>> first, rows, room = group.attrs["partitions"]["o5-p1234"]
>>> pdfs = group["pz"][first : first + rows]

With xarray, which finds the grid as the coordinate ``z``:

>>> sky = xarray.open_zarr("store/arrays/photometric", consolidated=False)
>>> mean = sky["pz"].mean("row")

A shard is one object, and writing a part of one rewrites it: two workers that share a shard lose
rows, and so do two that append. Therefore the driver allots whole shards to every partition before
the first task (`allocate`), and a worker writes its partition's shards whole (`ArrayWriter`). All
arrays of a group have their rows in the same places. What is left of the last shard, shards that
no partition has any more, and rows without a value hold what stands for a missing one: NaN, or the
number that `ArraySpec.missing` says; an id that no row has (`NO_ID`) tells which rows are none.
"""

from galbatch.store.arrays.allocate import (
    allocate,
    metadata_outputs,
    metadata_problem,
    shard_outputs,
    stored_group,
)
from galbatch.store.arrays.check import ArrayProblem, TableRows, check
from galbatch.store.arrays.group import StoredGroup
from galbatch.store.arrays.reader import Arrays
from galbatch.store.arrays.spans import ArrayPlaces, Span, plan_spans
from galbatch.store.arrays.spec import (
    NO_ID,
    ArraySpec,
    GroupSpec,
    IdKind,
    as_ids,
    group_spec,
    id_kind,
)
from galbatch.store.arrays.writer import ArrayWriter, Written, outputs_digest, write

__all__ = [
    "NO_ID",
    "ArrayPlaces",
    "ArrayProblem",
    "ArraySpec",
    "ArrayWriter",
    "Arrays",
    "GroupSpec",
    "IdKind",
    "Span",
    "StoredGroup",
    "TableRows",
    "Written",
    "allocate",
    "as_ids",
    "check",
    "group_spec",
    "id_kind",
    "metadata_outputs",
    "metadata_problem",
    "outputs_digest",
    "plan_spans",
    "shard_outputs",
    "stored_group",
    "write",
]
