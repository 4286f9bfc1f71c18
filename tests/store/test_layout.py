"""Every path of a store."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galbatch.errors import SpecError
from galbatch.store.layout import Layout, file_name
from galbatch.values import Partition


@pytest.mark.parametrize(("order", "index"), [(0, 11), (8, 9_999), (8, 10_000), (13, 805_306_367)])
def test_partitions_are_where_hats_looks_for_them(order: int, index: int) -> None:
    from hats.io.paths import pixel_catalog_file
    from hats.pixel_math.healpix_pixel import HealpixPixel

    layout = Layout(Path("/store"))
    path = layout.partition(Partition("healpix", order, index))
    assert str(path) == str(pixel_catalog_file(layout.catalogue, HealpixPixel(order, index)))


def test_row_ranges_have_plain_names() -> None:
    path = Layout(Path("s")).partition(Partition("rows", 0, 12), "m")
    assert path == Path("s/predictions/m/dataset/rows-000012.parquet")


@given(st.text(min_size=1, max_size=300), st.text(min_size=1, max_size=300))
def test_units_become_different_safe_file_names(first: str, second: str) -> None:
    name = file_name(first)
    assert 0 < len(name) <= 100
    assert "/" not in name
    assert not name.startswith(".")
    assert name.isascii()
    assert (name == file_name(second)) == (first == second)


def test_what_a_run_takes_away_holds_no_logs() -> None:
    inside, apart = Layout(Path("/s/a")), Layout(Path("/s/a"), Path("/fast"))
    assert inside.logs == Path("/s/a.logs")
    assert apart.logs == apart.work.with_name(f"{apart.work.name}.logs")
    assert {word: path.parent for word, path in apart.shared.items()} == {
        "store": apart.root,
        "scratch": apart.work,
    }


def test_a_model_cannot_take_the_collections_name() -> None:
    with pytest.raises(SpecError, match="taken"):
        Layout(Path("s")).extension_properties("Collection")
