"""The comparison table: what is best, and when nothing is."""

from __future__ import annotations

import numpy as np

from galbatch.quality.evaluation import evaluate
from galbatch.report.comparison import Line, compare
from galbatch.report.data import ModelReport, Reference, ReportData
from galbatch.values import TARGETS


def _line(data: ReportData, block: str, label: str) -> Line:
    blocks = {one.title: one for one in compare(data.models, data.references)}
    return next(line for line in blocks[block].lines if str(line.label).startswith(label))


def test_the_better_model_is_marked(full_report: ReportData) -> None:
    line = _line(full_report, "Redshift", "σ<sub>NMAD</sub>")
    assert [cell.best for cell in line.cells] == [True, False]
    assert all(cell.error.startswith("±") for cell in line.cells)
    assert line.references == ("0.0140 ALHAMBRA BPZ2, 22.5 < I < 24.5",)
    assert line.goal == "low is good"


def test_a_lead_within_the_errors_is_not_marked(full_report: ReportData) -> None:
    line = _line(full_report, "Spectral type", "bias")
    assert not any(cell.best for cell in line.cells)


def test_a_number_that_only_one_model_has_is_not_marked(full_report: ReportData) -> None:
    line = _line(full_report, "Redshift", "CRPS")
    assert [cell.best for cell in line.cells] == [False, False]
    assert line.cells[1].text == "–"


def test_best_is_nearest_to_one_for_slopes() -> None:
    true = np.random.default_rng(0).normal(10, 1, 300)
    models = tuple(
        ModelReport(
            name,
            name,
            "",
            300,
            evaluation=evaluate(
                TARGETS, {"log_mass": 10 + factor * (true - 10)}, {"log_mass": true}
            ),
        )
        for name, factor in (("steep", 1.4), ("near", 0.9))
    )
    data = ReportData(job="j", survey="s", version="0", models=models)
    line = _line(data, "Stellar mass", "slope")
    assert [cell.best for cell in line.cells] == [False, True]
    assert line.goal == "1 is good"


def test_targets_that_nobody_predicts_are_left_out(full_report: ReportData) -> None:
    bare = tuple(ModelReport(model.name, "", "", 0) for model in full_report.models)
    reference = Reference("redshift", "sigma_nmad", 0.01, "somebody")
    assert compare(bare, (reference,)) == ()
