"""What can be told from headers and first rows is told by `validate`, and before a run begins."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from world import STAGES, Silent

from galbatch.errors import SpecError
from galbatch.run.loop import run
from galbatch.run.store import opened
from galbatch.spec.job import Job
from galbatch.spec.survey import Survey
from galbatch.stages import checks
from galbatch.stages.checks import agree, check_sources, source_notes
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store.layout import Layout

BANDS = {"g": 4750, "r": 6250, "i": 7700}
ROWS = 60
Settings = dict[str, Any]


def survey_words(**changes: Any) -> Settings:
    columns: list[Settings] = [{"name": "objid", "dtype": "int64"}, {"name": "ra"}, {"name": "dec"}]
    columns += [{"name": f"{band}_{what}"} for band in BANDS for what in ("mag", "err")]
    columns += [{"name": name} for name in ("zspec", "lgm", "secure", "ebv", "size", "sat")]
    columns += [{"name": "field", "dtype": "string"}]
    words = {
        "name": "mine",
        "title": "My survey",
        "id": {"column": "objid"},
        "sky": {"ra": "ra", "dec": "dec"},
        "reference_band": "r",
        "photometry": {"saturation": {"column": "sat", "values": [1]}},
        "bands": [
            {"name": band, "wavelength": at, "width": 1400,
             "value": f"{band}_mag", "error": f"{band}_err"}
            for band, at in BANDS.items()
        ],
        "labels": {
            "redshift": {"column": "zspec", "low": 0.01, "high": 6,
                         "where": [{"column": "secure", "values": [1]}]},
            "log_mass": {"column": "lgm", "low": 6, "high": 13},
        },
        "extinction": "ebv",
        "morphology": ["size"],
        "columns": columns,
    }  # fmt: skip
    return words | changes


def frame(first: int = 0, rows: int = ROWS, **columns: Any) -> pd.DataFrame:
    """The rows of a file with redshifts, and of the optional columns no other."""
    rng = np.random.default_rng(first)
    found = {
        "objid": np.arange(first, first + rows) + 1_237_648_720_000_000_000,
        "ra": rng.uniform(10, 12, rows),
        "dec": rng.uniform(-1, 1, rows),
        **{f"{band}_mag": rng.uniform(18, 22, rows) for band in BANDS},
        **{f"{band}_err": np.full(rows, 0.05) for band in BANDS},
        "zspec": rng.uniform(0.1, 1, rows),
    }
    return pd.DataFrame(found | columns)


class Place:
    """A folder with files, a job and its survey."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, rows: pd.DataFrame) -> None:
        path = self.folder / name
        if path.suffix == ".csv":
            rows.to_csv(path, index=False)
        else:
            pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), path)

    def job(self, model: Settings | None = None, **changes: Any) -> Job:
        words = {
            "name": "mine",
            "survey": "survey.yaml",
            "source": {"kind": "files", "paths": [f"{self.folder}/?.*"]},
            "store": str(self.folder / "store"),
            "models": [{"kind": "photometric", **(model or {})}],
            "cluster": {"kind": "serial"},
        }
        return Job.model_validate(words | changes)

    def validate(self, job: Job, survey: Survey) -> list[str]:
        """What `galbatch validate` says."""
        agree(job, survey)
        facts = list(check_sources(job, survey))
        notes = source_notes(job, survey, facts)
        said = [*map(str, facts), *notes]
        return [line.replace(f"{self.folder}/", "") for line in said]

    def run(self, job: Job, survey: Survey) -> Site:
        """Scan and ingest, as `galbatch run` begins."""
        agree(job, survey)
        scratch = Path(job.scratch) if job.scratch else None
        site = Site(job, survey, Layout(Path(job.store), scratch))
        with opened(site):
            run(STAGES, site, lambda: nullcontext(None), Silent())
        return site


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.write("a.csv", frame())
    return place


def survey(**changes: Any) -> Survey:
    return Survey.model_validate(survey_words(**changes))


