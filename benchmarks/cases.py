"""The inputs that once failed: each is run as its README says, and its outcome is judged.

    python benchmarks/cases.py [FOLDER] [--only NAME]

FOLDER holds one folder per case, with its files, survey and job; by default it is
`$GALBATCH_CASES`, or `../shared/cases` beside the repository. A case is copied into a temporary
folder before it is run. One line each: `ok`, or `FAILS` with what was expected and what came; the
exit code is 1 if any fails.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq
import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
DEFAULT = Path(os.environ.get("GALBATCH_CASES", REPOSITORY.parent / "shared" / "cases"))
TIMEOUT = 300
# Small catalogues may have no cell of the sky for validation, and few labels.
BY_ID = "split={kind: id, test: 0.05, validation: 0.1}"
DEGREES_IN_THE_FILE = (150.0, 152.0)


@dataclass(frozen=True)
class Ran:
    """The outcome of a command."""

    words: str
    code: int
    said: str

    def problems(self, *codes: int, naming: Sequence[str] = ()) -> Iterator[str]:
        """Where the exit code is none of these, or the message lacks a word (or shows code)."""
        last = " / ".join(self.said.strip().splitlines()[-2:])[:300]
        if "Traceback" in self.said or 'File "' in self.said:
            yield f"{self.words}: a traceback ({last})"
        if self.code not in codes:
            wanted = " or ".join(map(str, codes))
            yield f"{self.words}: expected exit {wanted}, got {self.code} ({last})"
        for word in naming:
            if word not in self.said:
                yield f"{self.words}: does not say {word!r} ({last})"


@dataclass(frozen=True)
class Case:
    """A copy of a case."""

    folder: Path

    def galbatch(self, command: str, *arguments: str) -> Ran:
        """Run the command line as a user would, in the folder of the case."""
        return self.run([sys.executable, "-m", "galbatch.cli", command, *arguments], command)

    def run(self, command: Sequence[str], words: str) -> Ran:
        """Run any command there."""
        paths = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "PATH": os.pathsep.join([str(self.folder.parent / "bin"), os.environ["PATH"]]),
        }
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        return Ran(words, done.returncode, done.stdout)

    def edit(self, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the words of a job or a survey."""
        path = self.folder / name
        words = yaml.safe_load(path.read_text(encoding="utf-8"))
        change(words)
        path.write_text(yaml.safe_dump(words, sort_keys=False), encoding="utf-8")

    def stored(self, *columns: str, store: str = "store") -> pa.Table | None:
        """The catalogue in a store, or None where there is none."""
        files = sorted((self.folder / store / "catalogue").rglob("Npix=*.parquet"))
        if not files:
            return None
        wanted = list(columns)
        return pa.concat_tables(
            [pq.ParquetFile(file).read(columns=wanted) for file in files],
            promote_options="permissive",
        )

    def rows(self, expected: int, quarantined: int = 0, store: str = "store") -> Iterator[str]:
        """Where other numbers of rows are stored and quarantined."""
        table = self.stored("_row", store=store)
        found = 0 if table is None else table.num_rows
        if found != expected:
            yield f"expected {expected:,} rows stored, found {found:,}"
        rejected = sum(
            int((pq.read_table(path)["row"].to_numpy() > 0).sum())
            for path in (self.folder / store / "quarantine").glob("*.parquet")
        )
        if rejected != quarantined:
            yield f"expected {quarantined:,} rows in quarantine, found {rejected:,}"


