"""Simulated spectra through the store and the scan of templates: memory by the number of rows.

    GALBATCH_DATA=... python benchmarks/spectra_scale.py [--rows 100000] [--folder FOLDER]

`jobs/sdss_spectra.yaml` on simulated spectra of every subclass, with the templates of SDSS: a tenth
of the rows first, then all of them, each in a process of its own with one task at a time. Prints
the largest resident size of both by stage and their ratio (target: 1.05 at most), what
`galbatch plan` promises, and spectra per CPU second of the scan.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from arrays import Silent

from galbatch.plan import plan
from galbatch.run.loop import run
from galbatch.run.store import opened
from galbatch.spec import load_survey
from galbatch.spec.job import Job
from galbatch.stages.site import Site
from galbatch.store.history import latest_records
from galbatch.store.layout import Layout

MOST_GROWTH = 1.05
STAGES = ("scan", "ingest", "train", "predict")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where to work (default: temporary)")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    templates = Path(os.environ.get("GALBATCH_DATA", "data")) / "spectral_templates"
    if not templates.is_dir():
        print(f"skipped: {templates} is not a folder (set GALBATCH_DATA)")
        return
    if arguments.measure:
        rows, folder = arguments.measure
        print(json.dumps(measure(int(rows), Path(folder), templates)))
        return
    found = []
    for rows in (arguments.rows // 10, arguments.rows):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            script = [sys.executable, __file__, "--measure", str(rows), folder]
            done = subprocess.run(script, check=True, capture_output=True, text=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
    few, many = found
    for name in STAGES:
        one, other = few["peak"][name], many["peak"][name]
        print(
            f"{name:8} {one / 2**20:6.0f} MiB with {arguments.rows // 10:,} rows, "
            f"{other / 2**20:6.0f} MiB with {arguments.rows:,}: ratio {other / one:.3f} (target "
            f"{MOST_GROWTH}); promised {many['promised'][name] / 2**20:.0f} MiB; "
            f"{many['seconds'][name]:.0f} s"
        )


def site_of(rows: int, folder: Path, templates: Path) -> Site:
    bases = [
        {"file": str(templates / "spEigenGal-56436.fits"), "of": "GALAXY"},
        {"file": str(templates / "spEigenQSO-58596.fits"), "of": "QSO", "vectors": 4},
    ]
    words: dict[str, Any] = {
        "name": "scale",
        "survey": "sdss_spectra",
        "source": {"kind": "mock", "rows": rows, "batch_rows": 5_000},
        "store": str(folder / "store"),
        "partition": {"rows": 5_000},
        "models": [{"kind": "chi2_scan", "templates": bases, "max_rows": 1_000}],
        "cluster": {"kind": "serial"},
    }
    survey = load_survey("sdss_spectra")
    return Site(Job.model_validate(words), survey, Layout(folder / "store"))


def measure(rows: int, folder: Path, templates: Path) -> dict[str, Any]:
    """Run all stages but the page in this process."""
    site = site_of(rows, folder, templates)
    stages = [one for one in plan(site.job, site.survey) if one.name in STAGES]
    with opened(site):
        run(tuple(stages), site, lambda: nullcontext(None), Silent())
    records = latest_records(site.layout)
    return {
        "peak": {name: records[name].peak_memory for name in STAGES},
        "promised": {one.name: one.memory(site) for one in stages},
        "seconds": {name: records[name].seconds for name in STAGES},
    }


if __name__ == "__main__":
    main()
