"""Cut the sky, and write every partition of the survey's own catalogue.

What is in the store stays: news are merged into the partitions that they fall into, and only those
are written again.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from galbatch.errors import DataError, SpecError, TransientError, counted
from galbatch.flux.bands import reference_magnitude
from galbatch.quality.metrics import count
from galbatch.spec.job import FilesSource
from galbatch.stages.base import PROCESS, Pending, Report, Site, Task, Where, row_bytes
from galbatch.stages.catalogue import (
    CATALOGUE_UNIT,
    INGEST_VERSION,
    REJECTED,
    REPEATED,
    Held,
    Standing,
    catalogue_need,
    records,
    standing,
    whole,
)
from galbatch.stages.scan import Scan, source_facts, total_facts
from galbatch.store.commit import commit_bytes, digest_file
from galbatch.store.duplicates import find_duplicates
from galbatch.store.layout import Layout
from galbatch.store.partitions import (
    HEALPIX_ORDER,
    Histogram,
    extend_partitions,
    plan_row_ranges,
)
from galbatch.store.places import remove_tree
from galbatch.store.publish import SKYMAP_ORDER, finish_catalogue, finish_collection, retract
from galbatch.store.quarantine import (
    GOT,
    quarantine,
    rejected_positions,
    rejected_rows,
    rejected_table,
)
from galbatch.store.receipts import Need, words_digest
from galbatch.store.shards import (
    Shard,
    catalogue_schema,
    count_pixels,
    files_between,
    find_rows,
    fit,
    places_of,
    read_pixels,
    read_places,
    read_rows,
    sort_rows,
)
from galbatch.store.tables import (
    FILE,
    HEALPIX,
    ROW,
    annotate,
    commit_parquet,
    read_partition,
    read_schema,
)
from galbatch.values import Partition, Receipt, RejectedRow

_MAGNITUDE_EDGES = np.linspace(8.0, 32.0, 97)
_EVERY_ROW = (0, 2**62)


@dataclass(frozen=True)
class Recipe:
    """What a partition is made of.

    Parameters
    ----------
    need : Need
        What its receipt must have been made from.
    disk : tuple of Partition
        Partitions in the store that hold rows of it.
    lost : tuple of Held
        Those of the published catalogue that held rows of it and cannot be read any more.
    places : tuple of int
        Rows of the news, by their place, for a survey without a sky.
    files : mapping of int to (int, int)
        Sources that it has rows of: the first and last row at most.
    """

    need: Need
    disk: tuple[Partition, ...]
    lost: tuple[Held, ...]
    places: tuple[int, int]
    files: Mapping[int, tuple[int, int]]


@dataclass(frozen=True)
class Gathering:
    """Where the rows of all partitions are.

    Parameters
    ----------
    fresh : tuple of Shard
        News, in the order of the files.
    fresh_without : pyarrow.Table
        Rows of them that repeat an id.
    again : tuple of Shard
        Of sources that were read again, for the partitions that are lost.
    again_without : pyarrow.Table
        Rows of them that repeat an id.
    schema : pyarrow.Schema
    replaced : tuple of int
        Files whose rows in the store do not count: the shards stand for them, if there are any.
    """

    fresh: tuple[Shard, ...]
    fresh_without: pa.Table
    again: tuple[Shard, ...]
    again_without: pa.Table
    schema: pa.Schema
    replaced: tuple[int, ...]


@dataclass(frozen=True)
class Cut:
    """The catalogue as it is to be.

    Parameters
    ----------
    gathering : Gathering
    sources : mapping of str to mapping
        What is known of every source.
    recipes : mapping of Partition to Recipe
        Partitions that must be written.
    kept : tuple of Held
        Partitions that stay as they are.
    rejected : mapping of str to pyarrow.Table
        Rows of each new source that repeat an id, from `find_duplicates`.
    """

    gathering: Gathering
    sources: Mapping[str, Mapping[str, Any]]
    recipes: Mapping[Partition, Recipe]
    kept: tuple[Held, ...]
    rejected: Mapping[str, pa.Table]


@dataclass(frozen=True)
class Ingest:
    """A task per partition."""

    name: str = "ingest"
    word: str = "rows"
    where: Where = "workers"
    gathering: Gathering | None = field(default=None, compare=False)
    """Known once all sources are scanned."""

    def summary(self, site: Site) -> str:
        """One line for `galbatch plan`."""
        rows = site.job.partition.rows
        kind = (
            f"HEALPix partitions up to order {site.job.partition.max_order}"
            if site.survey.sky
            else "row ranges"
        )
        return f"{kind} of at most {rows:,} rows"

    def memory(self, site: Site) -> int:
        """A partition: gathered, sorted, encoded. A worker keeps what the scan took."""
        own = PROCESS + 5 * site.job.partition.rows * row_bytes(site)
        return max(own, Scan().memory(site))

    def pending(self, site: Site) -> Pending:
        """Partitions that are not written, once all sources are scanned."""
        state = standing(site)
        found = whole(site, state)
        if found is not None:
            return Pending((), done=len(found.partitions))
        book = site.book
        wanted = (*state.fresh, *state.again)
        scans = {origin.unit: book.valid(origin.need) for origin in wanted}
        done = {unit: receipt for unit, receipt in scans.items() if receipt is not None}
        if not done and not (state.base and not state.lost):
            return Pending((), waiting="scan")
        cut = _cut(site, state, done)
        left = []
        for partition, recipe in cut.recipes.items():
            receipt = book.get("ingest", partition.name)
            if not book.holds(receipt, recipe.need):
                why = book.why(receipt, recipe.need)
                left.append(Task(partition.name, partition.rows, (partition, recipe), why))
        total = len(cut.recipes) + len(cut.kept)
        notes = _notes(site, state)
        return Pending(tuple(left), done=total - len(left), shared=cut, notes=notes)

    def begin(self, site: Site, pending: Pending) -> Ingest:
        """No reader shall see a mixture of an old catalogue and a new one."""
        cut: Cut | None = pending.shared
        if pending.tasks:
            retract(site.layout, site.survey)
        return replace(self, gathering=cut.gathering if cut else None)

    def run(self, site: Site, task: Task, report: Report) -> tuple[Receipt, ...]:
        """Gather one partition from all shards, and from the store, and write it."""
        began = time.perf_counter()
        if self.gathering is None:
            raise ValueError("begin() gives the stage what its tasks need")
        partition: Partition
        recipe: Recipe
        partition, recipe = task.payload
        table = _gathered(site, self.gathering, partition, recipe)
        path = site.layout.partition(partition)
        digest = commit_parquet(
            path, annotate(table, site.survey.stored_columns), {"survey": site.survey.name}
        )
        magnitudes = reference_magnitude(site.survey, table)
        report(table.num_rows, partition.rows, "")
        receipt = recipe.need.receipt(
            digest=digest,
            rows=table.num_rows,
            outputs={site.layout.relative(path): digest},
            seconds=time.perf_counter() - began,
            facts={
                "magnitudes": count(magnitudes, _MAGNITUDE_EDGES).to_json(),
                "files": _files_of(table),
                "counts": _counts_of(table),
                "sky": _sky(table),
            },
        )
        site.book.put(receipt)
        return (receipt,)

    def finish(self, site: Site, pending: Pending) -> None:
        """Publish the catalogue; the shards are not needed any more."""
        if pending.waiting:
            return
        if pending.shared is None:
            finish_collection(site.layout, site.survey)
            _clean(site)
            return
        began = time.perf_counter()
        book = site.book
        cut: Cut = pending.shared
        receipts = book.all("ingest")
        held = [*cut.kept]
        for partition, recipe in cut.recipes.items():
            receipt = receipts.get(partition.name)
            if receipt is not None and book.holds(receipt, recipe.need):
                held.append(_held(partition, receipt))
            else:
                held.append(Held(partition, "", 0, recipe.files))
        held.sort(key=lambda one: _place(one.partition))
        written = [one for one in held if one.digest]
        if not written:
            raise SpecError(
                str(site.layout.root), "no partition could be written", "see the errors above"
            )
        if len(written) == len(held):
            _obey_the_law(cut.sources, [receipts[one.partition.name] for one in written])
        digest = sha256("".join(one.digest for one in written).encode()).hexdigest()
        parts = [receipts[one.partition.name].facts["sky"] for one in written]
        histogram = _total(parts) if site.survey.sky is not None else None
        outputs = finish_catalogue(
            site.layout,
            site.survey,
            tuple(one.partition for one in written),
            fingerprint=digest,
            histogram=histogram,
        )
        _say_what_went_away(site, cut)
        outputs |= _recorded(site, cut)
        names = {unit: words["number"] for unit, words in cut.sources.items()}
        page = {str(number): unit for unit, number in sorted(names.items(), key=lambda x: x[1])}
        outputs[site.layout.relative(site.layout.sources)] = commit_bytes(
            site.layout.sources, (json.dumps(page, indent=1) + "\n").encode()
        )
        for unit in set(receipts) - {one.partition.name for one in written} - {CATALOGUE_UNIT}:
            book.forget("ingest", unit)
        facts = total_facts(cut.sources.values()) | {
            "sources": cut.sources,
            "partitions": [one.to_json() for one in held],
            "duplicates": sum(words["duplicates"] for words in cut.sources.values()),
            "histogram": _histogram_words(histogram),
            "id": site.survey.id.column,
            "columns": cut.gathering.schema.names,
            "types": _types(cut.gathering.schema),
        }
        book.put(
            catalogue_need(site, cut.sources).receipt(
                digest=digest,
                rows=sum(one.partition.rows for one in written),
                outputs=outputs,
                seconds=time.perf_counter() - began,
                facts=facts,
            )
        )
        _clean(site)


def _obey_the_law(sources: Mapping[str, Mapping[str, Any]], partitions: Sequence[Receipt]) -> None:
    """Records of a file = its rows in the catalogue + those in quarantine.

    Raises
    ------
    TransientError
        Naming the file, where that is not so.
    """
    found: Counter[int] = Counter()
    for receipt in partitions:
        found.update({int(file): rows for file, rows in receipt.facts["counts"].items()})
    for unit, words in sources.items():
        rows, rejected, records = (
            found[words["number"]],
            words["rejected"] + words["duplicates"],
            words["records"],
        )
        if rows + rejected != records:
            raise TransientError(
                unit,
                f"{records:,} records stand in it, but {rows:,} are in the catalogue and "
                f"{rejected:,} in quarantine",
                "the catalogue is not published; run again, and please report it",
            )


def _notes(site: Site, state: Standing) -> tuple[str, ...]:
    """Why the catalogue must be published again, though no partition may be left to write."""
    problem = state.base and site.book.damage(state.base)
    return (f"{problem}: made again from the partitions",) if problem else ()


def _recorded(site: Site, cut: Cut) -> dict[str, str]:
    """Keep what repeats an id. The files of all sources in the quarantine, with their digests.

    The receipt of the catalogue guards them: what is lost of them is made again.
    """
    layout, base = site.layout, site.book.get("ingest", CATALOGUE_UNIT)
    guarded = dict(zip(base.outputs, base.digests, strict=True)) if base else {}
    names = {words["number"]: unit for unit, words in cut.sources.items()}
    for unit, rows in cut.rejected.items():
        reasons = _reasons(site.survey.id.column, rows, names)
        quarantine(layout, f"{REPEATED}.{unit}", rejected_table(unit, rows[ROW], reasons))
    found: dict[str, str] = {}
    for unit, words in cut.sources.items():
        for name in records(layout, unit, words):
            path = layout.output(name)
            if unit in cut.rejected:
                found[name] = digest_file(path)
            elif name in guarded and path.exists():  # they may be lost with the source itself
                found[name] = guarded[name]
    return found


def _say_what_went_away(site: Site, cut: Cut) -> None:
    """Rows of a file that went away between scan and ingest are in no partition."""
    for unit in set(site.book.all("scan")) - set(cut.sources):
        lost = RejectedRow(
            f"scan {unit}",
            0,
            f"{unit}: went away after it was read: none of its rows is in the catalogue "
            "(bring it back, if they should be, and run again)",
            "DataError",
        )
        quarantine(site.layout, f"scan.{unit}", (lost,))


def _clean(site: Site) -> None:
    """Shards are in the catalogue now: their receipts would speak of files that are gone."""
    for unit in site.book.all("scan"):
        site.book.forget("scan", unit)
    remove_tree(site.layout.shards)


def _cut(site: Site, state: Standing, scans: Mapping[str, Receipt]) -> Cut:
    """What must be written so that the catalogue holds all that its sources hold.

    The same however many of the partitions are written already: rows in the store that come from
    a source with news do not count, nor do those that are lost.
    """
    fresh = _in_order(scans[origin.unit] for origin in state.fresh if origin.unit in scans)
    again = _in_order(scans[origin.unit] for origin in state.again if origin.unit in scans)
    fresh_shards, again_shards = _shards(fresh), _shards(again)
    survey, layout = site.survey, site.layout
    on_disk = [one for one in state.held if one.partition not in state.lost]
    if fresh:
        news = _news(state, fresh)
        replaced = {receipt.facts["number"] for receipt in fresh}
        stays = any(not replaced.issuperset(one.files) for one in state.held)
        _judge(site, news, holds_rows=bool(fresh_shards) or stays)
    schema = catalogue_schema(
        layout,
        fresh_shards if on_disk or fresh_shards else again_shards,
        survey.id.column,
        {receipt.facts["number"]: receipt.unit for receipt in (*fresh, *again)},
        _held_schema(layout, on_disk),
        lambda column: _stored(layout, on_disk, column),
    )
    without = find_duplicates(
        layout,
        fresh_shards,
        survey.id.column,
        schema.field(survey.id.column).type,
        at_most=_tolerated(site, state, fresh),
        held=[one.partition for one in on_disk],
        again=again_shards,
    )
    gathering = Gathering(
        fresh_shards,
        without,
        again_shards,
        find_rows(layout, again_shards, _repeats(layout, again)),
        schema,
        tuple(receipt.facts["number"] for receipt in fresh),
    )
    sources, rejected = _sources(site, state, fresh, without)
    _judge_labels(site, total_facts(sources.values()))
    plan = _Plan(site, state, gathering, sources)
    partitions = plan.with_sky() if survey.sky is not None else plan.without_sky()
    recipes = {partition: recipe for partition, recipe in partitions if recipe is not None}
    held = {one.partition: one for one in state.held}
    kept = tuple(held[partition] for partition, recipe in partitions if recipe is None)
    return Cut(gathering, sources, recipes, kept, rejected)


class _Plan:
    """Which partitions there shall be, and what each is made of; None for what stays as it is."""

    def __init__(
        self,
        site: Site,
        state: Standing,
        gathering: Gathering,
        sources: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self._site, self._state, self._gathering = site, state, gathering
        self._contents = {words["number"]: (unit, words) for unit, words in sources.items()}
        facts = state.base.facts if state.base else {}
        columns = [gathering.schema.names, _types(gathering.schema)]
        # A column that grew wider, or that is new, is so in every partition.
        self._same_columns = columns == [facts.get("columns"), facts.get("types")]
        self._columns = words_digest(columns)

    def with_sky(self) -> list[tuple[Partition, Recipe | None]]:
        site, state, gathering = self._site, self._state, self._gathering
        words, layout = site.job.partition, site.layout
        order = words.max_order
        news = count_pixels(layout, gathering.fresh, order, gathering.fresh_without)
        kept = {one.partition: replace(one.partition, rows=self._rows(one)) for one in state.held}
        planned = extend_partitions(
            tuple(kept.values()),
            Histogram.total(news.values(), order),
            words.rows,
            lambda partition: self._histogram(partition, order),
        )
        lows = np.array([partition.index << 2 * (order - partition.order) for partition in planned])
        coming: dict[int, dict[int, tuple[int, int]]] = {}
        for number, histogram in news.items():
            places = np.unique(np.searchsorted(lows, histogram.pixels, side="right") - 1)
            for place in places.tolist():
                coming.setdefault(place, {})[number] = _EVERY_ROW
        held = sorted(state.held, key=lambda one: _place(one.partition))
        starts = [_pixels(one.partition)[0] for one in held]
        found: list[tuple[Partition, Recipe | None]] = []
        for place, partition in enumerate(planned):
            first, stop = _pixels(partition)
            begin = max(int(np.searchsorted(starts, first, side="right")) - 1, 0)
            end = int(np.searchsorted(starts, stop, side="left"))
            touching = [one for one in held[begin:end] if _pixels(one.partition)[1] > first]
            found.append((partition, self._recipe(partition, touching, coming.get(place, {}))))
        return found

    def without_sky(self) -> list[tuple[Partition, Recipe | None]]:
        site, state, gathering = self._site, self._state, self._gathering
        found: list[tuple[Partition, Recipe | None]] = []
        for one in state.held:
            rows = self._rows(one)
            if rows:
                partition = replace(one.partition, rows=rows)
                found.append((partition, self._recipe(partition, [one], {})))
        next_one = max((one.partition.index + 1 for one in state.held), default=0)
        size = site.job.partition.rows
        rows = sum(shard.rows for shard in gathering.fresh)
        gone = places_of(gathering.fresh, gathering.fresh_without)
        for planned in plan_row_ranges(rows, size, gone):
            places = (planned.index * size, (planned.index + 1) * size)
            coming = files_between(site.layout, gathering.fresh, places)
            partition = replace(planned, index=next_one + planned.index)
            found.append((partition, self._recipe(partition, [], coming, places)))
        return found

    def _recipe(
        self,
        partition: Partition,
        touching: Sequence[Held],
        coming: Mapping[int, tuple[int, int]],
        places: tuple[int, int] = (0, 0),
    ) -> Recipe | None:
        state = self._state
        replaced = set(self._gathering.replaced)
        held = {number: rows for one in touching for number, rows in one.files.items()}
        as_it_was = (
            not coming
            and self._same_columns
            and [one.partition for one in touching] == [partition]
            and replaced.isdisjoint(held)
            and partition not in state.lost
            and partition not in state.unreceipted
        )
        if as_it_was:
            return None
        files = {number: rows for number, rows in held.items() if number not in replaced}
        files |= coming
        contents = {}
        for number in sorted(files):
            unit, words = self._contents[number]
            contents[unit] = words["content"]
        depends = {
            "code": INGEST_VERSION,
            "partition": self._site.job.partition.model_dump(mode="json"),
            "columns": self._columns,
            "places": list(places),
            "files": contents,
        }
        return Recipe(
            Need("ingest", partition.name, depends),
            tuple(one.partition for one in touching if one.partition not in state.lost),
            tuple(one for one in touching if one.partition in state.lost),
            places,
            files,
        )

    def _rows(self, one: Held) -> int:
        """Rows of a partition that stay in it."""
        replaced = self._gathering.replaced
        if one.partition in self._state.lost or set(one.files).isdisjoint(replaced):
            return one.partition.rows
        return int(_stay(self._site.layout, one.partition, [FILE], replaced).num_rows)

    def _histogram(self, partition: Partition, order: int) -> Histogram:
        """Where on the sky the rows are that stay in a partition."""
        gathering, layout = self._gathering, self._site.layout
        if partition in self._state.lost:
            pixels, schema = _pixels(partition), pa.schema([(HEALPIX, pa.int64())])
            found = read_pixels(layout, gathering.again, pixels, schema, gathering.again_without)
        else:
            found = _stay(layout, partition, [HEALPIX, FILE], gathering.replaced)
        return Histogram.of(found[HEALPIX].to_numpy(), order)


def _gathered(site: Site, gathering: Gathering, partition: Partition, recipe: Recipe) -> pa.Table:
    """All rows of a partition, sorted. Takes memory for about two copies of them."""
    layout, schema = site.layout, gathering.schema
    if partition.kind == "rows":
        fresh = read_places(layout, gathering.fresh, recipe.places, schema, gathering.fresh_without)
    else:
        fresh = read_pixels(
            layout, gathering.fresh, _pixels(partition), schema, gathering.fresh_without
        )
    parts = [fresh]
    for one in recipe.disk:
        rows = _stay(layout, one, None, gathering.replaced)
        parts.append(fit(_within(rows, partition), schema))
    for held in recipe.lost:
        files = {
            number: rows for number, rows in held.files.items() if number not in gathering.replaced
        }
        shards = [shard for shard in gathering.again if shard.file in files]
        if partition.kind == "rows":
            rows = read_rows(layout, gathering.again, files, schema, gathering.again_without)
        else:
            low, high = _pixels(partition)
            first, stop = _pixels(held.partition)
            rows = read_pixels(
                layout,
                gathering.again,
                (max(low, first), min(high, stop)),
                schema,
                gathering.again_without,
            )
            rows = rows.filter(pc.is_in(rows[FILE], pa.array(list(files), pa.int32())))
        missing = files.keys() - {shard.file for shard in shards}
        if missing:
            raise DataError(
                f"partition {held.partition.name}",
                f"{len(missing)} of the files that its rows come from could not be read",
                "see what is quarantined, and run again",
            )
        parts.append(rows)
    return sort_rows(pa.concat_tables(parts), site.survey.id.column)


def _stay(
    layout: Layout, partition: Partition, columns: Sequence[str] | None, replaced: Sequence[int]
) -> pa.Table:
    """Rows of a partition in the store whose source has no news."""
    table = read_partition(layout, partition, columns)
    return table.filter(
        pc.invert(pc.is_in(table[FILE], pa.array(list(replaced), table[FILE].type)))
    )


def _within(table: pa.Table, partition: Partition) -> pa.Table:
    if partition.kind == "rows":
        return table
    first, stop = _pixels(partition)
    healpix = table[HEALPIX].to_numpy()
    return table.filter(pa.array((healpix >= first) & (healpix < stop)))


def _pixels(partition: Partition) -> tuple[int, int]:
    """The first pixel of order 29, and the one after the last."""
    shift = 2 * (HEALPIX_ORDER - partition.order)
    return partition.index << shift, (partition.index + 1) << shift


def _place(partition: Partition) -> int:
    return partition.index if partition.kind == "rows" else _pixels(partition)[0]


def _held(partition: Partition, receipt: Receipt) -> Held:
    files = {int(number): (low, high) for number, (low, high) in receipt.facts["files"].items()}
    return Held(replace(partition, rows=receipt.rows), receipt.digest, receipt.sizes[0], files)


def _files_of(table: pa.Table) -> dict[str, list[int]]:
    """First and last row of each source."""
    found = table.select([FILE, ROW]).group_by(FILE).aggregate([(ROW, "min"), (ROW, "max")])
    return {
        str(row[FILE]): [row[f"{ROW}_min"], row[f"{ROW}_max"]]
        for row in found.sort_by(FILE).to_pylist()
    }


def _counts_of(table: pa.Table) -> dict[str, int]:
    """Rows of each source."""
    counted = pc.value_counts(table[FILE].combine_chunks())
    return {str(one["values"]): one["counts"] for one in counted.to_pylist()}


def _sky(table: pa.Table) -> dict[str, Any] | None:
    """Where on the sky the rows are."""
    if HEALPIX not in table.column_names:
        return None
    return _histogram_words(Histogram.of(table[HEALPIX].to_numpy(), SKYMAP_ORDER))


def _total(parts: Iterable[Mapping[str, Any]]) -> Histogram:
    histograms = [
        Histogram(part["order"], np.array(part["pixels"]), np.array(part["counts"]))
        for part in parts
    ]
    return Histogram.total(histograms, SKYMAP_ORDER)


def _histogram_words(histogram: Histogram | None) -> dict[str, Any] | None:
    if histogram is None:
        return None
    return {
        "order": histogram.order,
        "pixels": histogram.pixels.tolist(),
        "counts": histogram.counts.tolist(),
    }


def _held_schema(layout: Layout, held: Sequence[Held]) -> pa.Schema | None:
    if not held:
        return None
    return read_schema(layout.partition(held[0].partition)).remove_metadata()


def _in_order(receipts: Iterable[Receipt]) -> tuple[Receipt, ...]:
    return tuple(sorted(receipts, key=lambda receipt: int(receipt.facts["number"])))


def _shards(receipts: Iterable[Receipt]) -> tuple[Shard, ...]:
    return tuple(Shard.from_json(record) for one in receipts for record in one.facts["shards"])


def _stored(layout: Layout, held: Sequence[Held], column: str) -> Iterator[pa.ChunkedArray]:
    """A column of the partitions that are in the store, one after the other."""
    for one in held:
        yield read_partition(layout, one.partition, [column])[column]


def _news(state: Standing, scans: Iterable[Receipt]) -> tuple[Receipt, ...]:
    """Scans of files that are not as they were: the others were judged before."""
    known = {words["key"] for words in state.sources.values()}
    return tuple(receipt for receipt in scans if receipt.key not in known)


def _tolerated(site: Site, state: Standing, scans: Sequence[Receipt]) -> int:
    """Rows that may repeat an id, given the bad ones that were found."""
    facts = total_facts(map(source_facts, _news(state, scans)))
    left = _allowed(site, facts["read"]) - int(facts["rejected"])
    before = {words["key"]: int(words["duplicates"]) for words in state.sources.values()}
    return max(left, 0) + sum(before.get(receipt.key, 0) for receipt in scans)


def _allowed(site: Site, read: int) -> int:
    source = site.job.source
    return int(source.bad_rows * read) if isinstance(source, FilesSource) else 0


def _judge(site: Site, news: Sequence[Receipt], *, holds_rows: bool) -> None:
    """Refuse what cannot become a catalogue, before anything of it is written."""
    facts = total_facts(map(source_facts, news))
    if facts["rejected"] > _allowed(site, facts["read"]):
        unit = next(receipt.unit for receipt in news if receipt.facts["rejected"])
        (bad,) = rejected_rows(site.layout, f"{REJECTED}.{unit}", at_most=1)
        raise SpecError(
            f"{bad.file}: row {bad.row}: {bad.reason}",
            f"{facts['rejected']:,} of {counted(facts['read'], 'row')} "
            f"{'is' if facts['rejected'] == 1 else 'are'} bad",
            "mend the file, or allow more with source.bad_rows",
        )
    if not holds_rows:
        raise SpecError("source", "the files hold no rows", "is it the right file?")


def _judge_labels(site: Site, facts: Mapping[str, Any]) -> None:
    if not any(facts["labelled"].values()):
        raise SpecError(
            "models",
            f"none of {counted(facts['read'], 'row')} has a label: there is nothing to train on",
            "give a file with labels, or correct 'labels' in the survey",
        )
    for model in site.job.models:
        for target in model.targets or ():
            label = site.survey.labels.of(target)
            if label is not None and not facts["labelled"][target]:
                raise SpecError(
                    f"models.{model.name}.targets",
                    f"'{target}' has no label: column '{label.column}' holds no usable value "
                    f"in {counted(facts['read'], 'row')}",
                    f"take '{target}' out of the targets, or give a file with labels",
                )


def _types(schema: pa.Schema) -> list[str]:
    return [str(field.type) for field in schema]


def _repeats(layout: Layout, scans: Iterable[Receipt]) -> dict[int, NDArray[np.int64]]:
    """Rows of sources that were left out because they repeat an id.

    `standing` has seen to it that the files are what was written.
    """
    return {
        receipt.facts["number"]: rejected_positions(layout, f"{REPEATED}.{receipt.unit}")
        for receipt in scans
    }


def _sources(
    site: Site, state: Standing, fresh: Sequence[Receipt], without: pa.Table
) -> tuple[dict[str, dict[str, Any]], dict[str, pa.Table]]:
    """What is known of every source, and the rows of those with news that repeat an id."""
    sources = {unit: dict(words) for unit, words in state.sources.items()}
    for receipt in fresh:
        sources[receipt.unit] = source_facts(receipt)
    names = {words["number"]: unit for unit, words in sources.items()}
    files = without[FILE].to_numpy()
    rejected = {}
    for receipt in fresh:
        unit, number = receipt.unit, receipt.facts["number"]
        begin, end = np.searchsorted(files, [number, number + 1]).tolist()
        rows = rejected[unit] = without.slice(begin, end - begin)
        content = sha256(rows[ROW].to_numpy().tobytes()).hexdigest()
        first = {names[file] for file in rows["first_file"].unique().to_pylist()}
        sources[unit] |= {
            "duplicates": rows.num_rows,
            # Should one of these change, this source is read again: its rows may come back.
            "repeats": sorted(first - {unit}),
            "content": words_digest([receipt.key, content]),
        }
    return sources, rejected


def _reasons(column: str, rows: pa.Table, names: Mapping[int, str]) -> pa.Array:
    """Why each of the rows of `find_duplicates` is left out, given the names of the files."""
    numbers = sorted(names)
    place = pc.index_in(rows["first_file"], pa.array(numbers, rows["first_file"].type))
    first = pa.array([names[number] for number in numbers]).take(place.combine_chunks())
    text = [rows[name].cast(pa.string()).combine_chunks() for name in ("id", "first_row")]
    reason = f"column '{column}': the id is that of another row{GOT}"
    return pc.binary_join_element_wise(reason, text[0], " (row ", text[1], " of ", first, ")", "")
