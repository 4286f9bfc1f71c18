"""Broken catalogues: files of every format with a defect each, and what stands in them.

A catalogue is made from a `random.Random`: from a seed in a campaign, from `st.randoms()` where
Hypothesis is to choose (and to shrink what fails).
"""

from __future__ import annotations

import gzip
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from broken import writers
from broken.text import TEXT_DEFECTS, TextFile
from broken.truth import NULLS, Catalogue, Fate, Record, Refusal, SourceFile
from broken.writers import Column
from hypothesis import strategies as st

from galbatch.errors import SpecError
from galbatch.readers.open import open_reader
from galbatch.spec.columns import Column as SurveyColumn

ID, RA, DEC, LABEL = "objid", "ra", "dec", "zspec"
BANDS = ("g", "r")
PHOTOMETRY = tuple(f"{band}_{what}" for band in BANDS for what in ("val", "err"))
EXACT = 2**53
_INTEGER = re.compile(r"^[+-]?\d+$")
_DEGREES = {
    "deg": 1.0, "rad": 180 / np.pi, "arcsec": 1 / 3600, "arcmin": 1 / 60,
    "hourangle": 15.0, "h": 15.0,
}  # fmt: skip
_MICROJANSKY = {
    "uJy": 1.0, "nJy": 1e-3, "mJy": 1e3, "Jy": 1e6, "nmgy": 3.63078055, "mgy": 3.63078055e9,
}  # fmt: skip
_ZERO_POINT = 1e-4
"""Relative: 3631 Jy or the 3630.78 Jy of the AB system."""


def _read_now(endings: Sequence[str]) -> tuple[str, ...]:
    """Those that galbatch takes a file by."""

    def known(ending: str) -> bool:
        try:
            open_reader(None, f"file{ending}")
        except SpecError as error:
            return "ending" not in str(error)
        return True

    return tuple(ending for ending in endings if known(ending))


ENDINGS = _read_now(
    (".csv", ".csv.gz", ".csv.bz2", ".csv.xz", ".csv.zst", ".csv.zip", ".parquet", ".fits",
     ".fits.gz", ".hdf5", ".vot", ".vot.gz")
)  # fmt: skip
# Text breaks in more ways than the rest.
_WEIGHTS = {
    ".csv": 8,
    ".csv.gz": 2,
    ".parquet": 3,
    ".fits": 4,
    ".fits.gz": 2,
    ".hdf5": 3,
    ".vot": 4,
}
_UNSIGNED = "uint64" in str(SurveyColumn.model_fields["dtype"].annotation)


@dataclass
class Draft:
    """A file in the making."""

    name: str
    ending: str
    columns: list[Column]
    degrees: dict[str, float]
    """What one of the file's units of RA and Dec is in degrees."""
    fates: dict[int, tuple[Fate, str]] = field(default_factory=dict)
    """Of rows (from 0) that are not sound by themselves."""
    defects: list[str] = field(default_factory=list)
    refusal: Refusal = "never"
    told: tuple[tuple[str, ...], ...] = ()
    tolerance: dict[str, float] = field(default_factory=dict)
    readable: bool = True
    content: bytes = b""
    parts: tuple[str, ...] = ()
    """Columns that the id is made of, where it is none itself."""
    sky: dict[tuple[int, str], float] = field(default_factory=dict)
    """Degrees of positions that are no numbers, by row and column."""

    @property
    def text(self) -> bool:
        return ".csv" in self.ending

    @property
    def rows(self) -> int:
        return len(self.columns[0].values)

    @property
    def ids(self) -> list[Column]:
        return [self.column(name) for name in self.parts or (ID,)]

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def has(self, name: str) -> bool:
        return any(column.name == name for column in self.columns)

    def free(self) -> list[int]:
        """Rows that nothing is wrong with yet; the first stays sound."""
        return [row for row in range(1, self.rows) if row not in self.fates]

    def refuse(self, refusal: Refusal, *told: str) -> None:
        if self.refusal != "must":
            self.refusal = refusal
        if told not in self.told:  # any reason will do
            self.told = (*self.told, told)


@dataclass(frozen=True)
class Plan:
    """What is the same for all files of a catalogue."""

    id_dtype: str
    sky_unit: str
    flux_unit: str
    """Empty for magnitudes."""
    detection: str | None
    """dtype in the survey of the column `detection`; None where the survey does not list it."""
    extra: bool
    family: str
    sky: bool
    """Without, the catalogue is cut by rows and has no positions."""
    parts: tuple[str, ...] = ()
    """Columns that the id is made of; the survey says what it is then."""


