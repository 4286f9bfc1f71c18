"""Scan and ingest a broken catalogue, and compare what is in the store with what is in the files.

The law: rows in a file = rows stored + rows quarantined, or the file is refused as a whole and
named; what is stored stands in the file, exactly; a sound row is neither lost nor quarantined;
nobody sees a traceback.
"""

from __future__ import annotations

import math
import re
import traceback
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from broken.reading import contradictions
from broken.truth import ANYTHING, NULLS, Catalogue, Record, SourceFile
from hats.pixel_math.spatial_index import compute_spatial_index
from world import STAGES, Silent

from galbatch.errors import GalbatchError, SpecError
from galbatch.readers import csv, fits_file, packed, records, votable_glance
from galbatch.run.loop import run
from galbatch.run.result import Result
from galbatch.run.store import opened
from galbatch.spec import load_job, load_survey
from galbatch.stages.checks import agree, check_sources
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store.layout import Layout
from galbatch.store.quarantine import rejected_rows
from galbatch.store.verify import verify
from galbatch.values import RejectedRow

_DEGREES = 1e-9
_TEXT_OF_NOTHING = {word.strip().lower() for word in NULLS}
_PLAIN = re.compile(r"^(0|-?[1-9]\d*)$")


@contextmanager
def in_pieces(size: int) -> Iterator[None]:
    """Readers take so many bytes at a time: a small file has as many seams as a large one."""
    with ExitStack() as stack:
        for module, name in (
            (csv, "_PIECE"), (csv, "_BLOCK"), (records, "_PART"), (packed, "_PIECE"),
            (packed, "_BUFFER"), (fits_file, "_PIECE"), (votable_glance, "_PIECE"),
        ):  # fmt: skip
            stack.enter_context(patch.object(module, name, size))
        yield


@dataclass
class Verdict:
    """What came of a catalogue."""

    problems: list[str] = field(default_factory=list)
    rows: int = 0
    """Records in the files that were not refused."""
    stored: int = 0
    quarantined: int = 0
    refused: list[str] = field(default_factory=list)
    """Files that were refused as a whole."""
    empty: bool = False
    """Whether no row of some file is stored."""
    said: str = ""
    """The message that stopped the run, if one did."""

    def __str__(self) -> str:
        if self.said:
            return f"refused: {self.said}"
        words = f"{self.rows} rows = {self.stored} stored + {self.quarantined} quarantined"
        return words + "".join(f", {name} refused" for name in self.refused)


class Watcher(Silent):
    """Keeps what went wrong in tasks."""

    def __init__(self) -> None:
        self.results: list[Result] = []

    def retry(self, result: Result, *_: Any) -> None:
        self.results.append(result)

    def failed(self, result: Result, *_: Any) -> None:
        self.results.append(result)


def write(catalogue: Catalogue, folder: Path) -> Path:
    """Write survey and job into a folder; the path of the job. `bring` brings the files."""
    survey = folder / "survey.yaml"
    survey.write_text(yaml.safe_dump(dict(catalogue.survey), sort_keys=False), encoding="utf-8")
    words = {
        "name": "broken",
        "survey": str(survey),
        "source": {**catalogue.source, "paths": [str(folder / "f*")]},
        "store": str(folder / "store"),
        "partition": {"rows": 25},
        "split": {"kind": "id"},
        "models": [{"kind": "photometric", "epochs": 1, "members": 1, "width": 8, "layers": 1}],
        "cluster": {"kind": "serial"},
    }
    job = folder / "job.yaml"
    job.write_text(yaml.safe_dump(words, sort_keys=False), encoding="utf-8")
    return job


def bring(files: Sequence[SourceFile], folder: Path) -> None:
    """Put files where the job looks for them."""
    for file in files:
        (folder / file.name).write_bytes(file.content)


