"""Spectra from files to the store: every row keeps its own, whatever happens on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from spectra_files import ARRAYS, OWN_GRIDS, WRITERS, Spectra, arrays_of, table_of

from galbatch.errors import SpecError
from galbatch.spec import load_survey
from galbatch.stages.sources import survey_meaning
from galbatch.store.quarantine import rejected_rows
from galbatch.store.receipts import ReceiptBook
from galbatch.store.units import CATALOGUE_UNIT
from galbatch.store.verify import verify, withdraw

EVERYTHING = np.arange(1, 401)


def content(root: Path) -> dict[str, str]:
    """The files of a store that do not say when or where it was made."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in ("catalogue", "arrays")
        for path in sorted((root / folder).rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("kind", list(WRITERS))
def test_spectra_of_every_format(kind: str, tmp_path: Path) -> None:
    world = Spectra(tmp_path, kind=kind)
    ids = np.random.default_rng(1).permutation(EVERYTHING)
    world.write("a", ids[:250])
    world.write("b", ids[250:])
    world.run()
    world.expect(EVERYTHING)
    assert list(verify(world.site().layout)) == []
    group = zarr.open_group(tmp_path / "store" / "arrays" / "catalogue", mode="r")
    assert sorted(group.array_keys()) == ["id", "ivar", "mask", "spectrum", "wavelength"]
    assert group["mask"].dtype == np.uint8 and group["spectrum"].shape[1] == 4096
    assert group["wavelength"][:2] == pytest.approx([10**3.55, 10**3.5501])
    assert dict(group["spectrum"].attrs)["units"] == "1e-17 erg / (s cm2 Angstrom)"
    # One object by its id, as the documentation says.
    row = int(np.flatnonzero(group["id"][:] == 42)[0])
    ivar = arrays_of(np.array([42]), 4096)["ivar"][0]
    assert group["ivar"][row][10:4090].tolist() == ivar[10:4090].tolist()


def test_nothing_to_do_is_nothing_done(tmp_path: Path) -> None:
    world = Spectra(tmp_path, 300)
    world.write("a", EVERYTHING)
    world.run()
    before = content(tmp_path / "store")
    assert all(one.units == 0 for one in world.run().records)
    assert content(tmp_path / "store") == before


@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sets(st.integers(1, 40), max_size=25), st.randoms()),
        min_size=1,
        max_size=4,
    )
)
def test_files_that_come_change_and_shrink(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, set[int], Any]]
) -> None:
    world = Spectra(tmp_path_factory.mktemp("changes"), 300)
    world.words["partition"] = {"rows": 12, "max_order": 10}
    base = {"a": 0, "b": 100, "c": 200}
    held = {"a": set(range(1, 30))}
    world.write("a", sorted(held["a"]))
    world.run()
    for name, some, random in changes:
        ids = [base[name] + number for number in some or {1}]
        random.shuffle(ids)
        held[name] = set(ids)
        world.write(name, ids)
        world.run()
        world.expect(sorted(set().union(*held.values())))
    assert list(verify(world.site().layout)) == []


def test_a_column_that_a_file_lacks_is_missing_there(tmp_path: Path) -> None:
    world = Spectra(tmp_path, 300)
    world.write("a", range(1, 100))
    lacks = table_of(np.arange(100, 160), 300)
    del lacks["mask"], lacks["ivar"]
    world.write_table("b", lacks)
    world.run()
    group = zarr.open_group(tmp_path / "store" / "arrays" / "catalogue", mode="r")
    of_b = np.isin(group["id"][:], np.arange(100, 160))
    assert of_b.sum() == 60
    assert np.isnan(group["ivar"][:][of_b]).all() and (group["mask"][:][of_b] == 255).all()
    assert np.isfinite(group["spectrum"][:][of_b][:, 0]).all()
    assert list(verify(world.site().layout)) == []


def test_a_row_that_would_read_as_missing_is_quarantined(tmp_path: Path) -> None:
    world = Spectra(tmp_path, 300)
    table = table_of(EVERYTHING, 300)
    table["mask"][7] = 255
    world.write_table("a", table)
    world.run()
    (row,) = rejected_rows(world.site().layout, f"rows.{tmp_path}/a.parquet")
    assert row.row == 8 and "all of the row's are 255" in row.reason
    world.expect(np.delete(EVERYTHING, 7))


def test_a_lost_shard_is_made_again_from_its_sources(tmp_path: Path) -> None:
    world = Spectra(tmp_path, 300)
    world.write("a", EVERYTHING[:200])
    world.write("b", EVERYTHING[200:])
    world.run()
    before = content(tmp_path / "store")
    shards = sorted((tmp_path / "store" / "arrays" / "catalogue" / "ivar").glob("c.*"))
    shards[1].unlink()
    data = bytearray(shards[0].read_bytes())
    data[-9] ^= 1
    shards[0].write_bytes(bytes(data))
    found = list(verify(world.site().layout))
    assert {path for damage in found for path in damage.files} >= set(shards[:2])
    for damage in found:
        withdraw(world.site().layout, damage)
    world.run()
    world.expect(EVERYTHING)
    assert list(verify(world.site().layout)) == []
    assert content(tmp_path / "store") == before