def column_type_differs_by_file(case: Case) -> Iterator[str]:
    """Unlisted: the column is named, or its integers stay what they are. Listed: converted."""
    truth = pq.read_table(case.folder / "a.parquet")
    integers = dict(zip(truth["objid"].to_pylist(), truth["detection"].to_pylist(), strict=True))

    def exact(store: str) -> Iterator[str]:
        table = case.stored("objid", "detection", store=store)
        if table is None:
            yield "nothing is stored"
            return
        found = dict(zip(table["objid"].to_pylist(), table["detection"].to_pylist(), strict=True))
        wrong = [key for key, value in integers.items() if str(found.get(key)) != str(value)]
        if wrong:
            yield f"detection of {wrong[0]} is {found.get(wrong[0])!r}, not {integers[wrong[0]]}"

    ran = case.galbatch("run", "job.yaml", "--set", BY_ID)
    yield from ran.problems(0, 1, 2, naming=["detection"] if ran.code else [])
    if ran.code != 2:
        yield from exact("store")
    case.edit("survey.yaml", lambda words: words["columns"].append(
        {"name": "detection", "dtype": "int64"}
    ))  # fmt: skip
    listed = case.galbatch("run", "job.yaml", "--set", BY_ID, "--set", "store=listed")
    # The other file has floats beyond 2**53: nobody can say which integers they were.
    yield from listed.problems(0, 1, 2, naming=["detection", "b.parquet"] if listed.code else [])
    if listed.code != 2:
        yield from exact("listed")


def csv_cr_only(case: Case) -> Iterator[str]:
    """Read, or refused for its line ends."""
    ran = case.galbatch("validate", "job.yaml")
    yield from ran.problems(0, 2, naming=["CR"] if ran.code else ["10 columns"])


def csv_open_quote(case: Case) -> Iterator[str]:
    """The quote costs its own row."""
    for name in ("a.csv", "numbers_only.csv"):
        paths, store = f"source.paths=[{name}]", f"store={name}.store"
        ran = case.galbatch("run", "job.yaml", "--set", paths, "--set", store, "--set", BY_ID)
        yield from ran.problems(1)
        yield from case.rows(1499, 1, f"{name}.store")


def file_changes_during_run(case: Case) -> Iterator[str]:
    """The file never comes to rest: it is named, and nobody says that all is done."""
    ran = case.run(["bash", "run.sh"], "run.sh")
    found = re.search(r"exit code (\d+)", ran.said)
    code = int(found[1]) if found else -1
    yield from Ran("run", code, ran.said).problems(1, 2, 3, naming=["a.csv"])
    if "nothing to do" in ran.said:
        yield "says 'nothing to do' of stages that wait"
    if not re.search("chang|unstable", ran.said):
        yield "does not say that the file changed"


def flux_units_contradict(case: Case) -> Iterator[str]:
    """nJy in the file: converted, or refused with both units. uJy for magnitudes: refused."""
    ran = case.galbatch("validate", "job.yaml")
    yield from ran.problems(0, 2, naming=["nJy", "uJy"] if ran.code else [])
    if not ran.code:
        yield from case.galbatch("run", "job.yaml", "--set", BY_ID).problems(0)
        table = case.stored("objid", "g_mag")
        # 3530.06 nJy is the first row's.
        first = [] if table is None else [
            value for key, value in zip(*(column.to_pylist() for column in table), strict=True)
            if key == 1237648720000000000
        ]  # fmt: skip
        if not first or abs(first[0] - 3.530061274539681) > 1e-6:
            yield f"3.530061 uJy is stored as {first}"
    other = ("--set", "survey=survey2.yaml", "--set", "source.paths=[a2.fits]")
    ran = case.galbatch("validate", "job.yaml", *other, "--set", "store=other")
    yield from ran.problems(2, naming=["uJy"])


def id_types_differ(case: Case) -> Iterator[str]:
    """All ids are different, and all rows are kept."""
    text = Case(case.folder / "segfault")
    yield from text.galbatch("run", "job.yaml", "--set", BY_ID).problems(0)
    yield from text.rows(300)
    table = text.stored("objid")
    wanted = {str(1237648720000000000 + number) for number in range(300)}
    if table is not None and set(map(str, table["objid"].to_pylist())) != wanted:
        yield "the ids are not those of the files"
    numbers = Case(case.folder / "lost-rows")
    yield from numbers.galbatch("run", "job.yaml", "--set", BY_ID).problems(0)
    yield from numbers.rows(6060)


