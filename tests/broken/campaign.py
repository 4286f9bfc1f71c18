"""Broken catalogues, many of them: rows in = rows stored + rows quarantined, values exact.

    python tests/broken/campaign.py [--files 2000] [--seed 0] [--keep FOLDER]
    python tests/broken/campaign.py --replay SEED [--keep FOLDER]

`make broken` judges two thousand files; the tests a hundred of the same.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

if __package__ is None or __package__ == "":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from broken.catalogues import seeded
from broken.judge import Verdict, in_pieces, judge
from broken.truth import Catalogue

_SIZES = (1 << 18, 61, 1 << 18, 509, 1 << 18)
"""Bytes that the readers take at a time."""


@dataclass(frozen=True)
class Trial:
    """A catalogue that was judged."""

    seed: int
    catalogue: Catalogue
    verdict: Verdict

    def __str__(self) -> str:
        problems = self.verdict.problems
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        wanted = ", ".join(
            f"{file.name} {len(file.records)} rows, {file.refusal} be refused"
            for file in self.catalogue.files
        )
        return f"seed {self.seed} {self.catalogue} | {wanted} | {problems[0]}{more}"


def trial(seed: int, keep: Path | None = None) -> Trial:
    """Judge the catalogue of a seed; one that fails is copied to `keep`."""
    catalogue = seeded(seed)
    with tempfile.TemporaryDirectory(prefix="broken-") as temporary:
        folder = Path(temporary)
        with in_pieces(_SIZES[seed % len(_SIZES)]):
            verdict = judge(catalogue, folder, again=seed % 4 == 0)
        if keep is not None and verdict.problems:
            shutil.copytree(folder, keep / str(seed), dirs_exist_ok=True)
    return Trial(seed, catalogue, verdict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replay", type=int, metavar="SEED", help="judge this one, and say all")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for those that fail")
    arguments = parser.parse_args()
    if arguments.replay is not None:
        one = trial(arguments.replay, arguments.keep)
        print(one.catalogue)
        for file in one.catalogue.files:
            print(f"{file.name}: {len(file.records)} rows, {file.refusal} be refused, {file.told}")
        print(one.verdict)
        for problem in one.verdict.problems:
            print(f"  {problem}")
        sys.exit(1 if one.verdict.problems else 0)
    sys.exit(campaign(arguments.files, arguments.seed, arguments.keep))


def campaign(files: int, seed: int, keep: Path | None) -> int:
    """Judge so many files; the exit code."""
    began = time.perf_counter()
    catalogues = judged = rows = stored = quarantined = refused = failed = 0
    for one in _trials(seed, keep):
        catalogues += 1
        judged += len(one.catalogue.files)
        rows += one.verdict.rows
        stored += one.verdict.stored
        quarantined += one.verdict.quarantined
        refused += len(one.catalogue.files if one.verdict.said else one.verdict.refused)
        if one.verdict.problems:
            failed += 1
            print(one, flush=True)
        if judged >= files:
            break
    print(
        f"{catalogues:,} catalogues, {judged:,} files, {refused:,} of them refused as a whole; "
        f"{rows:,} rows in = {stored:,} stored + {quarantined:,} quarantined, {failed:,} failures "
        f"({time.perf_counter() - began:.0f} s)"
    )
    return 1 if failed else 0


def _trials(seed: int, keep: Path | None) -> Iterator[Trial]:
    """From a seed on, in a process of its own: native code that is led astray ends its process."""
    while True:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            try:
                while True:
                    yield pool.submit(trial, seed, keep).result()
                    seed += 1
            except BrokenProcessPool:
                yield Trial(seed, seeded(seed), Verdict(["the process died"]))
                seed += 1


if __name__ == "__main__":
    main()
