"""Stars and galaxies beyond the reach of their labels, with and without `fainter`.

    python benchmarks/faint_classes.py [--rows 60000] [--epochs 10]

ALHAMBRA tells stars from galaxies down to F814W = 22.5 and its catalogue goes on to 25. A simulated
ALHAMBRA sky is trained on as the survey would label it, and judged with the truth that it was made
from: rows of the held-out 30 %, by magnitude.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.flux.bands import reference_magnitude
from galbatch.mock.observe import UNKNOWN_STAR, mock_batches
from galbatch.models.families import load_model
from galbatch.quality.classes import class_statistics
from galbatch.sample.split import TEST, roles
from galbatch.spec import load_survey
from galbatch.spec.job import IdSplit, PhotometricModel
from galbatch.training.fit import train

LIMIT = 22.5
EDGES = (17.0, 21.5, LIMIT, 23.0, 23.5, 24.0, 24.5, 26.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()
    survey = load_survey("alhambra")
    assert survey.mock is not None
    told = survey.mock.model_copy(update={"star_flag_limit": None})
    sky = pa.concat_tables(
        mock_batches(survey.model_copy(update={"mock": told}), arguments.rows, 7, 65_536)
    )
    star = sky["Stellar_Flag"].to_numpy()
    magnitude = reference_magnitude(survey, sky)
    flag = np.where(magnitude < LIMIT, star, UNKNOWN_STAR).astype(np.float32)
    place = sky.schema.get_field_index("Stellar_Flag")
    labelled = sky.set_column(place, "Stellar_Flag", pa.array(flag))
    role = roles(IdSplit(test=0.3), None, sky["ID"].to_numpy())
    held_out = role == TEST
    judged = sky.filter(pa.array(held_out))
    found: dict[float, NDArray[np.float64]] = {}
    for fainter in (0.0, 1.0):
        spec = PhotometricModel(
            kind="photometric",
            members=2,
            width=128,
            layers=3,
            epochs=arguments.epochs,
            batch=512,
            fainter=fainter,
        )
        with tempfile.TemporaryDirectory() as folder:
            train(spec, survey, labelled, role, Path(folder), lambda *_: None)
            predicted = load_model(Path(folder)).predict(judged)
        found[fainter] = predicted["prob_star"].to_numpy().astype(np.float64)
    report(found, star[held_out], magnitude[held_out])


def report(
    found: dict[float, NDArray[np.float64]], star: NDArray[np.float64], at: NDArray[np.float64]
) -> None:
    heads = ("stars", "mean P", "AUC", "accuracy", "cal. error")
    print(f"{'F814W':>12}{'fainter':>9}" + "".join(f"{head:>12}" for head in heads))
    bins = [*itertools.pairwise(EDGES), (LIMIT, EDGES[-1])]
    for low, high in bins:
        there = (at >= low) & (at < high)
        for fainter, said in found.items():
            one = class_statistics(said[there], star[there])
            numbers = (
                star[there].mean(), said[there].mean(), one.auc, one.accuracy, one.calibration_error
            )  # fmt: skip
            row = "".join(f"{number:12.4f}" for number in numbers)
            print(f"{low:6.1f}-{high:5.1f}{fainter:9g}{row}")


if __name__ == "__main__":
    main()