def catalogues() -> st.SearchStrategy[Catalogue]:
    """Catalogues that Hypothesis chooses."""
    return st.randoms(use_true_random=False).map(make_catalogue)


def seeded(seed: int) -> Catalogue:
    """The catalogue of a seed."""
    return make_catalogue(random.Random(seed))


def make_catalogue(draw: random.Random) -> Catalogue:
    """Choose a survey, and one to three files for it."""
    id_dtype = draw.choice(["", "", "int64", "int64", "string"] + ["uint64"] * _UNSIGNED)
    plan = Plan(
        id_dtype=id_dtype,
        sky_unit=draw.choice(["deg"] * 6 + ["rad"]),
        flux_unit=draw.choice(["", "", "uJy", "nJy", "uJy"]),
        detection=draw.choice(["int64", "int64", "float64", "string", None]),
        extra=draw.random() < 0.3,
        # Mostly ids that can be what the survey says of them.
        family=draw.choice(_FIT[id_dtype] if draw.random() < 0.8 else list(_FAMILIES)),
        sky=draw.random() < 0.9,
    )
    if draw.random() < 0.1:
        parts = draw.choice([_HALVES, _HALVES, (*_HALVES, "ccd"), ("field", "number")])
        plan = replace(plan, id_dtype="", parts=parts)
    drafts: list[Draft] = []
    for number in range(draw.choice([1, 1, 1, 2, 2, 3])):
        drafts.append(_draft(draw, plan, number, drafts))
    _compare(plan, drafts)
    source: dict[str, Any] = {"kind": "files", "bad_rows": 1.0}
    delimiter = ","
    if all(draft.text for draft in drafts) and draw.random() < 0.15:
        delimiter = draw.choice([";", "\t", "|"])
        source["format"] = {"kind": "csv", "delimiter": delimiter}
    if draw.random() < 0.3:
        source["batch_rows"] = draw.choice([1, 3, 7, 16])
    later = draw.randint(1, len(drafts) - 1) if len(drafts) > 1 and draw.random() < 0.25 else 0
    if later:
        _compare_with_store(drafts, later)
    files = tuple(_file(draw, plan, draft, delimiter) for draft in drafts)
    return Catalogue(_survey(plan), source, files, plan.id_dtype, later)


def _compare_with_store(drafts: Sequence[Draft], later: int) -> None:
    """What comes later may not fit the types of what is in the store already."""
    for draft in drafts[-later:]:
        for column in draft.columns:
            kinds = {
                one.text or one.column(column.name).kind
                for one in drafts
                if one.has(column.name) and column.name in (ID, "detection", "extra")
            }
            text_ids = column.name == ID and draft.text
            if len(kinds) > 1 or text_ids:
                draft.refuse("may", column.name)


def _survey(plan: Plan) -> dict[str, Any]:
    unit = plan.flux_unit or "mag"
    photometry: dict[str, Any] = {"quantity": "magnitude"}
    if plan.flux_unit:
        photometry = {"quantity": "flux", "unit": unit}
    listed: list[dict[str, Any]] = [
        *({"name": name, "dtype": "string" if name == "field" else "int64"} for name in plan.parts),
        *(
            []
            if plan.parts
            else [{"name": ID} | ({"dtype": plan.id_dtype} if plan.id_dtype else {})]
        ),
        *({"name": name, "unit": plan.sky_unit} for name in (RA, DEC) if plan.sky),
        *({"name": name, "unit": unit} for name in PHOTOMETRY),
        {"name": LABEL},
        {"name": "flag", "dtype": "int16"},
        {"name": "remark", "dtype": "string"},
    ]
    if plan.detection is not None:
        listed.append({"name": "detection", "dtype": plan.detection})
    return {
        "name": "broken",
        "title": "A broken catalogue",
        "id": {"column": ID} | ({"parts": list(plan.parts)} if plan.parts else {}),
        **({"sky": {"ra": RA, "dec": DEC}} if plan.sky else {}),
        "reference_band": "r",
        "photometry": photometry,
        "bands": [
            {"name": band, "wavelength": wavelength, "width": 1400,
             "value": f"{band}_val", "error": f"{band}_err"}
            for band, wavelength in zip(BANDS, (4750, 6250), strict=True)
        ],
        "labels": {"redshift": {"column": LABEL, "low": 0.0, "high": 7}},
        "columns": listed,
    }  # fmt: skip


