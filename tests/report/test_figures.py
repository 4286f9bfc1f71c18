"""Figures that the page's tests do not reach."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np

from galbatch.quality.metrics import point_statistics
from galbatch.report import figures
from galbatch.report.data import LossCurve, SkyPartition
from galbatch.report.style import data_uri

MODEL = ("photometric", "#0072b2")


def test_many_rows_become_a_density() -> None:
    random = np.random.default_rng(0)
    true = random.uniform(0, 1, 5000)
    statistics = point_statistics(true + 0.01, true, redshift=True)
    few = figures.redshift_scatter(true, true + 0.01, statistics, MODEL, 10_000)
    many = figures.redshift_scatter(true, true + 0.01, statistics, MODEL, 1000)
    assert few.axes[0].collections[0].get_offsets().shape[0] == 5000
    assert many.axes[0].collections[0].get_offsets().shape[0] < 5000


def test_absolute_magnitudes_are_bright_to_the_right() -> None:
    true = np.linspace(-22, -18, 50)
    figure = figures.target_scatter(
        "abs_mag_b", true, true, point_statistics(true, true), MODEL, 1000
    )
    left, right = figure.axes[0].get_xlim()
    assert left > right


def test_fields_around_zero_hours_stay_together() -> None:
    partitions = [SkyPartition(str(ra), ra, 0.0, 10) for ra in (359.0, 0.5, 1.0)]
    figure = figures.sky(partitions)
    left, right = figure.axes[0].get_xlim()
    assert left > right
    assert left - right < 5


def test_a_negative_loss_is_drawn() -> None:
    figure = figures.loss_curves([LossCurve("member 1", (1.0, -0.5), (1.1, -0.2))], MODEL)
    assert figure.axes[0].get_yscale() == "linear"


def test_the_same_data_make_the_same_bytes() -> None:
    curve = LossCurve("member 1", (1.0, 0.5), (1.1, 0.7))
    first, second = (data_uri(figures.loss_curves([curve], MODEL)) for _ in range(2))
    assert first == second


def test_settings_elsewhere_stay_as_they_were() -> None:
    before = dict(mpl.rcParams)
    assert data_uri(figures.sky([SkyPartition("a", 1.0, 2.0, 0, True)])).startswith(
        "data:image/svg"
    )
    assert dict(mpl.rcParams) == before
