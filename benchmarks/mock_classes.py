"""Star, galaxy or quasar on a simulated J-PAS sky: from photometry alone, and with morphology.

    python benchmarks/mock_classes.py [--rows 60000] [--epochs 40] [--store FOLDER]

Two models of the default family, one without the morphology columns, judged on the same held-out
sky cells, by magnitude of the reference band. Beside them stand the areas under the ROC curve that
were published for miniJPAS (Baqui et al. 2021, A&A 645, A87, real objects and so other ones than
these): 0.957 from photometry alone and 0.986 with morphology, for galaxies against all that is
point-like, quasars included. They are quoted from memory.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml

from galbatch.flux.bands import reference_magnitude
from galbatch.quality.classes import class_statistics, multiclass_statistics, star_against_galaxy
from galbatch.sample.labels import labels
from galbatch.sample.split import TEST, roles
from galbatch.spec import load_job, load_survey
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.stages.training_rows import split_of
from galbatch.store.layout import Layout
from galbatch.store.tables import HEALPIX, read_partition
from galbatch.values import CLASSES

PUBLISHED = {"photometry": 0.957, "morphology": 0.986}
EDGES = (16.0, 19.0, 20.0, 21.0, 22.0, 22.5, 23.0, 23.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--store", help="where the job leaves its store (default: temporary)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        store = Path(arguments.store or f"{temporary}/store")
        job = Path(temporary) / "classes.yaml"
        job.write_text(yaml.safe_dump(words(arguments.rows, arguments.epochs, store)))
        subprocess.run([sys.executable, "-m", "galbatch.cli", "run", str(job)], check=True)
        compare(Site(load_job(str(job)), load_survey("jpas"), Layout(store)))


def words(rows: int, epochs: int, store: Path) -> dict[str, object]:
    """The job."""
    return {
        "name": "classes",
        "survey": "jpas",
        "source": {"kind": "mock", "rows": rows, "seed": 11},
        "store": str(store),
        "models": [
            {"kind": "photometric", "name": name, "morphology": name == "morphology",
             "targets": ["redshift", "star"], "epochs": epochs}
            for name in PUBLISHED
        ],
        "cluster": {"kind": "serial"},
    }  # fmt: skip


def compare(site: Site) -> None:
    """Print both models' figures on the held-out rows, by magnitude."""
    catalogue = Snapshot(site).catalogue
    assert catalogue is not None
    survey = site.survey
    table, *predictions = (
        pa.concat_tables(
            [read_partition(site.layout, one, model=model) for one in catalogue.partitions]
        )
        for model in (None, *PUBLISHED)
    )
    split = split_of(site.job, survey)
    role = roles(split, table[HEALPIX].to_numpy(), table[survey.id.column].to_numpy())
    true = np.where(role == TEST, labels(survey, table)["star"], np.nan)
    magnitude = reference_magnitude(survey, table)
    print(f"\n{survey.title}: {int(np.isfinite(true).sum())} rows held out by sky cell")
    print(
        f"{survey.reference_band:>12} {'':11}{'rows':>7}{'stars':>7}{'qso':>6}{'AUC gal':>9}"
        f"{'ECE gal':>9}{'AUC s/g':>9}{'ECE s/g':>9}{'acc. 3':>8}{'AUC qso':>9}{'compl.':>8}"
        f"{'purity':>8}{'ECE qso':>9}"
    )
    bins = [(EDGES[0], EDGES[-1]), *pairwise(EDGES)]
    for low, high in bins:
        inside = (magnitude >= low) & (magnitude < high)
        for name, predicted in zip(PUBLISHED, predictions, strict=True):
            columns = {f"prob_{one}": predicted[f"prob_{one}"].to_numpy() for one in CLASSES}
            print(f"{low:5.1f} - {high:4.1f} {name:11}{line(columns, true, inside)}")
    print("\npublished for miniJPAS, AUC of galaxies (from memory): ", end="")
    print(", ".join(f"{name} {value}" for name, value in PUBLISHED.items()))


def line(columns: dict[str, np.ndarray], true: np.ndarray, inside: np.ndarray) -> str:
    """Figures of one model in one bin."""
    some = {name: values[inside] for name, values in columns.items()}
    two = class_statistics(*star_against_galaxy(some, true[inside]))
    stacked = np.stack([some[f"prob_{one}"] for one in CLASSES], axis=1)
    three = multiclass_statistics(stacked, true[inside], CLASSES)
    galaxies, stars, quasars = three.rows
    return (
        f"{galaxies + stars + quasars:7d}{stars:7d}{quasars:6d}{three.of('galaxy', 'auc'):9.4f}"
        f"{three.of('galaxy', 'calibration_error'):9.4f}{two.auc:9.4f}"
        f"{two.calibration_error:9.4f}{three.accuracy:8.4f}{three.of('qso', 'auc'):9.4f}"
        f"{three.of('qso', 'completeness'):8.3f}{three.of('qso', 'purity'):8.3f}"
        f"{three.of('qso', 'calibration_error'):9.4f}"
    )


if __name__ == "__main__":
    main()
