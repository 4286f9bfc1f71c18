from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from small import REPOSITORY

from galbatch.errors import DataError, TransientError
from galbatch.store import arrays
from galbatch.store.arrays import (
    Arrays,
    ArraySpec,
    ArrayWriter,
    GroupSpec,
    Span,
    TableRows,
    allocate,
    check,
    plan_spans,
    write,
)
from galbatch.store.commit import digest_file
from galbatch.store.layout import Layout
from galbatch.store.locations import location
from galbatch.values import Coordinate, PredictedColumn

NAME = "photometric"
GRID = tuple(np.linspace(0, 3, 7).tolist())
PZ = ArraySpec(
    "pz",
    (7,),
    ("z",),
    ucd="stat.pdf;src.redshift.phot",
    description="Density of the redshift",
    chunk_rows=4,
)
SPEC = GroupSpec(
    (PZ,), coordinates=(Coordinate("z", GRID, "", "src.redshift", "Redshift"),), shard_rows=16
)
ROWS = {"o5-p1": 40, "o5-p2": 16, "o6-p12": 5}


def make_ids(partition: str, rows: int) -> np.ndarray:
    return np.arange(rows, dtype=np.int64) * 7 + 1000 * int(partition.rpartition("p")[2])


def made(ids: np.ndarray, array: ArraySpec = PZ) -> np.ndarray:
    shape = (len(ids), *(1 for _ in array.shape))
    phase = np.arange(np.prod(array.shape)).reshape(array.shape)
    return (100 * np.sin(ids.reshape(shape) + phase) + 100).astype(array.dtype)


def make_values(ids: np.ndarray, spec: GroupSpec = SPEC) -> dict[str, np.ndarray]:
    return {array.name: made(ids, array) for array in spec.arrays}


def write_partition(
    layout: Layout, partition: str, span: Span, spec: GroupSpec = SPEC, batch: int = 11
) -> arrays.Written:
    ids = make_ids(partition, span.rows)
    parts = (ids[first : first + batch] for first in range(0, len(ids), batch))
    return write(layout, NAME, spec, span, ((part, make_values(part, spec)) for part in parts))


def write_all(
    layout: Layout, rows: dict[str, int] = ROWS, spec: GroupSpec = SPEC
) -> dict[str, Span]:
    spans = allocate(layout, NAME, spec, rows)
    for partition, span in spans.items():
        write_partition(layout, partition, span, spec)
    return spans


def table(partition: str) -> TableRows:
    return TableRows(make_ids(partition, ROWS[partition]), {})


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "store")


# What is written is read


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int16", "uint64"])
@pytest.mark.parametrize(
    ("shape", "dimensions"), [((7,), ("z",)), ((), ()), ((2, 3, 4), ("band", "y", "x"))]
)
def test_round_trip(
    layout: Layout, dtype: str, shape: tuple[int, ...], dimensions: tuple[str, ...]
) -> None:
    grids = SPEC.coordinates if shape == (7,) else ()
    one = replace(PZ, dtype=dtype, shape=shape, dimensions=dimensions)
    mask = ArraySpec("mask", shape, dimensions, "uint8", chunk_rows=16)
    spec = replace(SPEC, arrays=(one, mask), coordinates=grids)
    write_all(layout, spec=spec)
    found = Arrays(layout, NAME)
    for partition, rows in ROWS.items():
        ids, values = found.read(partition)
        np.testing.assert_array_equal(ids, make_ids(partition, rows))
        parts = list(found.batches(partition))
        assert all(len(part) <= spec.shard_rows for part, _ in parts)
        for array in spec.arrays:
            np.testing.assert_array_equal(values[array.name], made(ids, array))
            assert values[array.name].dtype == array.dtype and ids.dtype == np.int64
            together = np.concatenate([part[array.name] for _, part in parts])
            np.testing.assert_array_equal(together, values[array.name])
        assert list(found.read(partition, names=["mask"])[1]) == ["mask"]
    assert check(layout, NAME, spec, ROWS, table) == []


