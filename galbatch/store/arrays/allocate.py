"""The driver's part: room for every partition, before any worker writes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import zarr

from galbatch.store import fence
from galbatch.store.arrays.check import metadata_problems
from galbatch.store.arrays.group import (
    StoredGroup,
    array_names,
    create,
    describe,
    end_of,
    metadata_files,
    misplaced,
    open_store,
    read_stored,
    remove_unused_shards,
    shard_path,
    write_stored,
    written_spans,
)
from galbatch.store.arrays.spans import Span, plan_spans
from galbatch.store.arrays.spec import GroupSpec
from galbatch.store.commit import digest_file, explain_disk_errors, sync_files
from galbatch.store.layout import Layout
from galbatch.store.locations import is_remote


def allocate(
    layout: Layout,
    table: str | None,
    spec: GroupSpec,
    rows: Mapping[str, int],
    written: Mapping[str, Sequence[str]] | None = None,
    *,
    moved: Collection[str] = (),
    keep_others: bool = False,
) -> dict[str, Span]:
    """Make or enlarge the arrays of a table, before any worker writes: for the driver alone.

    Shards of partitions that are gone, shrank or moved are deleted; so is everything where the
    group was of another spec. Where the metadata is lost, it is made again around the shards that
    are `written`. Killed anywhere and called again, it ends the same.

    Parameters
    ----------
    layout : Layout
    table : str or None
        A model's name; None for the catalogue.
    spec : GroupSpec
    rows : mapping of str to int
        Rows of every partition, by name, in the order in which new ones are to lie.
    written : mapping of str to sequence of str, optional
        Outputs (as `Written` names them) of the partitions whose shards are there and sound.
    moved : collection of str
        Partitions that get another place: what lies in theirs is read while they are written.
    keep_others : bool
        Leave shards that no partition has: they are read while others are written. A later call
        removes them.

    Returns
    -------
    dict of str to Span
        What each partition's task must be given.

    Raises
    ------
    SpecError
        If the disk is full or the folder cannot be written.
    """
    root = layout.arrays(table)
    fence.check()
    with explain_disk_errors(root):
        store = open_store(root)
        stored = read_stored(root)
        kept = written_spans(layout, table, spec, written or {})
        if stored is None or not _is_sound(layout, root, spec, stored, kept):
            stored = StoredGroup(spec.digest, end_of(root, spec, kept), kept)
            create(root, store, spec, around_shards=bool(kept))
        spans, end = plan_spans(stored.spans, stored.end, rows, spec.shard_rows, moved)
        for name in array_names(spec):
            opened = zarr.open_array(store, path=name, mode="r+")
            if opened.shape[0] != end:
                opened.resize((end, *opened.shape[1:]))
        describe(store, spec)
        # Now the spans are as planned, or as they were. The arrays' length is set by them, so a
        # call that was cut short is forgotten.
        write_stored(store, spec, end, spans)
        if not keep_others:
            remove_unused_shards(root, spec, spans.values())
        if not is_remote(root):
            sync_files(path for path in metadata_files(root, spec) if path.is_file())
    return spans


def stored_group(layout: Layout, table: str | None) -> StoredGroup | None:
    """The attributes of a table's group; None where there is no group, or an unfinished one."""
    return read_stored(layout.arrays(table))


def shard_outputs(layout: Layout, table: str | None, spec: GroupSpec, span: Span) -> dict[str, str]:
    """The shards of a span that are there, as `Written.outputs` names them."""
    root = layout.arrays(table)
    paths = [
        shard_path(root, spec, array, number)
        for array in array_names(spec)
        for number in span.shards(spec.shard_rows)
    ]
    found = {layout.relative(path): digest_file(path) for path in paths if path.exists()}
    return dict(sorted(found.items()))


def metadata_outputs(layout: Layout, table: str | None, spec: GroupSpec) -> dict[str, str]:
    """Files of the group besides its shards, for the receipt that publishes it.

    Parameters
    ----------
    layout : Layout
    table : str or None
        A model's name; None for the catalogue.
    spec : GroupSpec

    Returns
    -------
    dict of str to str
        SHA-256 of each file by its path relative to the store.
    """
    files = metadata_files(layout.arrays(table), spec)
    return {layout.relative(path): digest_file(path) for path in files if path.exists()}


def metadata_problem(
    layout: Layout, table: str | None, spec: GroupSpec, written: Mapping[str, Sequence[str]]
) -> str:
    """Why `allocate` must make the metadata of a group again; empty where it is whole.

    Parameters
    ----------
    layout : Layout
    table : str or None
        A model's name; None for the catalogue.
    spec : GroupSpec
    written : mapping of str to sequence of str
        Outputs of the partitions whose shards are there: the group must place them so.

    Returns
    -------
    str
        One line.
    """
    root = layout.arrays(table)
    where = layout.relative(root / "zarr.json")
    stored = read_stored(root)
    if stored is None:
        return f"{where} is damaged" if (root / "zarr.json").exists() else f"{where} is gone"
    if stored.digest != spec.digest:
        return f"{where} is of other arrays"
    for problem in metadata_problems(layout, root, spec, stored):
        return str(problem)
    for partition in misplaced(stored, written_spans(layout, table, spec, written)):
        return f"{where} says something else of {partition} than its receipt"
    return ""


def _is_sound(
    layout: Layout, root: Path, spec: GroupSpec, stored: StoredGroup, kept: Mapping[str, Span]
) -> bool:
    """Whether the metadata is what the spec and the receipts say.

    Arrays may have any length: a call of `allocate` may have been cut short.
    """
    if stored.digest != spec.digest or any(misplaced(stored, kept)):
        return False
    return not any(metadata_problems(layout, root, spec, stored, any_length=True))
