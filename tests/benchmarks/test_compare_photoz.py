"""The comparison with other codes: what is exchanged with them, and how they are judged."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small import REPOSITORY

from galbatch.models.pdf import QUANTILES
from galbatch.spec import load_survey
from galbatch.spec.survey import Survey

ROWS = 400


def script(path: str) -> ModuleType:
    name = Path(path).stem
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", REPOSITORY / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def compare() -> ModuleType:
    return script("benchmarks/compare_photoz.py")


@pytest.fixture(scope="module")
def peers() -> ModuleType:
    return script("benchmarks/peers/photoz.py")


@pytest.fixture(scope="module")
def survey() -> Survey:
    return load_survey("lsst_dc2")


@pytest.fixture(scope="module")
def held(compare: ModuleType, survey: Survey):  # type: ignore[no-untyped-def]
    """Rows with every kind of missing band, of which a third are judged."""
    rng = np.random.default_rng(1)
    columns = {"id": np.arange(ROWS), "redshift": rng.gamma(3.0, 0.3, ROWS)}
    for band in survey.bands:
        columns[str(band.value)] = rng.uniform(20.0, 26.0, ROWS)
        columns[str(band.error)] = rng.uniform(0.01, 0.2, ROWS)
    columns["mag_u_lsst"][:3] = 99.0, np.nan, 24.0
    columns["mag_err_u_lsst"][:3] = 26.6, 0.1, -1.0
    test = np.arange(ROWS) % 3 == 0
    return compare.Held(pa.table(columns), columns["redshift"], ~test, test)


def test_magnitudes_are_said_in_one_way(compare: ModuleType, survey: Survey, held) -> None:  # type: ignore[no-untyped-def]
    value, error = compare.magnitudes(held.table, survey)
    assert value[0, 0] == 99.0 and error[0, 0] == pytest.approx(26.6)
    assert np.isnan(value[1, 0]) and np.isnan(error[1, 0])
    assert value[2, 0] == 24.0 and np.isnan(error[2, 0])
    assert np.isfinite(value[3:]).all() and np.isfinite(error[3:]).all()


def test_a_trivial_peer_is_asked_and_judged(
    compare: ModuleType,
    survey: Survey,
    held,  # type: ignore[no-untyped-def]
    tmp_path: Path,
) -> None:
    compare.exchange(held, survey, {}, tmp_path)
    assert "redshift" not in pq.read_schema(tmp_path / "test.parquet").names
    answer = compare.asked("trainz", tmp_path, [sys.executable])
    trained = held.true[held.train]
    assert set(answer.points) == {"median", "mean"}
    assert answer.points["median"] == pytest.approx(np.full(held.test.sum(), np.median(trained)))
    assert answer.quantiles[0] == pytest.approx(np.quantile(trained, QUANTILES), rel=1e-5)
    assert answer.rate > 0 and "numpy" in answer.note
    scores, draws = compare.judge({"trainz": answer}, held.true[held.test], 3.0)
    score = scores["trainz"]
    # The redshifts of the same population: honest, and of no use.
    assert score.pit_ks < 2 * score.pit_ks_5percent
    assert 0.5 < score.coverage68 < 0.8
    assert score.sigma_nmad > 0.1 and score.missing == 0
    assert np.isnan(score.cde_loss_grid)
    assert draws["trainz"].shape == (compare.SAMPLES, 5)
    assert draws["trainz"][:, 0].std() > 0
    assert "trainz" in compare.table_of(scores)


def test_a_peer_that_cannot_be_run_says_why(
    compare: ModuleType,
    survey: Survey,
    held,  # type: ignore[no-untyped-def]
    tmp_path: Path,
) -> None:
    compare.exchange(held, survey, {}, tmp_path)
    with pytest.raises(compare.PeerError, match="no_such_code"):
        compare.asked("no_such_code", tmp_path, [sys.executable])


def test_a_density_on_a_grid_becomes_quantiles(peers: ModuleType) -> None:
    facts = {"bands": [], "highest": 2.0, "levels": list(QUANTILES)}
    centre, sigma = np.array([[0.7], [1.2], [0.5]]), 0.05
    norm = np.array([[1.0], [7.0], [0.0]])
    rows = peers.Rows(np.empty((3, 0)), np.empty((3, 0)), np.full(3, np.nan), facts)
    summary = peers.from_grid(
        lambda grid: norm * np.exp(-0.5 * ((grid - centre) / sigma) ** 2), rows
    )
    expected = centre[:2, 0] + sigma * np.array([[-0.994458], [0.0], [0.994458]])
    found = summary.quantiles[:2, [QUANTILES.index(level) for level in (0.16, 0.5, 0.84)]]
    np.testing.assert_allclose(found.T, expected, atol=1e-3)
    assert summary.mode[:2] == pytest.approx(centre[:2, 0], abs=2e-3)
    assert summary.density[:2].sum(axis=1) * 2.0 / 300 == pytest.approx([1.0, 1.0], abs=1e-3)
    assert np.isnan(summary.quantiles[2]).all() and np.isnan(summary.mode[2])


def test_zero_points_are_found(peers: ModuleType) -> None:
    rng = np.random.default_rng(2)
    grid = np.linspace(0.0, 1.0, 11)
    templates = 10.0 ** rng.normal(0.0, 0.3, (11, 5, 4))
    z, kind = rng.integers(0, 11, 500), rng.integers(0, 5, 500)
    wrong = np.array([0.2, 0.0, -0.1, 0.05])
    magnitude = 22.0 - 2.5 * np.log10(templates[z, kind]) + wrong + rng.normal(0, 0.01, (500, 4))
    magnitude[:50, 3] = np.nan
    facts = {"bands": [{"name": name} for name in "abcd"], "reference": "b"}
    rows = peers.Rows(magnitude, np.full((500, 4), 0.01), grid[z], facts)
    assert peers.zero_points(rows, templates, grid) == pytest.approx(wrong, abs=0.02)


def test_cde_loss_on_a_grid_is_that_of_the_density(compare: ModuleType) -> None:
    # Uniform over [0, 2]: int p^2 = 1/2, p(true) = 1/2 inside and 0 beyond.
    loss = compare.grid_cde_loss(np.array([0.3, 2.5]), np.full((2, 301), 0.5), 2.0)
    assert loss == pytest.approx([0.5 - 1.0, 0.5])


def test_targets_say_what_falls_short(compare: ModuleType) -> None:
    rng = np.random.default_rng(3)
    true = rng.uniform(0.2, 1.2, 2000)
    answers = {}
    for name, width in (("galbatch", 0.02), ("flexzboost", 0.04), ("extratrees", 0.021)):
        point = true + width * rng.standard_normal(2000)
        spread = width * np.array([-2.6, -1.96, -1.64, -1.28, -1, -0.67, -0.32, 0])
        shifts = np.concatenate([spread, -spread[-2::-1]])
        answers[name] = compare.Answer({"mode": point}, point[:, None] + shifts, rate=100.0)
    scores, draws = compare.judge(answers, true, 2.0)
    lines = compare.targets(compare.Catalogue("job"), scores, draws)
    by_words = {line.split("  ")[0]: line for line in lines}
    # 5 % better than the best peer is not 10 %.
    assert "FALLS SHORT" in by_words["sigma_NMAD, ratio to the best learned peer (extratrees)"]
    assert "holds" in by_words["CRPS, less that of flexzboost"]
    assert "FALLS SHORT" in by_words["rows/s/core, ratio to flexzboost"]
    json.dumps([vars(one) for one in scores.values()])