# Kinds of ids: how a number becomes one, and the kinds of columns that can hold it.
_FAMILIES: dict[str, tuple[Callable[[int], Any], tuple[str, ...]]] = {
    "small ids": (lambda n: n, ("int32", "int64", "int64", "uint64", "float64", "text")),
    "19-digit ids": (lambda n: 1_237_648_720_000_000_001 + 1001 * n, ("int64", "uint64", "text")),
    "negative ids": (lambda n: -(10**12) - n, ("int64", "int64", "float64", "text")),
    "ids beyond int64": (lambda n: 2**63 + 977 * n, ("uint64", "text")),
    "ids beyond uint64": (lambda n: 10**24 + 7 * n, ("text",)),
    "ids with leading zeros": (lambda n: f"{n:012d}", ("text",)),
    "names as ids": (lambda n: f"J{n:06d}+x", ("text",)),
    "ids beyond 2**53 as float": (lambda n: float(2**53 + 2000 * n), ("float64",)),
    "ids with fractions": (lambda n: n + 0.5 * (n % 3 == 0), ("float64",)),
    "ids of many kinds": (lambda n: n, ()),
}
_WHOLE = ["small ids", "19-digit ids", "ids with leading zeros"]
_SIGNED = [*_WHOLE, "negative ids"]
_FIT = {
    "int64": _SIGNED,
    "uint64": [*_WHOLE, "ids beyond int64"],
    "string": [*_SIGNED, "names as ids", "ids beyond int64", "ids beyond uint64"],
    "": [*_SIGNED, "names as ids", "ids beyond int64", "ids of many kinds", "ids of many kinds"],
}
_MIXED = [name for name in _FAMILIES if _FAMILIES[name][1] and "float" not in name]


def _ids(draw: random.Random, plan: Plan, ending: str, first: int, rows: int) -> tuple[str, Column]:
    family = plan.family if plan.family != "ids of many kinds" else draw.choice(_MIXED)
    make, kinds = _FAMILIES[family]
    numbers = [first + 3 * n for n in range(rows)]
    kind = draw.choice(kinds)
    if kind == "uint64" and ".vot" in ending:
        kind = "text"
    values = [make(number) for number in numbers]
    if kind == "text":
        values = [str(value) for value in values]
    elif kind == "float64":
        values = [float(value) for value in values]
    return family, Column(ID, kind, values)


_HALVES = ("tile", "number")
_HALF = 2**32


def _parts(draw: random.Random, plan: Plan, first: int, rows: int) -> list[Column]:
    columns = []
    for name in plan.parts:
        numbers = [first + 3 * n for n in range(rows)]
        if name != "number":
            few = draw.choice([1, 7, 123_456, 2**31 - 1])
            numbers = [few - n % 2 for n in range(rows)]
        kind = "text" if name == "field" else draw.choice(["int32", "int64", "int64", "float64"])
        convert = {"text": lambda n: f"F{n:03d}", "float64": float}.get(kind, int)
        columns.append(Column(name, kind, [convert(number) for number in numbers]))
    return columns


def _joined(parts: Sequence[str], values: Sequence[Any]) -> Any:
    """The id that parts make, or None where they make none."""
    try:
        numbers = [value if part == "field" else int(Decimal(str(value)))
                   for part, value in zip(parts, values, strict=True)]  # fmt: skip
    except (ArithmeticError, ValueError):
        return None
    if tuple(parts) == _HALVES:
        return numbers[0] * _HALF + numbers[1]
    return "-".join(map(str, numbers))


def _draft(draw: random.Random, plan: Plan, number: int, before: Sequence[Draft]) -> Draft:
    """A file with sound rows, and what may be wrong with rows in any format."""
    ending = draw.choices(ENDINGS, [_WEIGHTS.get(ending, 1) for ending in ENDINGS])[0]
    rng = np.random.default_rng(draw.getrandbits(32))
    rows = draw.randint(5, 60)
    family, ids = _ids(draw, plan, ending, 1 + 1000 * number, rows)
    header = ".csv" not in ending
    columns = [ids]
    if plan.parts:
        family, columns = "ids of parts", _parts(draw, plan, 1 + 1000 * number, rows)
    degrees = {}
    if plan.sky:
        positions = _positions(draw, rng, plan, rows, header)
        columns += positions
        degrees = {column.name: column.notes["degrees"] for column in positions}
    columns += _photometry(rng, plan, rows)
    columns.append(Column(LABEL, "float64", _gaps(rng, np.round(rng.uniform(0.01, 3, rows), 4))))
    columns.append(Column("flag", "int32", rng.integers(0, 9, rows).tolist()))
    columns.append(Column("remark", "text", [f"r{n} x" for n in rng.integers(0, 99, rows)]))
    if plan.detection is not None or draw.random() < 0.5:
        columns.append(_detection(draw, rng, plan, rows, ending))
    if plan.extra:
        kind = draw.choice(["int32", "int64", "float64", "text"])
        values = rng.integers(0, 10**6, rows).tolist()
        convert = {"text": str, "float64": float}.get(kind, int)
        columns.append(Column("extra", kind, [convert(value) for value in values]))
    draft = Draft(f"f{number}{ending}", ending, columns, degrees, parts=plan.parts)
    draft.defects.append(family)
    if ending == ".parquet" and draw.random() < 0.3:
        _odd_column(draw, draft)
    if plan.extra and draw.random() < 0.3:
        draw.shuffle(draft.columns)
    if header:
        _units(draw, plan, draft)
    if draw.random() < 0.3:
        # The first file keeps its labels: without any a run is refused.
        names = ["flag", "remark", *([LABEL] if before else [])]
        draft.columns.remove(draft.column(draw.choice(names)))
    for _ in range(draw.choice([0, 0, 1, 1, 2])):
        draw.choice(_ROW_DEFECTS)(draw, draft)
    if before and draw.random() < 0.35:
        _repeat(draw, draft, draw.choice(before))
    return draft