def judge(catalogue: Catalogue, folder: Path, *, again: bool = False) -> Verdict:
    """Run a catalogue in an empty folder and compare.

    Warnings are errors here, as in the tests.

    Parameters
    ----------
    catalogue : Catalogue
    folder : Path
    again : bool
        Run once more, which must change nothing.
    """
    verdict = Verdict([f"wrong truth: {one}" for one in contradictions(catalogue)])
    if verdict.problems:
        return verdict
    job = write(catalogue, folder)
    words = load_job(str(job), ())
    survey = load_survey(words.survey, beside=job.parent)
    site = Site(words, survey, Layout(job.parent / "store"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = len(catalogue.files) - catalogue.later
        bring(catalogue.files[:first], folder)
        if catalogue.later:
            said = _run(site, verdict)
            if said and not verdict.problems:
                early = replace(catalogue, files=catalogue.files[:first])
                verdict.problems += _refusal(early, folder, said)
            bring(catalogue.files[first:], folder)
        if not verdict.problems:
            refused = _validate(site, verdict)
            verdict.said = _run(site, verdict)
        if verdict.problems:
            return verdict
        if verdict.said:
            _refused(catalogue, site, verdict, first)
            return verdict
        _compare(catalogue, site, verdict)
        # A file of which no row is stored may have another type, unnoticed by the run.
        if refused and not verdict.refused and not verdict.empty:
            verdict.problems.append("validate refuses what run takes")
        if again and not verdict.problems:
            _again(catalogue, site, verdict)
    return verdict


def _validate(site: Site, verdict: Verdict) -> bool:
    """Whether validate refuses the job."""
    try:
        agree(site.job, site.survey)
        for _ in check_sources(site.job, site.survey):
            pass
    except GalbatchError:
        return True
    except Exception:
        verdict.problems.append(f"validate: {_last_lines(traceback.format_exc())}")
    return False


def _run(site: Site, verdict: Verdict) -> str:
    """Scan and ingest; what the run was stopped with, or nothing."""
    watcher = Watcher()
    said = ""
    try:
        with opened(site):
            run(STAGES, site, lambda: nullcontext(None), watcher)
    except SpecError as error:
        said = " ".join(str(error).split())
    except GalbatchError as error:
        verdict.problems.append(f"{type(error).__name__}: {error}")
    except Exception:
        verdict.problems.append(_last_lines(traceback.format_exc()))
    for result in watcher.results:
        if result.details:
            verdict.problems.append(_last_lines(result.details))
    verdict.problems[:] = list(dict.fromkeys(verdict.problems))
    return said


def _refused(catalogue: Catalogue, site: Site, verdict: Verdict, first: int) -> None:
    """A run that was stopped: for a reason, and with nothing of it left."""
    folder = site.layout.root.parent
    verdict.problems += _refusal(catalogue, folder, verdict.said)
    held = Snapshot(site).catalogue if catalogue.later and site.layout.root.exists() else None
    early = sum(len(file.records) for file in catalogue.files[:first])
    if held is None and not catalogue.later and site.layout.root.exists():
        verdict.problems.append("refused, but a store was left behind")
    if held is not None and held.rows > early:
        verdict.problems.append("refused, but more rows are in the store than before")


def _again(catalogue: Catalogue, site: Site, verdict: Verdict) -> None:
    """Nothing is different after another run, and validate takes what is in the store."""
    if not (verdict.refused or verdict.empty) and _validate(site, verdict):
        verdict.problems.append("validate refuses what is in the store")
    said = _run(site, verdict)
    if said:
        verdict.problems.append(f"the next run is refused: {said}")
    if verdict.problems:
        return
    second = Verdict()
    _compare(catalogue, site, second)
    verdict.problems += [f"after another run: {problem}" for problem in second.problems]
    if str(second) != str(verdict):
        verdict.problems.append(f"after another run: {second}")


def _last_lines(trace: str) -> str:
    lines = trace.strip().splitlines()
    places = [line.strip() for line in lines if "/galbatch/" in line and ".venv" not in line]
    where = re.sub(r"^File .*/galbatch/", "galbatch/", places[-1]) if places else ""
    return f"{lines[-1].strip()[:300]} (at {where})"


# A run that was stopped.


def _refusal(catalogue: Catalogue, folder: Path, said: str) -> Iterator[str]:
    blamed = [file for file in catalogue.files if file.refusal != "never"]
    sound = [
        file.name
        for file in catalogue.files
        if file.refusal == "never" and any(one.fate == "stored" for one in file.records)
    ]
    if "label" in said and not _any_label(catalogue):
        return
    if "hold no rows" in said:
        # Files that may be refused hold none, where they are.
        if sound:
            yield f"sound rows of {', '.join(sound)} are no rows: {said}"
        return
    named = [file for file in catalogue.files if file.name in said]
    if not blamed:
        yield f"sound files are refused: {said}"
        return
    if named and not any(file in blamed for file in named):
        yield f"{named[0].name} is sound, and refused: {said}"
    if not any(_tells(file, said, folder) for file in blamed):
        wanted = " or ".join(map(_told, blamed))
        yield f"the refusal does not say {wanted}: {said}"


def _tells(file: SourceFile, said: str, folder: Path) -> bool:
    rest = said.replace(str(folder), "").lower()
    for words in file.told or ((),):
        # A message about a column of several files may name the column alone.
        if all(word.lower() in rest for word in words) and (words or file.name in said):
            return True
    return False


def _told(file: SourceFile) -> str:
    return " or ".join(" and ".join((file.name, *words)) for words in file.told or ((),))


def _any_label(catalogue: Catalogue) -> bool:
    return any(
        one.fate == "stored" and _missing(one.values.get("zspec")) is False
        for file in catalogue.files
        if file.refusal == "never"
        for one in file.records
    )


# A run that went through.


def _compare(catalogue: Catalogue, site: Site, verdict: Verdict) -> None:
    folder = site.layout.root.parent
    found = Snapshot(site).catalogue
    if found is None:
        verdict.problems.append("the run ended well, but there is no finished catalogue")
        return
    parts = [pq.ParquetFile(site.layout.partition(one)).read() for one in found.partitions]
    table = pa.concat_tables(parts)
    rejected = rejected_rows(site.layout)
    sources = found.facts.sources
    numbers = {source.number: Path(unit).name for unit, source in sources.items()}
    stored: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for row in table.to_pylist():
        name = numbers[row["_file"]]
        if row["_row"] in stored[name]:
            verdict.problems.append(f"{name} row {row['_row']} is stored twice")
        stored[name][row["_row"]] = row
    if site.survey.sky is not None:
        verdict.problems += _sky(table)
    verdict.problems += _id_type(catalogue, table.schema.field("objid").type)
    seen: dict[Any, tuple[str, int]] = {}
    for file in catalogue.files:
        mine = [one for one in rejected if one.file.endswith(f"/{file.name}")]
        whole = [one for one in mine if one.row == 0]
        if whole:
            verdict.refused.append(file.name)
            verdict.problems += _file_refused(file, whole, stored[file.name], folder)
            continue
        if file.refusal == "must":
            verdict.problems.append(f"{file.name} is taken, although: {file.defect}")
            continue
        rows = [one for one in mine if one.row]
        verdict.rows += len(file.records)
        verdict.stored += len(stored[file.name])
        verdict.empty |= not stored[file.name]
        verdict.quarantined += len(rows)
        verdict.problems += _rows(file, stored[file.name], rows, seen, table.schema)
    for one in rejected:
        if "Traceback" in one.exception:
            verdict.problems.append(f"a traceback in the quarantine: {one.exception[-200:]}")
    if verdict.problems:
        return
    if found.facts.totals.read != verdict.rows:
        verdict.problems.append(f"{found.facts.totals.read} rows are said to be read")
    verdict.problems += [f"verify: {damage}" for damage in verify(site.layout)]


def _sky(table: pa.Table) -> Iterator[str]:
    ra, dec = (table[name].to_numpy().astype(float) for name in ("ra", "dec"))
    if not ((ra >= 0) & (ra < 360) & (np.abs(dec) <= 90)).all():
        bad = np.flatnonzero(~((ra >= 0) & (ra < 360) & (np.abs(dec) <= 90)))[0]
        yield f"stored at RA {ra[bad]}, Dec {dec[bad]}"
        return
    if (compute_spatial_index(ra, dec) != table["_healpix_29"].to_numpy()).any():
        yield "_healpix_29 is not that of the position"
    units = [(table.schema.field(name).metadata or {}).get(b"unit") for name in ("ra", "dec")]
    if units != [b"deg", b"deg"]:
        yield f"the store says that positions are in {units}"


def _id_type(catalogue: Catalogue, kind: pa.DataType) -> Iterator[str]:
    wanted = {
        "": pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind),
        "string": pa.types.is_string(kind) or pa.types.is_large_string(kind),
    }.get(catalogue.id_dtype, str(kind) == catalogue.id_dtype)
    if not wanted:
        yield f"ids are stored as {kind}, the survey says {catalogue.id_dtype or 'nothing'}"


def _file_refused(
    file: SourceFile, whole: Sequence[RejectedRow], stored: Mapping[int, Any], folder: Path
) -> Iterator[str]:
    said = "; ".join(one.reason for one in whole)
    if file.refusal == "never":
        yield f"{file.name} is sound, and refused: {said}"
    elif not _tells(file, f"{file.name} {said}", folder):
        yield f"{file.name}: the refusal does not say {_told(file)}: {said}"
    if stored:
        yield f"{file.name} is refused, and {len(stored)} rows of it are stored"
    if file.name not in said:
        yield f"the refusal does not name {file.name}: {said}"


def _rows(
    file: SourceFile,
    stored: Mapping[int, Mapping[str, Any]],
    rejected: Sequence[RejectedRow],
    seen: dict[Any, tuple[str, int]],
    schema: pa.Schema,
) -> Iterator[str]:
    reasons: dict[int, str] = {}
    for one in rejected:
        if one.row in reasons:
            yield f"{file.name} row {one.row} is quarantined twice"
        reasons[one.row] = one.reason
    numbers = {record.row for record in file.records}
    for row in sorted((stored.keys() | reasons.keys()) - numbers):
        yield f"{file.name} has no row {row}: {stored.get(row) or reasons[row]}"
    for record in file.records:
        row = stored.get(record.row)
        where = f"{file.name} row {record.row}" + f" ({record.damage})" * bool(record.damage)
        reason = reasons.get(record.row)
        if row is not None and reason is not None:
            yield f"{where} is stored and quarantined: {reason}"
        if row is None and reason is None:
            yield f"{where} is lost"
        elif row is None and record.fate == "stored":
            first = seen.get(_key(record.id, schema))
            if first is None:
                yield f"{where} is sound, and quarantined: {reason}"
            elif "id" not in str(reason):
                yield f"{where} repeats the id of {first}, and is quarantined for: {reason}"
        elif row is not None:
            if record.fate == "quarantined":
                yield f"{where} is damaged, and stored: {_shown(row)}"
                continue
            first = seen.setdefault(_key(row["objid"], schema), (file.name, record.row))
            if first != (file.name, record.row):
                yield f"{where} repeats the id of {first}, and is stored"
            for problem in _differences(file, record, row, schema):
                yield f"{where}: {problem}"


def _key(value: Any, schema: pa.Schema) -> Any:
    """Equal where two ids are the same one in the type that ids are stored in."""
    if value is ANYTHING or value is None:
        return None
    if pa.types.is_integer(schema.field("objid").type):
        try:
            return int(Decimal(str(value).strip()))
        except (InvalidOperation, ValueError):
            return str(value)
    if isinstance(value, float) and value == int(value):
        value = int(value)
    return str(value)


def _shown(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value!r}" for name, value in row.items() if name[0] != "_")[:200]


def _differences(
    file: SourceFile, record: Record, row: Mapping[str, Any], schema: pa.Schema
) -> Iterator[str]:
    if record.id is not ANYTHING and not _same_id(row["objid"], record.id):
        yield f"the id {record.id!r} is stored as {row['objid']!r}"
    for name, truth in (("ra", record.ra), ("dec", record.dec)):
        if record.id is ANYTHING or name not in row:
            continue
        if truth is None or math.isnan(truth):
            yield f"no {name} stands there, {row[name]!r} is stored"
            continue
        away = abs((row[name] - truth + 180) % 360 - 180)
        if not away <= _DEGREES:
            yield f"{name} {truth!r} deg is stored as {row[name]!r}"
    tolerance = file.tolerance or {}
    for name, value in record.values.items():
        if name not in row:
            yield f"column {name} is not stored"
        elif value is not ANYTHING and not _same(
            row[name], value, schema.field(name).type, tolerance.get(name, 0.0)
        ):
            yield f"{name} {value!r} is stored as {row[name]!r} ({schema.field(name).type})"


def _same_id(stored: Any, truth: Any) -> bool:
    if truth is None:
        return stored in (None, "")
    if stored is None or isinstance(stored, (bool, float)):
        return False
    if isinstance(truth, float):
        whole = truth == int(truth)
        return stored == int(truth) if isinstance(stored, int) else (
            stored in {repr(truth)} | ({str(int(truth))} if whole else set())
        )  # fmt: skip
    if isinstance(truth, int):
        return stored == truth if isinstance(stored, int) else stored == str(truth)
    if isinstance(stored, int):
        number = _decimal(truth)
        return number is not None and number == stored
    return stored in {truth, truth.removesuffix(".0")}


def _same(stored: Any, truth: Any, kind: pa.DataType, tolerance: float) -> bool:
    """Whether a stored value is what stands in the file."""
    if _missing(stored):
        return bool(_missing(truth))
    if isinstance(stored, str):
        if isinstance(truth, str):
            return _lines(stored) == _lines(truth)
        if _missing(truth):
            return stored == ""
        return _decimal(stored) == _decimal(truth)
    number = _decimal(truth)
    if number is None:
        return False
    if isinstance(stored, int):
        return number == stored
    if number == number.to_integral_value() and "e" not in str(truth).lower():
        # An integer as a float is the same only where the float is that integer.
        exact = Decimal(stored) == number
        return exact or _near(stored, truth, tolerance)
    if pa.types.is_float32(kind) and not tolerance:
        return bool(np.float32(float(number)) == stored)
    return float(number) == stored or _near(stored, truth, tolerance)


def _near(stored: float, truth: Any, tolerance: float) -> bool:
    return tolerance > 0 and math.isclose(stored, float(truth), rel_tol=tolerance)


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _missing(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in _TEXT_OF_NOTHING
    return value is None or (isinstance(value, float) and math.isnan(value))


def _decimal(value: Any) -> Decimal | None:
    try:
        # Of a float the shortest text that means it, as of what stands in a file.
        return Decimal(str(value).strip())
    except InvalidOperation:
        return None
