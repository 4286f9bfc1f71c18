"""Do the intervals cover what they claim, on held-out sky cells, in bins of magnitude?

    python benchmarks/calibration.py [--rows 60000] [--survey alhambra]
    python benchmarks/calibration.py --store STORE

Reads the numbers that the report of a finished job keeps; without `--store`, a job on a simulated
catalogue is run first. For every regression, and in every bin of the reference magnitude with at
least 500 held-out rows, four things are asked: that the 68 % intervals cover 66 to 70 %, the 95 %
intervals 94 to 96 %, that a Kolmogorov-Smirnov test of the PIT passes at the 1 % level, and a pull
width of 0.95 to 1.05. An honest model fails some of them by chance: with 500 rows a coverage of
68 % has a standard error of 2.1 %. What is outside by no more than two of its standard errors is
marked `~`, what is outside by more `x`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

LEAST = 500
# Name, lower and upper bound, name of the standard error.
ASKED = (
    ("coverage68", 0.66, 0.70, "coverage68_error"),
    ("coverage95", 0.94, 0.96, "coverage95_error"),
    ("pull_width", 0.95, 1.05, "pull_width_error"),
)
KS_LEVEL = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--survey", default="alhambra")
    parser.add_argument("--store", type=Path, help="of a job that has run")
    arguments = parser.parse_args()
    if arguments.store:
        show(arguments.store)
        return
    with tempfile.TemporaryDirectory() as temporary:
        job = Path(temporary) / "job.yaml"
        words = {
            "name": "calibration",
            "survey": arguments.survey,
            "source": {"kind": "mock", "rows": arguments.rows, "seed": 12},
            "store": f"{temporary}/store",
            "models": [{"kind": "photometric"}],
        }
        job.write_text(yaml.safe_dump(words), encoding="utf-8")
        subprocess.run([sys.executable, "-m", "galbatch.cli", "run", str(job)], check=True)
        show(Path(temporary) / "store")


def show(store: Path) -> None:
    """Print a table of each model of a store."""
    page = json.loads((store / "report" / "report.json").read_text(encoding="utf-8"))
    outside = bins = 0
    for name, model in page["models"].items():
        for target in (model["evaluation"] or {"targets": []})["targets"]:
            if target["distribution"] is None:
                continue
            print(f"\n{name}: {target['target']}")
            print(f"{'magnitude':>16}{'rows':>8}{'68 %':>9}{'95 %':>9}{'pull':>9}{'KS':>9}{'p':>9}")
            for label, found in cases(target):
                marks = [mark(found, *asked) for asked in ASKED]
                bins += 1
                chance = found["pit_ks_p"]
                failed = chance is not None and chance < KS_LEVEL
                outside += failed or any("x" in one for one in marks)
                cells = "".join(f"{one:>9}" for one in marks)
                test = "" if chance is None else f"{found['pit_ks']:9.3f}{chance:8.3f}"
                print(f"{label:>16}{found['rows']:>8}{cells}{test}{'x' if failed else ''}")
    print(f"\n{outside} of {bins} bins are outside by more than two standard errors somewhere")


def cases(target: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """All rows, and bins of magnitude with enough of them."""
    found = [("all", target["distribution"])]
    for binned in target["honesty"]:
        if binned["by"] != "magnitude":
            continue
        edges = binned["edges"]
        for low, high, one in zip(edges[:-1], edges[1:], binned["bins"], strict=True):
            if one["rows"] >= LEAST:
                found.append((f"{low:.1f} to {high:.1f}", one))
    return found


def mark(found: dict[str, Any], name: str, low: float, high: float, error: str) -> str:
    """A number, and how far it is outside."""
    value = found[name]
    if value is None:
        return "-"
    away = max(low - value, value - high)
    sign = "" if away <= 0 else "~" if away <= 2 * found[error] else "x"
    return f"{value:.3f}{sign}"


if __name__ == "__main__":
    main()