_ODD: tuple[tuple[pa.DataType, Any], ...] = (
    (pa.bool_(), True), (pa.int8(), -7), (pa.uint8(), 200), (pa.float16(), 1.5),
    (pa.decimal128(12, 3), Decimal("1.5")), (pa.date32(), date(2020, 2, 29)), (pa.null(), None),
    (pa.timestamp("us", "UTC"), datetime(2020, 2, 29, tzinfo=UTC)), (pa.duration("s"), 3),
    (pa.binary(), b"\xff"), (pa.binary(4), b"1234"), (pa.list_(pa.float32()), [1.5, None]),
    (pa.list_(pa.float64(), 3), [1.0, 2.0, 3.0]), (pa.struct([("a", pa.int32())]), {"a": 1}),
    (pa.map_(pa.string(), pa.int32()), [("a", 1)]), (pa.large_binary(), b""),
    (pa.list_(pa.string()), ["a", "b"]), (pa.time64("us"), 5), (pa.string_view(), "x"),
)  # fmt: skip


def _odd_column(draw: random.Random, draft: Draft) -> None:
    """A column that nobody asked for, of a type that few files have: it stops nothing."""
    kind, value = draw.choice(_ODD)
    column = Column("odd", "odd", [value if row % 3 else None for row in range(draft.rows)])
    column.notes["type"] = kind
    draft.columns.append(column)
    draft.defects.append(f"a column of {kind}")


def _positions(
    draw: random.Random, rng: np.random.Generator, plan: Plan, rows: int, header: bool
) -> list[Column]:
    ra, dec = rng.uniform(-180 if draw.random() < 0.3 else 0, 180, rows), rng.uniform(-60, 60, rows)
    if draw.random() < 0.3:
        ra = ra + 180 * (ra > 0)
    units = [plan.sky_unit, plan.sky_unit]
    written: list[str | None] = [None, None]
    if header and draw.random() < 0.6:
        chosen = draw.choice(["deg", "deg", "rad", "hourangle", "h", "arcsec", "arcmin"])
        units = [chosen, "deg" if chosen in ("hourangle", "h") else chosen]
        written = list(units)
    kind = "float32" if header and draw.random() < 0.1 else "float64"
    columns = []
    for name, values, unit, said in zip((RA, DEC), (ra, dec), units, written, strict=True):
        shown = values / _DEGREES[unit]
        if draw.random() < 0.4 and unit == "deg":
            shown = np.round(shown, 5)
        if kind == "float32":
            shown = shown.astype(np.float32).astype(np.float64)
        column = Column(name, kind, shown.tolist(), said)
        column.notes["degrees"] = _DEGREES[unit]
        columns.append(column)
    return columns


def _photometry(rng: np.random.Generator, plan: Plan, rows: int) -> list[Column]:
    kind = rng.choice(["float32", "float64"])
    columns = []
    for name in PHOTOMETRY:
        low, high = (0.01, 0.2) if name.endswith("err") else (17, 25)
        values = rng.uniform(low, high, rows)
        if rng.random() < 0.5:
            values = np.round(values, 3)
        values = values.astype(kind).astype(np.float64)
        columns.append(Column(name, str(kind), _gaps(rng, values)))
    return columns


def _gaps(rng: np.random.Generator, values: np.ndarray[Any, Any]) -> list[Any]:
    """Some values are missing, but for the first."""
    missing = rng.random(len(values)) < 0.05
    missing[0] = False
    return [None if gone else value for value, gone in zip(values.tolist(), missing, strict=True)]