def test_shards_and_chunks_follow_from_bytes() -> None:
    def spec_of(*columns: tuple[str, tuple[int, ...], str]) -> GroupSpec:
        found = arrays.group_spec(
            [
                PredictedColumn(
                    name, dtype, "", "", "", shape, tuple(f"{name}_{i}" for i in range(len(shape)))
                )  # type: ignore[arg-type]
                for name, shape, dtype in columns
            ],
            "int64",
        )
        assert found is not None
        return found

    grid = spec_of(("pz", (301,), "float32"))
    assert (grid.shard_rows, grid.arrays[0].chunk_rows) == (4096, 256)
    spectra = spec_of(
        ("flux", (4096,), "float32"), ("ivar", (4096,), "float32"), ("mask", (4096,), "uint8")
    )
    assert spectra.shard_rows == 512 and spectra.shard_bytes <= 2**25
    assert [array.chunk_rows for array in spectra.arrays] == [32, 32, 128]
    cutouts = spec_of(("image", (5, 64, 64), "float32"))
    assert (cutouts.shard_rows, cutouts.arrays[0].chunk_rows) == (256, 4)
    assert spec_of(("cube", (2**22,), "float64")).shard_rows == 1
    assert arrays.group_spec([], "int64") is None
    assert GroupSpec.from_json(json.loads(json.dumps(spectra.to_json()))) == spectra


def test_rows_without_a_value_are_counted_in_every_type(layout: Layout) -> None:
    kinds = ("float32", "uint8", "int16")
    columns = tuple(ArraySpec(kind, (3,), ("x",), kind, chunk_rows=4) for kind in kinds)
    spec = GroupSpec(columns, shard_rows=16)
    span = allocate(layout, None, spec, {"a": 20})["a"]
    ids = np.arange(20)
    values = {array.name: made(ids, array) for array in columns}
    for array in columns:
        values[array.name][7:9] = array.missing
        values[array.name][11, 1] = array.missing  # not the whole row
    written = write(layout, None, spec, span, [(ids, values)])
    assert written.missing == dict.fromkeys(kinds, 2)
    told = TableRows(ids, written.missing, 0)
    assert check(layout, None, spec, {"a": 20}, lambda _: told) == []
    _, found = Arrays(layout, None).read("a")
    for array in columns:
        np.testing.assert_array_equal(found[array.name], values[array.name])
    for other, name in (
        (TableRows(ids, {}), "no value"),
        (TableRows(ids, None, 16), "wrong place"),
    ):
        assert {p.name for p in check(layout, None, spec, {"a": 20}, lambda _: other)} == {name}  # noqa: B023


def test_some_rows(layout: Layout) -> None:
    write_all(layout)
    found = Arrays(layout, NAME)
    everything = found.read("o5-p1")
    for rows in (
        np.array([39, 3, 3, 17]),
        np.array([], np.int64),
        slice(10, 20),
        slice(30, 5),
        slice(None, None, 7),
    ):
        ids, values = found.read("o5-p1", rows)
        np.testing.assert_array_equal(ids, everything[0][rows])
        np.testing.assert_array_equal(values["pz"], everything[1]["pz"][rows])
    with pytest.raises(IndexError):
        found.read("o6-p12", np.array([5]))


def test_ids_that_are_words(layout: Layout) -> None:
    spec = replace(SPEC, ids="string")
    span = allocate(layout, NAME, spec, {"a": 20})["a"]
    ids = np.array([f"J{number:04d}+\N{GREEK SMALL LETTER ALPHA}" for number in range(20)], object)
    values = made(np.arange(20))
    one = write(layout, NAME, spec, span, [(ids, {"pz": values})])
    found, _ = Arrays(layout, NAME).read("a")
    assert found.dtype.kind == "T" and list(found) == list(ids)
    parts = [(ids[:9], {"pz": values[:9]}), (ids[9:], {"pz": values[9:]})]
    assert write(layout, NAME, spec, span, parts) == one
    assert check(layout, NAME, spec, {"a": 20}, lambda _: TableRows(ids)) == []
    (problem,) = check(layout, NAME, spec, {"a": 20}, lambda _: TableRows(np.roll(ids[:], 1)))[:1]
    assert problem.name == "wrong id" and problem.expected == ids[-1]


