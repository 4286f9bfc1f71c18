"""Maps: what they keep of their rows, and that nothing depends on how rows are cut."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from galbatch.maps.clusters import cluster_centres, diagnose
from galbatch.maps.som import RowPart, Som, fit_som, narrowing, scaling_of, sums_by_cell

WIDTHS = narrowing(2.0, 0.4, 12).tolist()


def sheet(rows: int = 3000, seed: int = 1) -> NDArray[np.float32]:
    """A bent sheet in seven dimensions."""
    u, v = np.random.default_rng(seed).uniform(-1, 1, (2, rows))
    found = [u, v, u * v, np.sin(2 * u), np.cos(2 * v), 0.1 * u, 0.2 * v]
    return np.stack(found, axis=1).astype(np.float32)


def cut_into(rows: NDArray[np.float32], many: int) -> list[RowPart]:
    return [lambda part=part: np.array_split(part, 2) for part in np.array_split(rows, many)]


@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_the_map_is_the_same_however_rows_are_cut(cut: int) -> None:
    rows = sheet()
    whole = fit_som([lambda: [rows]], (5, 4), widths=WIDTHS)
    parts = fit_som(cut_into(rows, cut), (5, 4), widths=WIDTHS)
    np.testing.assert_allclose(parts.cells, whole.cells, atol=1e-4)
    np.testing.assert_array_equal(parts.nearest(rows)[0], whole.nearest(rows)[0])


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_map_has_the_same_bytes_whoever_does_the_parts(threads: int) -> None:
    rows = sheet()
    plane = np.eye(2, 7)
    whole = fit_som(cut_into(rows, 9), (5, 4), widths=WIDTHS, plane=plane)
    with ThreadPoolExecutor(threads) as pool:
        found = fit_som(cut_into(rows, 9), (5, 4), widths=WIDTHS, plane=plane, each=pool.map)
    assert found.cells.tobytes() == whole.cells.tobytes()


def test_errors_of_parts_add_up() -> None:
    rows = sheet()
    som = fit_som([lambda: [rows]], (5, 4), widths=WIDTHS)
    whole, parts = som.errors([rows]), som.errors([rows[:700]]) + som.errors([rows[700:]])
    assert parts.rows == whole.rows and (parts.hits == whole.hits).all()
    assert parts.quantisation == pytest.approx(whole.quantisation)
    assert parts.topographic == pytest.approx(whole.topographic)


def test_a_sheet_is_unfolded() -> None:
    rows = sheet()
    som = fit_som([lambda: [rows]], (8, 8), widths=WIDTHS)
    errors = som.errors([sheet(seed=2)])
    assert errors.rows == 3000 == errors.hits.sum()
    assert errors.topographic < 0.1 and (errors.hits > 0).mean() > 0.9
    spread = np.linalg.norm(rows - rows.mean(axis=0), axis=1).mean()
    assert errors.quantisation < spread / 4


def test_nearest_cells_are_those_of_a_plain_loop() -> None:
    rows = sheet(50).astype(np.float64)
    cells = sheet(12, seed=3).astype(np.float64)
    som = Som((4, 3), cells)
    first, second, distance = som.nearest(rows)
    for row, values in enumerate(rows):
        away = [float(np.linalg.norm(values - cell)) for cell in cells]
        order = np.argsort(away)
        assert (first[row], second[row]) == tuple(order[:2])
        assert distance[row] == pytest.approx(min(away))
    sums, counts = sums_by_cell(rows, cells)
    for cell in range(12):
        np.testing.assert_allclose(sums[cell], rows[first == cell].sum(axis=0), rtol=1e-5)
        assert counts[cell] == (first == cell).sum()


def test_neighbours_touch_by_side_or_corner() -> None:
    places = np.stack(np.unravel_index(np.arange(12), (4, 3)), axis=1).astype(float)
    som = Som((4, 3), places)
    u_matrix = som.u_matrix()
    corner = (1 + 1 + np.sqrt(2)) / 3
    assert u_matrix.shape == (4, 3) and u_matrix[0, 0] == pytest.approx(corner)
    # Its two nearest cells are side by side, for every row between them.
    assert som.errors([places + 0.1]).topographic == 0


def test_scaled_rows_have_the_same_spread_everywhere() -> None:
    rows = sheet() * np.array([1, 30, 1, 1e-2, 1, 1, 1], np.float32)
    scaling = scaling_of(np.array_split(rows, 5))
    scaled = scaling(rows)
    assert scaled.shape[1] == 5  # two columns are multiples of others
    np.testing.assert_allclose(np.cov(scaled, rowvar=False), np.eye(5), atol=2e-2)
    with pytest.raises(ValueError, match="needs rows"):
        scaling_of([])


@pytest.mark.parametrize("scale", [1e-17, 1e-3, 1e12])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_neither_units_nor_offsets_change_what_a_map_sees(scale: float, offset: float) -> None:
    rows = sheet().astype(np.float64)
    expected = np.abs(scaling_of([rows])(rows))
    moved = rows.copy()
    moved[:, 1] = (moved[:, 1] + offset) * scale
    found = scaling_of(np.array_split(moved, 7))
    assert found.matrix.shape[1] == 5
    np.testing.assert_allclose(np.abs(found(moved)), expected, atol=1e-3)


def test_clusters_that_are_there_are_found() -> None:
    rng = np.random.default_rng(5)
    middles = np.array([[0, 0], [8, 0], [0, 8]])
    sizes = (300, 200, 100)
    groups = [rng.normal(one, 0.5, (size, 2)) for one, size in zip(middles, sizes, strict=True)]
    rows = np.concatenate(groups)
    np.testing.assert_allclose(cluster_centres(rows, 3, 0), middles, atol=0.2)
    tried = diagnose(rows, range(2, 6), 0)
    assert max(tried, key=lambda one: one.silhouette).k == 3
    assert tried[1].stability == pytest.approx(1.0)