def _detection(
    draw: random.Random, rng: np.random.Generator, plan: Plan, rows: int, ending: str
) -> Column:
    kinds = ["int32", "int64", "float64", "text"]
    if ".vot" not in ending:
        kinds.append("uint64")
    kind = draw.choice(kinds)
    values: list[Any] = rng.integers(0, 10**6, rows).tolist()
    large = draw.random() < 0.4 and kind not in ("int32", "float64")
    if large:
        top = 2**63 if kind == "uint64" and draw.random() < 0.5 else 2**54
        values = [top + 1 + value for value in values]
    if kind == "float64":
        values = _gaps(rng, np.array(values, float))
    elif kind == "text":
        values = [str(value) for value in values]
    elif kind != "uint64" and ending != ".hdf5":
        values = [None if rng.random() < 0.05 else value for value in values]
    return Column("detection", kind, values)


# What may be wrong with a row in any format.


def _no_id(draw: random.Random, draft: Draft) -> None:
    ids = draw.choice(draft.ids)
    nullable = draft.text or ids.kind != "uint64"
    if not draft.free() or not nullable or (draft.ending == ".hdf5" and ids.kind.startswith("int")):
        return
    row = draw.choice(draft.free())
    ids.values[row] = None
    if draft.ending == ".parquet" or draft.text or ids.kind != "text":
        draft.fates[row] = ("quarantined", "no id")
    else:  # text of nothing but blanks
        draft.fates[row] = ("either", "an empty id")
    draft.defects.append("an id is missing")


def _off_the_sky(draw: random.Random, draft: Draft) -> None:
    if not draft.free() or not draft.has(RA):
        return
    row = draw.choice(draft.free())
    name, degrees = draw.choice([(RA, 400.0), (RA, -200.0), (DEC, 91.5), (DEC, -95.0), (RA, None)])
    value = None if degrees is None else degrees / draft.degrees[name]
    if value is not None and draft.column(name).kind == "float32":
        value = float(np.float32(value))
    draft.column(name).values[row] = value
    draft.fates[row] = ("quarantined", f"{name} {degrees}")
    draft.defects.append("a row off the sky")


def _edges_of_the_sky(draw: random.Random, draft: Draft) -> None:
    if not draft.free() or draft.degrees != {RA: 1.0, DEC: 1.0}:
        return
    row = draw.choice(draft.free())
    name, degrees = draw.choice([(RA, 360.0), (RA, -180.0), (RA, 0.0), (RA, -1e-13), (DEC, 90.0)])
    draft.column(name).values[row] = degrees
    draft.defects.append(f"{name} {degrees}")


def _twice(draw: random.Random, draft: Draft) -> None:
    """Rows are there twice, or just their ids."""
    _repeat(draw, draft, draft)


def _repeat(draw: random.Random, draft: Draft, other: Draft) -> None:
    whole = draw.random() < 0.5
    for _ in range(draw.randint(1, 4)):
        rows = [row for row in draft.free() if row > 2]
        sources = [row for row in range(min(other.rows, 3)) if row not in other.fates]
        if not rows or not sources:
            return
        row, source = draw.choice(rows), draw.choice(sources)
        if [column.kind for column in other.ids] != [column.kind for column in draft.ids]:
            return
        names = [column.name for column in draft.ids]
        if whole and other is draft:
            names = [column.name for column in draft.columns]
        for name in names:
            draft.column(name).values[row] = other.column(name).values[source]
    draft.defects.append("rows twice" if other is draft else f"ids of {other.name}")


def _bad_part(draw: random.Random, draft: Draft) -> None:
    """A half of an id that is none."""
    if tuple(draft.parts) != _HALVES or not draft.free():
        return
    column = draw.choice(draft.ids)
    bad: list[Any] = [-3]
    if column.kind != "int32":
        bad.append(_HALF)
    if column.kind == "float64":
        bad = [5.5, float(_HALF), -3.0]
    row = draw.choice(draft.free())
    column.values[row] = draw.choice(bad)
    draft.fates[row] = ("quarantined", f"{column.name} is {column.values[row]}")
    draft.defects.append(f"{column.name} is {column.values[row]}")


_ROW_DEFECTS = (_bad_part, _no_id, _off_the_sky, _edges_of_the_sky, _twice)


# Units in the header.