def id_without_dtype(case: Case) -> Iterator[str]:
    """Ids are exact, or the survey is refused."""
    ran = case.galbatch("validate", "job.yaml")
    yield from ran.problems(0, 2, naming=["objid"] if ran.code else [])
    if ran.code:
        return
    yield from case.galbatch("run", "job.yaml", "--set", BY_ID).problems(0)
    text = pv.ConvertOptions(column_types={"objid": pa.string()})
    wanted = set(pv.read_csv(case.folder / "a.csv", convert_options=text)["objid"].to_pylist())
    table = case.stored("objid")
    found = set() if table is None else set(map(str, table["objid"].to_pylist()))
    if found != wanted:
        yield f"{len(wanted - found)} of {len(wanted)} ids are not stored as they are"
    with duckdb.connect(str(case.folder / "out.duckdb"), read_only=True) as database:
        ((name,),) = database.execute(
            "SELECT table_name FROM information_schema.columns WHERE column_name = 'objid'"
        ).fetchall()[:1]
        ids = {str(key) for (key,) in database.execute(f'SELECT objid FROM "{name}"').fetchall()}
    if ids != wanted:
        yield f"{len(wanted - ids)} of {len(wanted)} ids are not in DuckDB as they are"


def position_units_ignored(case: Case) -> Iterator[str]:
    """Radians become degrees, or are refused with both units."""
    ran = case.galbatch("run", "job.yaml", "--set", BY_ID)
    yield from ran.problems(0, 2, naming=["rad", "deg"] if ran.code else [])
    if ran.code:
        return
    table = case.stored("ra")
    low, high = DEGREES_IN_THE_FILE
    if table is None or not low <= table["ra"][0].as_py() <= high:
        yield f"RA from {low} to {high} deg is stored as {table and table['ra'][0]}"
    elif (table.schema.field("ra").metadata or {}).get(b"unit") != b"deg":
        yield f"the store says of ra: {table.schema.field('ra').metadata}"


def several_tables_first_only(case: Case) -> Iterator[str]:
    """Refused, with the tables."""
    yield from case.galbatch("run", "job.yaml").problems(2, naming=["NORTH", "SOUTH"])


def store_inside_source(case: Case) -> Iterator[str]:
    """Refused before anything is written, or left out of the sources."""
    first = case.galbatch("run", "job.yaml", "--set", BY_ID)
    if first.code == 2:
        yield from first.problems(2, naming=["store"])
        if (case.folder / "src" / "store").exists():
            yield "refused, but a store was made"
        return
    for ran in (first, case.galbatch("run", "job.yaml", "--set", BY_ID)):
        yield from ran.problems(0)
    yield from case.rows(300, store="src/store")


def validate_misses(case: Case) -> Iterator[str]:
    """What only needs headers is found by validate; what is optional stops nothing."""
    ran = case.galbatch("validate", "job.yaml")
    yield from ran.problems(2, naming=["ebv"])
    plain = ("--set", "models.photometric.clean={kind: standard}", "--set", BY_ID)
    yield from case.galbatch("run", "job.yaml", *plain).problems(0)
    ran = case.galbatch("validate", "job2.yaml")
    yield from ran.problems(2, naming=["unit"])
    words = ("--set", BY_ID, "--set", "store=third")
    ran = case.galbatch("validate", "job3.yaml", *words)
    yield from ran.problems(0, 2, naming=["objid"] if ran.code else [])
    if not ran.code:
        yield from case.galbatch("run", "job3.yaml", *words).problems(0)
    where = Case(case.folder / "report-where-misspelt")
    yield from where.galbatch("validate", "job.yaml").problems(2, naming=["r_magg", "r_mag'"])


def votable_overflow(case: Case) -> Iterator[str]:
    """Refused, and the run says why."""
    yield from case.galbatch("run", "job.yaml").problems(2, naming=["OVERFLOW"])


def wide_table_slow(case: Case) -> Iterator[str]:
    """A cell of 2,010 columns takes no more time than one of 100, on this machine at this hour."""
    wide = pq.read_table(case.folder / "a.parquet")
    survey = yaml.safe_load((case.folder / "survey.yaml").read_text(encoding="utf-8"))
    needed = [column["name"] for column in survey["columns"]]
    others = [name for name in wide.column_names if name not in needed]
    narrow = wide.select([*needed, *others[: 100 - len(needed)]])
    pq.write_table(narrow, case.folder / "narrow.parquet")
    each: list[float] = []
    for name, table in (("narrow", narrow), ("a", wide)):
        words = ("--set", f"source.paths=[{name}.parquet]", "--set", f"store={name}")
        ran = case.galbatch("run", "job.yaml", *words, "--set", BY_ID)
        yield from ran.problems(0)
        found = re.search(r"ingest: done: [\d,]+ rows in ([\d.]+) s", ran.said)
        if found is None:
            yield f"{name}: nothing is said of the ingest"
            return
        each.append(float(found[1]) / (table.num_rows * table.num_columns) * 1e6)
    if each[1] > 1.5 * each[0]:
        yield f"a cell takes {each[1]:.1f} us, one of 100 columns {each[0]:.1f} us"