@pytest.mark.parametrize(
    ("ids", "kind"),
    [
        ([1.5], "int64"),
        (["x"], "int64"),
        ([None], "string"),
        ([""], "string"),
        ([-(2**63)], "int64"),
        ([3], "string"),
        ([2**63], "int64"),
    ],
)
def test_ids_that_cannot_be(ids: list[object], kind: str) -> None:
    array = np.array(ids) if isinstance(ids[0], int | float) else np.array(ids, object)
    with pytest.raises(DataError, match="ids"):
        arrays.as_ids(array, kind)


def test_the_same_rows_make_the_same_bytes(layout: Layout) -> None:
    spans = allocate(layout, NAME, SPEC, ROWS)
    span = spans["o5-p1"]
    one = write_partition(layout, "o5-p1", span, batch=1)
    assert one == write_partition(layout, "o5-p1", span, batch=1000)
    assert one.rows == 40 and len(one.outputs) == 6
    for output, digest in one.outputs.items():
        assert digest_file(layout.root / output) == digest


def test_rows_without_values_have_a_shard_all_the_same(layout: Layout) -> None:
    span = allocate(layout, NAME, SPEC, {"o5-p1": 20})["o5-p1"]
    ids = make_ids("o5-p1", 20)
    written = write(layout, NAME, SPEC, span, [(ids, {"pz": np.full((20, 7), np.nan)})])
    assert len(written.outputs) == 4 and all((layout.root / o).exists() for o in written.outputs)
    rows = TableRows(ids, {"pz": 20})
    assert check(layout, NAME, SPEC, {"o5-p1": 20}, lambda _: rows) == []


def test_a_shrunk_partition_leaves_nothing_of_its_longer_self(layout: Layout) -> None:
    write_all(layout)
    rows = ROWS | {"o5-p1": 10}
    spans = allocate(layout, NAME, SPEC, rows)
    assert spans["o5-p1"] == Span(0, 10, 48)
    assert not (layout.arrays(NAME) / "pz" / "c.1.0").exists()
    write_partition(layout, "o5-p1", spans["o5-p1"])
    told = {name: TableRows(make_ids(name, count), {}) for name, count in rows.items()}
    assert check(layout, NAME, SPEC, rows, told.__getitem__) == []


def test_wrong_rows_are_refused_and_nothing_is_left(layout: Layout) -> None:
    span = allocate(layout, NAME, SPEC, ROWS)["o5-p1"]
    ids = make_ids("o5-p1", 41)
    with pytest.raises(ValueError, match="more rows"):
        write(layout, NAME, SPEC, span, [(ids, make_values(ids))])
    with pytest.raises(ValueError, match="expected 40 rows, 39"):
        write(layout, NAME, SPEC, span, [(ids[:39], make_values(ids[:39]))])
    with pytest.raises(ValueError, match="shape"):
        write(layout, NAME, SPEC, span, [(ids[:2], make_values(ids[:3]))])
    assert not list(layout.arrays(NAME).glob("*/c.*"))
    with pytest.raises(DataError, match="has not been written"):
        Arrays(layout, NAME).read("o5-p1")
    with pytest.raises(DataError, match="no partition"):
        Arrays(layout, NAME).read("o9-p9")
    with pytest.raises(DataError, match="no arrays"):
        Arrays(layout, "other")
    with pytest.raises(ValueError, match="allocate"):
        write_partition(layout, "o5-p1", replace(span, first=1600))


