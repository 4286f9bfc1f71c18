"""Photometric redshifts on real data: `galbatch run zcosmos` beside scikit-learn's ExtraTrees.

    GALBATCH_DATA=... python benchmarks/zcosmos_photoz.py [--store FOLDER]

Both are judged on the same 30 % of the sky, held out by cell. ExtraTrees (200 trees, magnitudes and
neighbouring colours) trains on all other labelled rows, those that galbatch keeps for validation
included.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from sklearn.ensemble import ExtraTreesRegressor

from galbatch.flux.columns import raw_photometry
from galbatch.models.flags import Quality
from galbatch.quality.metrics import outlier_fraction, redshift_residual, sigma_nmad
from galbatch.spec import load_job, load_survey
from galbatch.stages.base import Site
from galbatch.stages.catalogue import finished_catalogue
from galbatch.stages.train import split_of
from galbatch.store.layout import Layout
from galbatch.store.tables import HEALPIX, read_partition
from galbatch.training.labels import labels
from galbatch.training.split import TEST, roles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", help="where the job leaves its store (default: temporary)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        store = arguments.store or f"{temporary}/store"
        overrides = [f"store={store}", f"sinks.0.path={store}.duckdb"]
        command = [sys.executable, "-m", "galbatch.cli", "run", "zcosmos"]
        for override in overrides:
            command += ["--set", override]
        subprocess.run(command, check=True)
        compare(Site(load_job("zcosmos", overrides), load_survey("zcosmos"), Layout(Path(store))))


def compare(site: Site) -> None:
    """Print galbatch's and ExtraTrees' figures on the held-out rows."""
    catalogue = finished_catalogue(site)
    assert catalogue is not None
    name = site.job.models[0].name
    table, predictions = (
        pa.concat_tables(
            [read_partition(site.layout, one, model=model) for one in catalogue.partitions]
        )
        for model in (None, name)
    )
    survey = site.survey
    true = labels(survey, table)["redshift"]
    split = split_of(site.job, survey)
    role = roles(split, table[HEALPIX].to_numpy(), table[survey.id.column].to_numpy())
    inputs = magnitudes_and_colours(raw_photometry(table, survey, survey.band_names).value)
    labelled = np.isfinite(true)
    train, test = labelled & (role != TEST), labelled & (role == TEST)
    forest = ExtraTreesRegressor(200, random_state=0, n_jobs=-1)
    forest.fit(inputs[train], true[train])
    point = predictions["z_mode"].to_numpy()
    seen = np.isfinite(point)
    judged = {
        "ExtraTrees": forest.predict(inputs[test & seen]),
        f"galbatch {name}": point[test & seen],
    }
    no_photometry = (predictions["quality"].to_numpy() & Quality.NO_PHOTOMETRY) != 0
    print(f"\n{survey.title}")
    print(f"{table.num_rows} rows: {seen.sum()} predicted, {no_photometry.sum()} flagged as having")
    print(f"no photometry, {(~seen & ~no_photometry).sum()} neither")
    print(f"trained on {train.sum()} rows, judged on {(test & seen).sum()} held out by sky cell")
    print(f"({(test & ~seen).sum()} held-out rows have no photometry)\n")
    print(f"{'':24}{'sigma_NMAD':>12}{'outliers %':>12}")
    scores = {}
    for label, predicted in judged.items():
        residual = redshift_residual(predicted, true[test & seen])
        scores[label] = sigma_nmad(residual), outlier_fraction(residual)
        print(f"{label:24}{scores[label][0]:12.4f}{100 * scores[label][1]:12.2f}")
    ours, theirs = scores[f"galbatch {name}"], scores["ExtraTrees"]
    print(f"\nratio to ExtraTrees: sigma_NMAD {ours[0] / theirs[0]:.3f}, ", end="")
    print(f"outliers {ours[1] / theirs[1]:.3f} (target: <= 0.0150 and <= 1.1 %)")


def magnitudes_and_colours(magnitudes: np.ndarray) -> np.ndarray:
    """What trees can use: missing magnitudes are put far off, colours of neighbouring bands."""
    seen = (magnitudes > 0) & (magnitudes < 50)
    filled = np.where(seen, magnitudes, 99.0)
    colours = np.where(seen[:, :-1] & seen[:, 1:], np.diff(filled, axis=1), 99.0)
    return np.hstack([filled, colours])


if __name__ == "__main__":
    main()