def _units(draw: random.Random, plan: Plan, draft: Draft) -> None:
    if plan.sky and draft.column(RA).unit is not None:
        draft.defects.append(f"positions in {draft.column(RA).unit}")
        if plan.sky_unit != "deg" or draft.column(RA).unit == "h":
            draft.refuse("may", str(draft.column(RA).unit))
    roll = draw.random()
    if roll < 0.04 and plan.sky:
        unit = draw.choice(["kg", "m", "s"])
        draft.column(RA).unit = draft.column(DEC).unit = unit
        draft.refuse("must", unit, "deg")
        draft.refuse("must", unit, plan.sky_unit)
        draft.defects.append(f"positions in {unit}")
    bands = [draft.column(name) for name in PHOTOMETRY]
    if roll > 0.5:
        if plan.flux_unit:
            unit = draw.choice(list(_MICROJANSKY))
            factor = _MICROJANSKY[unit] / _MICROJANSKY[plan.flux_unit]
            for band in bands:
                band.unit = unit
                if unit != plan.flux_unit:
                    band.notes["factor"] = factor
                    maggies = unit.endswith("mgy")
                    single = 1e-6 if band.kind == "float32" else 1e-12
                    draft.tolerance[band.name] = _ZERO_POINT if maggies else single
        else:
            unit = "mag"
            for band in bands:
                band.unit = unit
        draft.defects.append(f"photometry in {unit}")
    elif roll > 0.46:
        unit = draw.choice(["kg", "m", "s"])
        for band in bands:
            band.unit = unit
        draft.refuse("must", unit, plan.flux_unit or "mag")
        draft.defects.append(f"photometry in {unit}")


# What files make of each other.


def _compare(plan: Plan, drafts: Sequence[Draft]) -> None:
    """Columns whose type differs: which rows and files may be refused for it."""
    for draft in drafts:
        if draft.has("detection"):
            _compare_detection(plan, draft, drafts)
    odd = [draft for draft in drafts if draft.has("odd")]
    if len({str(draft.column("odd").notes["type"]) for draft in odd}) > 1:
        for draft in odd:
            draft.refuse("may", "odd")
    kinds = {"text" if d.text else d.column("extra").kind for d in drafts if d.has("extra")}
    if "text" in kinds and len(kinds) > 1:
        for draft in drafts:
            draft.refuse("may", "extra")
    if plan.detection is None:
        found = [draft for draft in drafts if draft.has("detection")]
        kinds = {"text" if d.text else d.column("detection").kind for d in found}
        if "text" in kinds and len(kinds) > 1:
            for draft in found:
                draft.refuse("may", "detection")


def _compare_detection(plan: Plan, draft: Draft, drafts: Sequence[Draft]) -> None:
    column = draft.column("detection")
    dtype = plan.detection
    if dtype is None:
        kinds = {one.column("detection").kind for one in drafts if one.has("detection")}
        if len(kinds) == 1 or all(one.text for one in drafts):
            return
    for row, value in enumerate(column.values):
        fate = _fate(dtype or "float64", value)
        if fate != "stored":
            draft.fates.setdefault(row, (fate, f"detection {value}"))
            if not draft.text:
                draft.refuse("may", "detection")
    if column.kind == "text" and not draft.text and dtype != "string":
        draft.refuse("may", "detection")


def _fate(dtype: str, value: Any) -> Fate:
    """Of a value in a column of this type."""
    if value is None or dtype == "string":
        return "stored"
    number = Decimal(str(value)) if not isinstance(value, int) else Decimal(value)
    whole = number == number.to_integral_value()
    if dtype == "float64":
        return "either" if whole and abs(number) > EXACT else "stored"
    low, high = (0, 2**64) if dtype == "uint64" else (-(2**63), 2**63)
    fits = whole and low <= number < high
    if isinstance(value, float):
        fits = fits and abs(number) < EXACT
    return "stored" if fits else "either"


def _id_fate(plan: Plan, draft: Draft, value: Any) -> Fate:
    """Of a row with this id, given what the survey says of ids."""
    if isinstance(value, float) and (value != int(value) or abs(value) >= EXACT):
        return "either"
    if plan.id_dtype in ("", "string"):
        return "stored"
    if isinstance(value, str) and not _INTEGER.match(value):
        return "quarantined" if draft.text else "either"
    return _fate(plan.id_dtype, int(value))


# The bytes of it.