BEYOND = 2**53 + 1
TEXT_ID = [f"J{number}" for number in range(ROWS)]
ON_TEXT = {"column": "field", "low": 1}
LABELS = survey_words()["labels"]
Refused = tuple[dict[str, pd.DataFrame], Settings, Settings, str]
REFUSED: dict[str, Refused] = {
    "extinction": (
        {}, {"model": {"clean": {"extinction": True}}}, {},
        "models.photometric.clean.extinction: no file has the column 'ebv'",
    ),
    "a misspelt extinction": (
        {"a.csv": frame(ebv_sfd=0.1)}, {"model": {"clean": {"extinction": True}}}, {},
        r"clean.extinction: no file has the column 'ebv'.*did you mean 'ebv_sfd'\?",
    ),
    "a target": (
        {}, {"model": {"targets": ["redshift", "log_mass"]}}, {},
        "models.photometric.targets: 'log_mass' has no label: no file has the column 'lgm'",
    ),
    "no labels": (
        {"a.csv": frame().drop(columns="zspec")}, {}, {},
        r"models: no file has a column with labels \('zspec', 'lgm'\): there is nothing to train",
    ),
    "a misspelt label": (
        {"a.csv": frame().rename(columns={"zspec": "z_spec"})}, {}, {},
        r"there is nothing to train on \(did you mean 'z_spec'\?\)",
    ),
    "report.where": (
        {}, {"report": {"where": [{"column": "r_magg", "low": 18}]}}, {},
        r"report.where: no file has the column 'r_magg' \(did you mean 'r_mag'\?\)",
    ),
    "report.where of text": (
        {"a.csv": frame(field="deep")}, {"report": {"where": [{"column": "field", "low": 1}]}}, {},
        "report.where: expected numbers in column 'field', .*a.csv holds text",
    ),
    "text beside numbers": (
        {"b.parquet": frame(ROWS, note=1), "c.parquet": frame(2 * ROWS, note="x")}, {}, {},
        "column 'note': no type holds it in all files: int64 in .*b.parquet, .*string in .*c",
    ),
    "long integers beside floats": (
        {"b.parquet": frame(ROWS, note=BEYOND), "c.parquet": frame(2 * ROWS, note=0.5)}, {}, {},
        "column 'note': int64 in .*b.parquet, double in .*c.parquet: as float64 .* be rounded",
    ),
    "an id that is missing": (
        {"a.csv": frame().drop(columns="objid")}, {}, {},
        "a.csv: column 'objid' is not in the file",
    ),
    "no number in a band": (
        {"a.csv": frame(r_mag="bright")}, {}, {},
        "a.csv: row 1: .*r_mag.*: all of the first 60 rows are bad",
    ),
    "a label in text": (
        {}, {}, {"labels": {"redshift": {"column": "field", "low": 0, "high": 1}}},
        "survey mine: labels.redshift: expected a column of numbers, 'field' holds text",
    ),
    "no label in the survey": ({}, {}, {"labels": {}}, "survey mine: names no column with labels"),
    "a condition on text": (
        {}, {}, {"labels": {"redshift": LABELS["redshift"] | {"where": [ON_TEXT]}}},
        "survey mine: labels.redshift.where: expected a column of numbers",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_must_be_changed_is_said_before_anything_is_written(place: Place, name: str) -> None:
    files, job_changes, survey_changes, problem = REFUSED[name]
    for file, rows in files.items():
        place.write(file, rows)
    job, made = place.job(**job_changes), survey(**survey_changes)
    for attempt in (place.validate, place.run):
        with pytest.raises(SpecError, match=problem):
            attempt(job, made)
    assert not (place.folder / "store").exists()


Told = tuple[dict[str, pd.DataFrame], Settings, str]
TOLD: dict[str, Told] = {
    "absent everywhere": (
        {}, {},
        "no file has 'ebv' (extinction), 'size' (morphology), 'sat' (photometry.saturation), "
        "'secure' (labels.redshift.where), 'lgm' (labels.log_mass): left out",
    ),
    "misspelt": (
        {"a.csv": frame(sizes=1.0)}, {}, "'size' (morphology; did you mean 'sizes'?)",
    ),
    "absent in one": (
        {"b.csv": frame(ROWS, lgm=10.0, size=1.0)}, {},
        "a.csv, 1 of 2 files, has no 'size' (morphology), 'lgm' (labels.log_mass): no value in its",
    ),
    "labels": ({}, {}, "labels in the first 60 rows of 1 file: redshift 60, log_mass 0"),
    "no labels so far": (
        {"a.csv": frame(zspec=-1.0)}, {}, "no label in the first 60 rows of 1 file: without one",
    ),
    "ids of two types": (
        {"b.parquet": frame(ROWS), "a.csv": frame(objid=TEXT_ID)},
        {"columns": [{"name": "objid"}, *survey_words()["columns"][1:]]},
        "column 'objid' is int64 in b.parquet, text in a.csv: ids become text",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TOLD)
def test_what_is_good_to_know_is_said(place: Place, name: str) -> None:
    files, survey_changes, line = TOLD[name]
    for file, rows in files.items():
        place.write(file, rows)
    said = place.validate(place.job(), survey(**survey_changes))
    assert any(line in one for one in said), said


def test_models_without_labels_are_not_told_that_there_are_none(place: Place) -> None:
    place.write("a.csv", frame(zspec=-1.0))
    words = {"kind": "som", "columns": ["g_mag", "r_mag"]}
    said = place.validate(place.job(models=[words]), survey())
    assert said and not any("label" in line and "train" in line for line in said), said


def test_a_type_that_the_survey_gives_is_no_matter(place: Place) -> None:
    place.write("b.parquet", frame(ROWS, n=BEYOND))
    place.write("c.parquet", frame(2 * ROWS, n=float(5)))
    with pytest.raises(SpecError, match=r"say its dtype in the survey's 'columns'"):
        place.validate(place.job(), survey())
    columns = [*survey_words()["columns"], {"name": "n", "dtype": "int64"}]
    made = survey(columns=columns)
    assert place.validate(place.job(), made)
    found = Snapshot(place.run(place.job(), made)).catalogue
    assert found is not None and found.rows == 3 * ROWS
    assert dict(zip(found.facts.columns, found.facts.types, strict=True))["n"] == "int64"


def test_a_file_that_cannot_be_used_does_not_hold_up_the_others(place: Place) -> None:
    (place.folder / "b.parquet").write_text("no Parquet")
    said = place.validate(place.job(), survey())
    assert any(line.startswith("b.parquet: a run would set it aside") for line in said)
    site = place.run(place.job(), survey())
    found = Snapshot(site).catalogue
    assert found is not None and found.rows == ROWS
    (place.folder / "a.csv").unlink()
    with pytest.raises(SpecError, match=r"b\.parquet: cannot be used"):
        place.validate(place.job(store=str(place.folder / "other")), survey())


def a_file(folder: Path) -> str:
    (folder / "taken").write_text("mine")
    return str(folder / "taken" / "below")


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("store", lambda path: {"store": path}),
        ("scratch", lambda path: {"scratch": path}),
        ("sinks", lambda path: {"sinks": [{"kind": "duckdb", "path": f"{path}/x.duckdb"}]}),
    ],
)
def test_where_nothing_can_be_written(
    place: Place, word: str, words: Callable[[str], Settings]
) -> None:
    job = place.job(**words(a_file(place.folder)))
    with pytest.raises(SpecError, match=rf"{word}: .*taken is a file, not a folder"):
        place.validate(job, survey())
    assert not (place.folder / "store").exists()


def test_the_store_of_another_job(place: Place) -> None:
    place.run(place.job(), survey())
    with pytest.raises(SpecError, match=r"was made by job 'mine' .*, this is job 'other'"):
        place.validate(place.job(name="other"), survey())
    assert place.validate(place.job(), survey())


def test_a_table_that_is_of_others(place: Place) -> None:
    path = place.folder / "x.duckdb"
    job = place.job(sinks=[{"kind": "duckdb", "path": str(path), "table": "mine"}])
    with duckdb.connect(str(path)) as database:
        database.execute("CREATE TABLE mine (objid BIGINT)")
    for attempt in (place.validate, place.run):
        with pytest.raises(SpecError, match=r"x\.duckdb, table mine: expected .*did not make it"):
            attempt(job, survey())
    path.write_bytes(path.read_bytes()[:4096])
    with pytest.raises(SpecError, match=r"x\.duckdb: DuckDB: "):
        place.validate(job, survey())
    taken = place.job(sinks=[{"kind": "duckdb", "path": "y.duckdb", "table": "galbatch_receipts"}])
    with pytest.raises(SpecError, match="this table's name is taken"):
        place.validate(taken, survey())


def test_headers_are_read_again_of_news_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = checks.read_headers

    def counted(source: Any, survey: Survey, files: Any, **words: Any) -> Any:
        read.extend(Path(file).name for file in files)
        return real(source, survey, files, **words)

    monkeypatch.setattr(checks, "read_headers", counted)
    place.run(place.job(), survey())
    assert read == ["a.csv"]
    # The new file has no labels, and lacks a column that the report asks for: the store has both.
    place.write("b.csv", frame(ROWS).drop(columns="zspec"))
    job = place.job(report={"where": [{"column": "zspec", "low": 0.1}]})
    place.run(job, survey())
    assert read == ["a.csv", "b.csv"]
    place.run(job, survey())
    assert read == ["a.csv", "b.csv"]
    # A column of the store is compared with those of what is new.
    place.write("c.parquet", frame(2 * ROWS, zspec="high"))
    place.write("d.parquet", frame(3 * ROWS, ra=[[1.0, 2.0]] * ROWS))
    said = place.validate(job, survey())
    assert any(line.startswith("d.parquet: a run would set it aside") for line in said)