def words_without_bounds(case: Case) -> Iterator[str]:
    """Refused by validate, by name."""
    for word, value in (
        ("seed", "models.photometric.seed=-1"),
        ("seed", "models.photometric.seed=99999999999999999999"),
        ("magnitude_bins", "report.magnitude_bins=[]"),
        ("magnitude_bins", "report.magnitude_bins=[20]"),
        ("memory", "cluster={kind: local, memory: 1 MiB}"),
    ):
        yield from case.galbatch("validate", "job.yaml", "--set", value).problems(2, naming=[word])


def yaml_keys(case: Case) -> Iterator[str]:
    """Keys that are there twice, anchors without end, words that are no numbers."""
    yield from case.galbatch("validate", "twice.yaml").problems(2, naming=["store", "twice"])
    yield from case.galbatch("validate", "recursive.yaml").problems(2, naming=["recursive.yaml"])
    text = (case.folder / "job.yaml").read_text(encoding="utf-8")
    for word, codes in (("1:30", (2,)), ("yes", (2,)), ("012", (0, 2))):
        name = f"epochs-{word.replace(':', '-')}.yaml"
        (case.folder / name).write_text(text.replace("epochs: 1\n", f"epochs: {word}\n"))
        ran = case.galbatch("validate", name)
        yield from ran.problems(*codes, naming=["epochs"] if ran.code else [])


CASES: dict[str, Callable[[Case], Iterator[str]]] = {
    "column-type-differs-by-file": column_type_differs_by_file,
    "csv-cr-only": csv_cr_only,
    "csv-open-quote": csv_open_quote,
    "file-changes-during-run": file_changes_during_run,
    "flux-units-contradict": flux_units_contradict,
    "id-types-differ": id_types_differ,
    "id-without-dtype": id_without_dtype,
    "position-units-ignored": position_units_ignored,
    "several-tables-first-only": several_tables_first_only,
    "store-inside-source": store_inside_source,
    "validate-misses": validate_misses,
    "votable-overflow": votable_overflow,
    "wide-table-slow": wide_table_slow,
    "words-without-bounds": words_without_bounds,
    "yaml-keys": yaml_keys,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--only", metavar="NAME", help="one case")
    arguments = parser.parse_args()
    if not arguments.folder.is_dir():
        print(f"skipped: {arguments.folder} is no folder (set GALBATCH_CASES)")
        return
    names = sorted(path.parent.name for path in arguments.folder.glob("*/README.txt"))
    results = {}
    for name in names if arguments.only is None else [arguments.only]:
        began = time.perf_counter()
        results[name] = judged(arguments.folder / name)
        took = f"{time.perf_counter() - began:.0f} s"
        verdict = f"FAILS: {'; '.join(results[name])}" if results[name] else "ok"
        print(f"{name:28} {took:>6} {verdict}", flush=True)
    failed = sum(map(bool, results.values()))
    print(f"{len(results) - failed} of {len(results)} cases are as expected")
    sys.exit(1 if failed else 0)


def judged(source: Path) -> list[str]:
    """What is wrong with the outcome of a case."""
    if source.name not in CASES:
        return ["nobody has said what is expected of it"]
    with tempfile.TemporaryDirectory(prefix="case-") as temporary:
        folder = Path(temporary) / source.name
        shutil.copytree(source, folder)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        command = Path(temporary) / "bin" / "galbatch"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m galbatch.cli "$@"\n')
        command.chmod(0o755)
        try:
            return list(CASES[source.name](Case(folder)))
        except subprocess.TimeoutExpired as error:
            return [f"{' '.join(error.cmd[-3:])}: no end after {TIMEOUT} s"]


if __name__ == "__main__":
    main()
