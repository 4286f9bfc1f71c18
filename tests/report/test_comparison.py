"""The comparison table: what is best, and when nothing is."""

from __future__ import annotations

import numpy as np

from galbatch.quality.evaluation import evaluate
from galbatch.report.comparison import ComparisonLine, compare
from galbatch.report.data import ModelReport, Reference, ReportData
from galbatch.values import CLASSES, TARGETS


def _line(data: ReportData, block: str, label: str) -> ComparisonLine:
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


def test_published_numbers_stand_beside_their_own_class() -> None:
    random = np.random.default_rng(1)
    star = random.choice([0.0, 1.0, 2.0], 300, p=[0.6, 0.3, 0.1])
    given = random.dirichlet([1, 1, 1], 300)
    predictions = {f"prob_{name}": given[:, place] for place, name in enumerate(CLASSES)}
    evaluation = evaluate(TARGETS, predictions, {"star": star})
    model = ModelReport("m", "m", "", 300, evaluation=evaluation)
    published = tuple(
        Reference("star", word, value, "somebody")
        for word, value in (("auc", 0.1), ("galaxy_auc", 0.2), ("qso_auc", 0.3))
    )
    (block,) = compare((model,), published)
    shown = {str(line.label): line.references for line in block.lines if line.references}
    assert shown == {
        "AUC": ("0.1000 somebody",),
        "AUC of galaxies against stars and quasars": ("0.2000 somebody",),
        "AUC of quasars": ("0.3000 somebody",),
    }
