"""The default model beside the thesis' networks on a simulated ALHAMBRA sky, same held-out rows.

    python benchmarks/mock_thesis.py [--rows 50000] [--store FOLDER]

Prints, for every target, both models' figures and their ratio, and the star/galaxy accuracy for
F814W < 22.5 beside the thesis' published 99.05 %.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

LOWER_IS_BETTER = {"sigma_nmad": True, "outliers": True, "rmse": True, "accuracy": False}
SHOWN = {
    "redshift": ("sigma_nmad", "outliers"),
    "star": ("accuracy",),
    "log_mass": ("rmse", "sigma_nmad"),
    "spectral_type": ("rmse", "sigma_nmad"),
    "abs_mag_b": ("rmse", "sigma_nmad"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--store", help="where the job leaves its store (default: temporary)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        store = arguments.store or f"{temporary}/store"
        command = [sys.executable, "-m", "galbatch.cli", "run", "quickstart"]
        for override in (
            f"source.rows={arguments.rows}",
            f"store={store}",
            f"sinks.0.path={store}.duckdb",
        ):
            command += ["--set", override]
        subprocess.run(command, check=True)
        report = json.loads((Path(store) / "report" / "report.json").read_text())
    tables = {
        name: {one["target"]: one for one in model["evaluation"]["targets"]}
        for name, model in report["models"].items()
    }
    print(f"\n{'target':16}{'statistic':12}{'photometric':>14}{'thesis':>12}{'ratio':>9}  better")
    for target, statistics in SHOWN.items():
        for statistic in statistics:
            group = "classes" if target == "star" else "point"
            ours, theirs = (
                tables[name][target][group][statistic] for name in ("photometric", "thesis")
            )
            better = (ours < theirs) == LOWER_IS_BETTER[statistic]
            ratio = ours / theirs if theirs else float("nan")
            print(f"{target:16}{statistic:12}{ours:14.4f}{theirs:12.4f}{ratio:9.3f}  {better}")
    print("\nstar/galaxy labels end at F814W = 22.5; the thesis published 0.9905")


if __name__ == "__main__":
    main()