def test_what_reads_back_different_is_no_shard(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    span = allocate(layout, NAME, SPEC, ROWS)["o5-p1"]
    monkeypatch.setattr("galbatch.store.arrays.writer._reads_back", lambda *_: False)
    with pytest.raises(TransientError, match="reads back different"):
        write_partition(layout, "o5-p1", span)
    assert not list(layout.arrays(NAME).glob("*/c.*"))


@pytest.mark.parametrize(
    "words",
    [
        {"name": "id"},
        {"dimensions": ("row",)},
        {"dimensions": ("pz",)},
        {"dimensions": ()},
        {"dtype": "object"},
        {"name": "../pz"},
        {"chunk_rows": 5},
        {"shape": (8,)},
    ],
)
def test_specs_that_cannot_be(words: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        replace(SPEC, arrays=(replace(PZ, **words),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "words",
    [
        {"shard_rows": 15},
        {"ids": "float64"},
        {"coordinates": (Coordinate("z", GRID[:3]),)},
        {"coordinates": (Coordinate("y", GRID),)},
        {"arrays": (PZ, PZ)},
        {"arrays": (PZ, ArraySpec("other", (3,), ("z",)))},
        {"arrays": (ArraySpec("two", (7, 7), ("z", "z")),)},
    ],
)
def test_groups_that_cannot_be(words: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        replace(SPEC, **words)  # type: ignore[arg-type]


def test_any_root_that_fsspec_knows() -> None:
    layout = Layout(location("memory://galbatch-arrays/store"))
    write_all(layout)
    write_all(layout, ROWS | {"o5-p1": 50})
    write_all(layout, ROWS)
    assert check(layout, NAME, SPEC, ROWS, table) == []
    ids, _ = Arrays(layout, NAME).read("o5-p1")
    np.testing.assert_array_equal(ids, make_ids("o5-p1", 40))


# Other programs


def examples(word: str) -> str:
    lines = [line[4:] for line in (arrays.__doc__ or "").splitlines() if line.startswith(">>> ")]
    one, two, three = "\n".join(lines[:2]), "\n".join(lines[2:4]), "\n".join(lines[4:6])
    return {"id": one, "partition": two, "xarray": three}[word]


def test_documented_examples(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    span = allocate(layout, NAME, SPEC, {"o5-p1": 3, "o5-p1234": 40})["o5-p1234"]
    ids = np.arange(20, 60)
    write(layout, NAME, SPEC, span, [(ids, make_values(ids))])
    monkeypatch.chdir(layout.root.parent)
    names: dict[str, object] = {"zarr": zarr, "np": np}
    exec(examples("id"), names)
    np.testing.assert_array_equal(names["pdf"], made(np.array([42]))[0])
    exec(examples("partition"), names)
    np.testing.assert_array_equal(names["pdfs"], made(ids))


def test_documented_example_of_xarray(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("xarray") is None:
        pytest.skip("xarray is not installed")
    import xarray

    write_all(layout)
    monkeypatch.chdir(layout.root.parent)
    names: dict[str, object] = {"xarray": xarray}
    exec(examples("xarray"), names)
    values = np.concatenate([made(make_ids(*item)) for item in ROWS.items()])
    mean = names["mean"]
    assert isinstance(mean, xarray.DataArray)
    np.testing.assert_allclose(mean, values.mean(0), atol=1e-6)
    assert tuple(mean["z"].values) == GRID and mean["z"].attrs["ucd"] == "src.redshift"


def test_files_say_what_they_hold(layout: Layout) -> None:
    write_all(layout)
    group = zarr.open_group(layout.arrays(NAME), mode="r")
    assert sorted(group.array_keys()) == ["id", "pz", "z"]
    words = json.loads((layout.arrays(NAME) / "pz" / "zarr.json").read_text())
    assert words["dimension_names"] == ["row", "z"]
    assert words["attributes"] == {
        "units": "",
        "ucd": "stat.pdf;src.redshift.phot",
        "long_name": "Density of the redshift",
    }
    (sharding,) = words["codecs"]
    assert sharding["name"] == "sharding_indexed"
    blosc = sharding["configuration"]["codecs"][1]["configuration"]
    assert (blosc["cname"], blosc["clevel"], blosc["shuffle"]) == ("zstd", 1, "shuffle")


# Places

NAMES = st.text("abc", min_size=1, max_size=2)
CATALOGUES = st.lists(st.dictionaries(NAMES, st.integers(0, 70), max_size=8), max_size=6)


@given(CATALOGUES, st.sampled_from([1, 4, 16]))
def test_places(catalogues: list[dict[str, int]], size: int) -> None:
    spans: dict[str, Span] = {}
    end = 0
    for rows in catalogues:
        before, was = spans, end
        spans, end = plan_spans(before, was, rows, size)
        assert (spans, end) == plan_spans(before, was, rows, size)
        assert (spans, end) == plan_spans(spans, end, rows, size)  # called again
        assert list(spans) == list(rows) and end >= was and end % size == 0
        taken: set[int] = set()
        for name, span in spans.items():
            assert span.rows == rows[name] <= span.room and span.end <= end
            assert span.first % size == 0 and span.room % size == 0
            own = set(range(span.first, span.end))
            assert not own & taken
            taken |= own
            old = before.get(name)
            if old is not None and rows[name] <= old.room:
                assert (span.first, span.room) == (old.first, old.room)
            else:
                assert span.first >= was and span.room - rows[name] < size


def test_partitions_come_grow_and_go(layout: Layout) -> None:
    first = write_all(layout)
    before = digests(layout.arrays(NAME))
    assert allocate(layout, NAME, SPEC, ROWS) == first and digests(layout.arrays(NAME)) == before
    rows = {"o5-p1": 44, "o6-p12": 17, "o5-p3": 3}
    second = allocate(layout, NAME, SPEC, rows)
    assert second["o5-p1"] == Span(0, 44, 48)
    assert second["o6-p12"].first == first["o6-p12"].end and second["o6-p12"].room == 32
    assert second["o5-p3"] == Span(112, 3, 16)
    left = {path.name for path in (layout.arrays(NAME) / "pz").glob("c.*")}
    assert left == {"c.0.0", "c.1.0", "c.2.0"}
    for partition in rows:
        write_partition(layout, partition, second[partition])
    told = {name: TableRows(make_ids(name, count), {}) for name, count in rows.items()}
    assert check(layout, NAME, SPEC, rows, told.__getitem__) == []


def test_no_partitions_at_all(layout: Layout) -> None:
    assert allocate(layout, NAME, SPEC, {}) == {}
    assert check(layout, NAME, SPEC, {}, table) == []
    spans = write_all(layout, {"o5-p1": 0, "o5-p2": 3})
    assert spans["o5-p1"] == Span(0, 0, 0)
    assert check(layout, NAME, SPEC, {"o5-p1": 0, "o5-p2": 3}) == []


def test_another_grid_begins_anew_but_other_words_do_not(layout: Layout) -> None:
    write_all(layout)
    before = digests(layout.arrays(NAME))
    allocate(layout, NAME, replace(SPEC, arrays=(replace(PZ, description="p(z)"),)), ROWS)
    after = digests(layout.arrays(NAME))
    assert {name for name in after if after[name] != before[name]} == {"pz/zarr.json"}
    other = replace(SPEC, coordinates=(Coordinate("z", tuple(x + 1 for x in GRID)),))
    assert other.digest != SPEC.digest
    allocate(layout, NAME, other, {"o6-p12": 5})
    assert not list(layout.arrays(NAME).glob("*/c.*"))
    assert [p.name for p in check(layout, NAME, SPEC, ROWS)] == ["other arrays"]


def test_killed_between_any_two_steps_the_next_call_ends_the_same(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {"o5-p1": 60, "o5-p2": 3, "o5-p9": 40}

    class Killed(BaseException):
        pass

    def run(store: Layout, other: bool, limit: int) -> int:
        """Stop at the write or removal with a number; how many there were."""
        done = 0

        def counted(act: Callable[..., object]) -> Callable[..., object]:
            def wrapper(*args: object, **words: object) -> object:
                nonlocal done
                done += 1
                if done > limit:
                    raise Killed
                return act(*args, **words)

            return wrapper

        spec = replace(SPEC, arrays=(replace(PZ, dtype="float16"),)) if other else SPEC
        with monkeypatch.context() as patch:
            patch.setattr("zarr.storage._local._put", counted(zarr.storage._local._put))
            patch.setattr(Path, "unlink", counted(Path.unlink))
            allocate(store, NAME, spec, rows)
        return done

    for other in (False, True):
        sound = Layout(tmp_path / f"sound-{other}")
        write_all(sound)
        steps = run(sound, other, 10**9)
        assert steps > 3
        for limit in range(steps):
            store = Layout(tmp_path / f"killed-{other}-{limit}")
            write_all(store)
            with pytest.raises(Killed):
                run(store, other, limit)
            run(store, other, 10**9)
            assert digests(store.root) == digests(sound.root)


# Workers

WORKER = """
    import os, signal, sys
    from pathlib import Path
    import numpy as np
    from galbatch.store.arrays import ArrayWriter, Span
    from galbatch.store.layout import Layout
    sys.path.insert(0, {tests!r})
    from test_arrays import NAME, SPEC, make_ids, make_values
    root, partition, first, rows, room, stop = sys.argv[1:]
    span = Span(int(first), int(rows), int(room))
    ids = make_ids(partition, span.rows)
    print("ready", flush=True)
    sys.stdin.readline()
    with ArrayWriter(Layout(Path(root)), NAME, SPEC, span) as writer:
        for at in range(0, len(ids), 5):
            if 0 <= int(stop) <= at:
                open(Path(root) / "arrays" / NAME / "pz" / "c.1.feed.partial", "wb").write(b"x")
                os.kill(os.getpid(), signal.SIGKILL)
            writer.write(ids[at:at + 5], make_values(ids[at:at + 5]))
        writer.commit()
"""


def start_worker(
    layout: Layout, partition: str, span: Span, stop: int = -1
) -> subprocess.Popen[str]:
    script = textwrap.dedent(WORKER).format(tests=str(Path(__file__).parent))
    words = [str(layout.root), partition, *map(str, (span.first, span.rows, span.room, stop))]
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    return subprocess.Popen(
        [sys.executable, "-c", script, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )


def test_two_workers_beside_each_other_lose_nothing(layout: Layout) -> None:
    rows = {"o5-p1": 170, "o5-p2": 165}
    spans = allocate(layout, NAME, SPEC, rows)
    workers = [start_worker(layout, *item) for item in spans.items()]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate(timeout=120)
        assert worker.returncode == 0
    told = {name: TableRows(make_ids(name, count), {}) for name, count in rows.items()}
    assert check(layout, NAME, SPEC, rows, told.__getitem__) == []


def test_killed_in_the_middle_and_written_again_is_the_same(layout: Layout, tmp_path: Path) -> None:
    sound = Layout(tmp_path / "sound")
    write_all(sound)
    spans = write_all(layout)
    worker = start_worker(layout, "o5-p1", spans["o5-p1"], stop=25)
    worker.communicate("go\n", timeout=120)
    assert worker.returncode == -signal.SIGKILL
    # Of the old rows none is left, of the new ones those of the first shard are there.
    assert {path.name for path in (layout.arrays(NAME) / "pz").glob("c.[012].*")} == {
        "c.0.0",
        "c.1.feed.partial",
    }
    with pytest.raises(DataError, match="has not been written"):
        Arrays(layout, NAME).read("o5-p1")
    again = allocate(layout, NAME, SPEC, ROWS)
    write_partition(layout, "o5-p1", again["o5-p1"])
    assert digests(layout.root) == digests(sound.root)


# Damage

Damage = Callable[[Path], None]


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    words = json.loads(path.read_text())
    change(words)
    path.write_text(json.dumps(words))


def put(span: list[int] | None, name: str = "o6-p12") -> Damage:
    """The last partition's span changed, taken away, or given to another."""

    def change(words: dict[str, Any]) -> None:
        spans = words["attributes"]["partitions"]
        del spans["o6-p12"]
        if span is not None:
            spans[name] = span

    return lambda group: edit(group / "zarr.json", change)


def set_row(array: str, row: int, value: object) -> Damage:
    def act(group: Path) -> None:
        zarr.open_array(group / array, mode="r+")[row] = value

    return act


def truncate(array: str, name: str, left: int) -> Damage:
    def act(group: Path) -> None:
        path = group / array / name
        path.write_bytes(path.read_bytes()[:left])

    return act


def flip(array: str, name: str, at: int) -> Damage:
    def act(group: Path) -> None:
        path = group / array / name
        data = bytearray(path.read_bytes())
        data[at] ^= 0x10
        path.write_bytes(bytes(data))

    return act


def shorten(group: Path) -> None:
    zarr.open_array(group / "id", mode="r+").resize((64,))


@pytest.mark.parametrize(
    ("damage", "name", "words"),
    [
        (
            put([48, 5, 16]),
            "overlap",
            "o6-p12: overlap: expected first row 64 or later, after o5-p2",
        ),
        (put([63, 5, 16]), "unaligned", "expected whole shards of 16 rows, found rows 63 to 79"),
        (
            put([64, 4, 16]),
            "wrong row count",
            "o6-p12: wrong row count: expected 5 rows, found 4",
        ),
        (
            put(None),
            "missing partition",
            "o6-p12: missing partition: expected 5 rows, found no span",
        ),
        (
            put([64, 5, 16], "o7-p7"),
            "unknown partition",
            "o7-p7: unknown partition: expected none, found 5 rows",
        ),
        (set_row("id", 17, 5), "wrong id", "id/c.1 row 17 o5-p1: wrong id: expected 1119, found"),
        (set_row("id", 17, -(2**63)), "wrong row count", "expected 16 rows, found 15"),
        (set_row("id", 70, 5), "wrong row count", "expected 5 rows, found 6"),
        (
            set_row("pz", 17, np.nan),
            "no value",
            "pz o5-p1: no value: expected 0 rows without a value, found 1",
        ),
        (set_row("pz", 70, 1.0), "values of no row", "pz/c.4.0 o6-p12"),
        (truncate("pz", "c.1.0", 100), "unreadable shard", "pz/c.1.0 o5-p1"),
        (truncate("pz", "c.1.0", 0), "unreadable shard", "pz/c.1.0 o5-p1"),
        (truncate("id", "c.3", 40), "unreadable shard", "id/c.3 o5-p2"),
        *(
            (flip("pz", "c.0.0", at), "unreadable shard", "pz/c.0.0 o5-p1")
            for at in (3, 40, 120, 200, 300, -30, -2)
        ),
        *((flip("id", "c.1", at), "unreadable shard", "id/c.1 o5-p1") for at in (0, 30, 50, -1)),
        *(
            (truncate("pz", "c.1.0", left), "unreadable shard", "pz/c.1.0 o5-p1")
            for left in (1, 67, 68, 69, 400)
        ),
        (lambda g: (g / "pz/c.1.0").unlink(), "missing shard", "pz/c.1.0 o5-p1: missing shard"),
        (lambda g: (g / "id/c.4").unlink(), "missing shard", "id/c.4 o6-p12: missing shard"),
        (lambda g: (g / "pz/c.9.0").write_bytes(b"?"), "stray shard", "pz/c.9.0: stray shard"),
        (lambda g: (g / "id/zarr.json").unlink(), "unreadable array", "arrays/photometric/id"),
        (lambda g: (g / "zarr.json").unlink(), "no arrays", "arrays/photometric: no arrays"),
        (lambda g: (g / "z/c/0").unlink(), "wrong coordinate", "arrays/photometric/z"),
        (shorten, "wrong shape", "arrays/photometric/id: wrong shape: expected (80,), found (64,)"),
    ],
)
def test_damage_is_found(layout: Layout, damage: Damage, name: str, words: str) -> None:
    write_all(layout)
    assert check(layout, NAME, SPEC, ROWS, table) == []
    damage(layout.arrays(NAME))
    problems = check(layout, NAME, SPEC, ROWS, table)
    assert name in {problem.name for problem in problems}
    assert words in "\n".join(map(str, problems))
    assert all("\n" not in str(problem) for problem in problems)


def test_shards_of_a_foreign_partition_are_found(layout: Layout) -> None:
    write_all(layout)
    group = layout.arrays(NAME)
    for array, name in (("pz", "c.{}.0"), ("id", "c.{}")):
        (group / array / name.format(3)).replace(group / array / name.format(0))
        (group / array / name.format(3)).write_bytes((group / array / name.format(0)).read_bytes())
    problems = check(layout, NAME, SPEC, ROWS, table)
    assert [(p.name, p.found) for p in problems] == [("wrong id", "2000 (16 such rows)")]
    assert problems[0].files == (group / "pz/c.0.0", group / "id/c.0")
    assert check(layout, NAME, SPEC, ROWS) == []  # nobody asked for the ids


def test_tables_of_another_length(layout: Layout) -> None:
    write_all(layout)
    problems = check(layout, NAME, SPEC, ROWS, lambda p: TableRows(make_ids(p, 16)))
    assert [p.name for p in problems] == ["wrong row count"] * 2


def test_a_writer_that_is_left_without_commit_leaves_nothing(layout: Layout) -> None:
    span = write_all(layout)["o5-p1"]
    ids = make_ids("o5-p1", 40)
    with ArrayWriter(layout, NAME, SPEC, span) as writer:
        writer.write(ids, make_values(ids))
    assert not list(layout.arrays(NAME).glob("*/c.[012].*"))
