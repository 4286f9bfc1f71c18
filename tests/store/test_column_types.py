"""One type for a column that files keep in several, exactly."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa
import pytest

from galbatch.errors import SpecError
from galbatch.store.column_types import THE_STORE, common_field


def found(*types: pa.DataType, store: bool = False) -> list[tuple[str, pa.Field]]:
    files = [THE_STORE if store and not n else f"{n}.csv" for n in range(len(types))]
    return [(file, pa.field("x", kind)) for file, kind in zip(files, types, strict=True)]


def joined(
    *types: pa.DataType, low: int = 0, high: int = 9, is_id: bool = False, store: bool = False
) -> pa.DataType:
    def limits(column: str, files: Collection[str]) -> tuple[int, int]:
        return low, high

    return common_field("x", found(*types, store=store), limits, is_id=is_id).type


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ((pa.int16(), pa.int32()), pa.int64()),
        ((pa.uint8(), pa.uint16()), pa.uint16()),
        ((pa.int64(), pa.uint32()), pa.int64()),
        ((pa.float32(), pa.float64()), pa.float64()),
        ((pa.null(), pa.int32()), pa.int32()),
        ((pa.int64(), pa.float32()), pa.float64()),
        ((pa.list_(pa.float32(), 3), pa.list_(pa.float64(), 3)), pa.list_(pa.float64(), 3)),
        ((pa.string(), pa.large_string()), pa.string()),
    ],
)
def test_the_type_that_holds_all(types: tuple[pa.DataType, ...], expected: pa.DataType) -> None:
    assert joined(*types) == expected
    assert joined(*types[::-1]) == expected


def test_integers_beyond_2_to_53_never_become_floats() -> None:
    assert joined(pa.int64(), pa.float64(), high=2**53) == pa.float64()
    for limits in ({"high": 2**53 + 1}, {"low": -(2**53) - 1}):
        with pytest.raises(SpecError, match=r"column 'x': int64 in 0.csv, double in 1.csv: as fl"):
            joined(pa.int64(), pa.float64(), **limits)


def test_unsigned_integers_beyond_int64() -> None:
    assert joined(pa.int64(), pa.uint64(), high=2**63 - 1) == pa.int64()
    assert joined(pa.int64(), pa.uint64(), high=2**63) == pa.uint64()
    assert joined(pa.int64(), pa.uint64(), low=-1, high=2**63, is_id=True) == pa.string()
    with pytest.raises(SpecError, match="no integer type holds all of -1 to 9,223"):
        joined(pa.int64(), pa.uint64(), low=-1, high=2**63)


def test_ids_become_text_where_one_file_has_text() -> None:
    assert joined(pa.int64(), pa.string(), is_id=True) == pa.string()
    with pytest.raises(SpecError, match=r"no type holds it in all files: int64 in 0.csv, string"):
        joined(pa.int64(), pa.string())
    with pytest.raises(SpecError, match=r"ids are text in 1.csv, and int64 in the store"):
        joined(pa.int64(), pa.string(), is_id=True, store=True)
    assert joined(pa.string(), pa.int64(), is_id=True, store=True) == pa.string()


def test_units_that_only_files_state_must_agree() -> None:
    fields = [
        ("a.fits", pa.field("x", pa.float32(), metadata={"unit": "arcsec"})),
        ("b.fits", pa.field("x", pa.float32())),
    ]
    field = common_field("x", fields, lambda *_: (0, 0), is_id=False)
    assert field.metadata == {b"unit": b"arcsec"}
    fields.append(("c.fits", pa.field("x", pa.float32(), metadata={"unit": "deg"})))
    with pytest.raises(SpecError, match=r"its unit is 'arcsec' in .* and 'deg' in "):
        common_field("x", fields, lambda *_: (0, 0), is_id=False)