class Killed(BaseException):
    """What a process that is killed does not get to handle."""


@pytest.mark.parametrize(
    ("again", "kind"),
    [(False, "parquet"), (True, "parquet"), (True, OWN_GRIDS)],
    ids=["first", "changed file", "changed file with a grid for each row"],
)
def test_killed_at_any_write_it_ends_the_same(
    again: bool, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def world_at(name: str) -> Spectra:
        folder = tmp_path / name
        folder.mkdir()
        world = Spectra(folder, 300, kind)
        world.words["partition"] = {"rows": 60, "max_order": 10}
        world.write("a", EVERYTHING[:150])
        if again:
            world.run()
            world.write("a", EVERYTHING[50:180][::-1])
        world.write("b", EVERYTHING[180:260])
        return world

    def run(world: Spectra, limit: int) -> int:
        """Stop at the write, rename or removal with a number; how many there were."""
        done = 0

        def counted(act: Callable[..., Any]) -> Callable[..., Any]:
            def wrapper(*args: Any, **words: Any) -> Any:
                nonlocal done
                done += 1
                if done > limit:
                    raise Killed
                return act(*args, **words)

            return wrapper

        with monkeypatch.context() as patch:
            patch.setattr("zarr.storage._local._put", counted(zarr.storage._local._put))
            patch.setattr(Path, "unlink", counted(Path.unlink))
            patch.setattr(Path, "replace", counted(Path.replace))
            world.run()
        return done

    ids = EVERYTHING[50:260] if again else np.r_[EVERYTHING[:150], EVERYTHING[180:260]]
    sound = world_at("sound")
    steps = run(sound, 10**9)
    sound.expect(ids)
    expected = content(sound.folder / "store")
    for limit in np.random.default_rng(5).choice(steps, 6, replace=False).tolist():
        world = world_at(f"killed-{limit}")
        with pytest.raises(Killed):
            run(world, limit)
        run(world, 10**9)
        world.expect(ids)
        assert content(world.folder / "store") == expected, limit
        assert list(verify(world.site().layout)) == []
    assert set(ARRAYS) <= {path.split("/")[2] for path in expected if path.startswith("arrays/")}


def test_arrays_of_another_version_are_named(tmp_path: Path) -> None:
    world = Spectra(tmp_path, 300)
    world.write("a", EVERYTHING[:20])
    world.run()
    book = ReceiptBook(world.site().layout)
    receipt = book.get("ingest", CATALOGUE_UNIT)
    assert receipt is not None
    # As p(z) was described before several arrays could be in one group.
    facts = {**receipt.facts, "arrays": {"low": 0, "high": 3, "points": 121}}
    book.put(replace(receipt, facts=facts))
    (damage,) = verify(world.site().layout)
    assert damage.files == () and "another version of galbatch" in str(damage)


def test_catalogues_without_arrays_stay_what_they_are(tmp_path: Path) -> None:
    """What a survey means for its files is described as before columns had a shape."""
    survey = load_survey("jpas")
    described = survey_meaning(replace(Spectra(tmp_path, 300).site(), survey=survey))
    lengths = {column["name"]: column["length"] for column in described["columns"]}
    assert lengths["MAG_AUTO"] == 60 and lengths["ALPHA_J2000"] is None
    words = {word for column in described["columns"] for word in column} | set(described)
    assert words.isdisjoint({"shape", "dimensions", "axes"})
    arrays = survey_meaning(Spectra(tmp_path, 300).site())
    assert len(arrays["axes"]["wavelength"]) == 300


def test_arrays_that_a_file_does_not_name_are_given_to_no_row(tmp_path: Path) -> None:
    """Whoever was killed before may have left others of the same size in their place."""
    world = Spectra(tmp_path, 300)
    world.write("a", EVERYTHING[:20])
    world.write("b", EVERYTHING[20:40])
    world.run()
    layout = world.site().layout
    mask = zarr.open_array(layout.arrays() / "mask", mode="r+")
    mask[3] = 1
    book = ReceiptBook(layout)
    for unit, receipt in book.all("ingest").items():
        if unit != CATALOGUE_UNIT:
            book.put(receipt)  # with the sizes that the files have now
    world.write("b", EVERYTHING[20:45])
    with pytest.raises(SpecError, match=r"are not those that were written with it .*verify"):
        world.run()
    for damage in verify(layout):
        withdraw(layout, damage)
    world.run()
    world.expect(EVERYTHING[:45])
    assert list(verify(layout)) == []