def _file(draw: random.Random, plan: Plan, draft: Draft, delimiter: str) -> SourceFile:
    for row, value in enumerate([] if draft.parts else draft.column(ID).values):
        fate = "stored" if value is None else _id_fate(plan, draft, value)
        if fate != "stored":
            draft.fates.setdefault(row, (fate, f"id {value}"))
            if not draft.text:
                draft.refuse("may", ID)
    if draft.text:
        return _text(draw, plan, draft, delimiter)
    if draw.random() < 0.2:
        draw.choice(_TABLE_DEFECTS)(draw, draft)
    content = draft.content or _written(draw, draft)
    file = SourceFile(
        draft.name,
        writers.packed(content, ".gz" if draft.ending.endswith(".gz") else ""),
        _records(draft),
        ", ".join(draft.defects),
        draft.refusal,
        draft.told,
        draft.tolerance,
        draft.readable,
    )
    if draw.random() < 0.1:
        return _cut(draw, file)
    if draft.ending.endswith(".gz") and draw.random() < 0.2:
        return _gzip_defect(draw, file)
    return file


def _cut(draw: random.Random, file: SourceFile) -> SourceFile:
    """Anywhere: all rows are read from what is left, or the file is refused as a whole."""
    at = draw.randrange(len(file.content))
    if draw.random() < 0.3:
        at = len(file.content) - 1 - at % 40
    defect = f"{file.defect}, cut at byte {at:,} of {len(file.content):,}"
    refusal: Refusal = "must" if at == 0 or file.refusal == "must" else "may"
    return replace(
        file, content=file.content[:at], defect=defect, refusal=refusal, told=(), readable=False
    )


def _gzip_defect(draw: random.Random, file: SourceFile) -> SourceFile:
    plain = gzip.decompress(file.content)
    match draw.choice(["padded", "members", "flipped", "junk"]):
        case "padded":
            content, words, refusal = file.content + bytes(512), "zeros after the gzip", "may"
        case "members":
            at = draw.randrange(len(plain))
            content = gzip.compress(plain[:at], mtime=0) + gzip.compress(plain[at:], mtime=0)
            words, refusal = "two gzip members", "never"
        case "junk":
            content, words, refusal = file.content + b"junk" * 9, "junk after the gzip", "may"
        case _:
            at = draw.randrange(12, len(file.content))
            flipped = bytes([file.content[at] ^ (1 << draw.randrange(8))])
            content = file.content[:at] + flipped + file.content[at + 1 :]
            words, refusal = f"byte {at} of the gzip flipped", "may"
    worst: Any = max(file.refusal, refusal, key=["never", "may", "must"].index)
    told = file.told if refusal == "never" else ()
    defect = f"{file.defect}, {words}"
    readable = file.readable and refusal == "never"
    return replace(
        file, content=content, defect=defect, refusal=worst, told=told, readable=readable
    )


def _written(draw: random.Random, draft: Draft) -> bytes:
    columns = draft.columns
    match draft.ending.removesuffix(".gz"):
        case ".parquet":
            text = draw.choice(
                [
                    pa.string(),
                    pa.string(),
                    pa.large_string(),
                    pa.dictionary(pa.int32(), pa.string()),
                ]
            )
            return writers.parquet(columns, draw.choice([5, 20, 1000]), text)
        case ".fits":
            return writers.fits_file([writers.fits_hdu(columns, draw.choice(["", "CAT"]))])
        case ".hdf5":
            compound = all(column.unit is None for column in columns) and draw.random() < 0.3
            group = draw.choice(["", "data"])
            return writers.hdf5([(group, columns)], compound=compound, fixed=draw.random() < 0.4)
        case _:
            table = writers.votable_table(columns, "one", nrows=draw.random() < 0.5)
            return _layout(draw, writers.votable_file([table]))


def _layout(draw: random.Random, content: bytes) -> bytes:
    layout = draw.choice(["tabledata", "tabledata", "binary", "binary2"])
    return content if layout == "tabledata" else writers.votable_binary(content, layout)


def _records(draft: Draft) -> tuple[Record, ...]:
    return tuple(record(draft, row) for row in range(draft.rows))


def record(draft: Draft, row: int) -> Record:
    """A row of a draft as the truth."""
    fate, damage = draft.fates.get(row, ("stored", ""))
    values: dict[str, Any] = {}
    for column in draft.columns:
        value = column.values[row]
        factor = column.notes.get("factor")
        if factor is not None and value is not None:
            value = float(value) * factor
        if column.kind != "odd":
            values[column.name] = value
    ra, dec = (_degrees(draft, row, name, values.pop(name, None)) for name in (RA, DEC))
    key = values.pop(ID, None)
    if draft.parts:
        key = _joined(draft.parts, [values[name] for name in draft.parts])
    return Record(row + 1, key, ra, dec, values, fate, damage)


def _degrees(draft: Draft, row: int, name: str, value: Any) -> float | None:
    if (row, name) in draft.sky:
        return draft.sky[row, name]
    try:
        degrees = float(value) * draft.degrees[name]
    except (TypeError, ValueError):
        return None
    return degrees % 360.0 if name == RA else degrees


# What may be wrong with a table that is no text.


def _no_rows(draw: random.Random, draft: Draft) -> None:
    for column in draft.columns:
        column.values.clear()
    draft.fates.clear()
    draft.refuse("may")
    draft.defects.append("no rows")


def _no_column(draw: random.Random, draft: Draft) -> None:
    name = draw.choice([name for name in (ID, RA, DEC, "g_val", "number") if draft.has(name)])
    draft.columns.remove(draft.column(name))
    draft.columns.append(Column(name, "float64", [None] * draft.rows))
    draft.content = _written(draw, replace(draft, columns=draft.columns[:-1], content=b""))
    draft.refuse("must", name)
    draft.readable = False
    draft.defects.append(f"no column {name}")


def _several_tables(draw: random.Random, draft: Draft) -> None:
    """Which of them is meant nobody can tell."""
    columns = draft.columns
    match draft.ending.removesuffix(".gz"):
        case ".fits":
            hdus = [writers.fits_hdu(columns, name) for name in ("NORTH", "SOUTH")]
            draft.content = writers.fits_file(hdus)
        case ".hdf5":
            groups = [("NORTH", columns), ("SOUTH", columns)]
            draft.content = writers.hdf5(groups, compound=False, fixed=False)
        case ".vot":
            tables = [writers.votable_table(columns, n, nrows=False) for n in ("NORTH", "SOUTH")]
            draft.content = _layout(draw, writers.votable_file(tables))
        case _:
            return
    draft.refuse("must", "NORTH", "SOUTH")
    draft.readable = False
    draft.defects.append("two tables")


def _status(draw: random.Random, draft: Draft) -> None:
    """What the service says of its own answer."""
    if ".vot" not in draft.ending:
        return
    status = draw.choice(["OVERFLOW", "ERROR", "OK"])
    table = writers.votable_table(draft.columns, "one", nrows=draw.random() < 0.5)
    draft.content = writers.votable_file([table], status, after=draw.random() < 0.7)
    draft.defects.append(f"QUERY_STATUS {status}")
    if status != "OK":
        draft.refuse("must")


def _ragged(draw: random.Random, draft: Draft) -> None:
    if draft.ending != ".hdf5":
        return
    column = draft.column(draw.choice(["r_err", "g_val"]))
    short = replace(column, values=column.values[:-1])
    columns = [short if one is column else one for one in draft.columns]
    draft.content = writers.hdf5([("", columns)], compound=False, fixed=False)
    draft.refuse("must")
    draft.readable = False
    draft.defects.append("columns of different lengths")


_TABLE_DEFECTS = (_no_rows, _no_column, _several_tables, _status, _ragged)


# Text.


def _text(draw: random.Random, plan: Plan, draft: Draft, delimiter: str) -> SourceFile:
    """The columns as CSV: from here on every value is the text that stands in the file."""
    for column in draft.columns:
        nothing = draw.choice(NULLS)
        if column.name == ID and nothing and (plan.id_dtype == "string" or _words(column)):
            # Among names, this may be one.
            for row, value in enumerate(column.values):
                if value is None:
                    draft.fates[row] = ("either", f"the id is {nothing}")
        if column.kind == "text" and column.name == "remark":
            nothing = ""
        column.values = [nothing if value is None else _token(value) for value in column.values]
    text = TextFile(draft, draw, delimiter)
    numbers = [RA, DEC, *PHOTOMETRY]
    if plan.detection in ("int64", "float64"):
        numbers.append("detection")
    if plan.id_dtype in ("int64", "uint64"):
        numbers.append(ID)
    numbers += [name for name in plan.parts if name != "field"]
    text.numbers = tuple(name for name in numbers if draft.has(name))
    for _ in range(draw.choice([0, 1, 1, 1, 2, 3])):
        draw.choice(TEXT_DEFECTS)(draw, text)
    plain, records = text.finish(record)
    ending = draft.ending.removeprefix(".csv")
    file = SourceFile(
        draft.name,
        writers.packed(plain, ending),
        records,
        ", ".join(draft.defects),
        draft.refusal,
        draft.told,
        draft.tolerance,
        draft.readable,
    )
    if ending and draw.random() < 0.15:
        return _cut(draw, file)
    if ending == ".gz" and draw.random() < 0.2 and plain:
        return _gzip_defect(draw, file)
    return file


def _words(ids: Column) -> bool:
    """Whether some are no whole numbers."""
    texts = [str(value) for value in ids.values if value is not None]
    return not all(_INTEGER.match(text.removesuffix(".0")) for text in texts)


def _token(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)
