"""Whose noise and gaps simulated mixtures have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from galbatch.columns import to_numpy
from galbatch.spectra.components import SpectralComponents
from galbatch.spectra.grids import LogGrid
from galbatch.training.mixture_rows import patterns_of

GRID = LogGrid(3.6, 1e-4, 200)
ROWS = 1500


class Rows:
    """Flat spectra whose level of noise is the number of the row."""

    def read(self, table: pa.Table, rest: LogGrid) -> tuple[Any, Any, Any]:
        number = to_numpy(table["number"]).astype(float)
        flux = np.ones((len(number), rest.points))
        return flux, np.repeat((number[:, None] > 0) * 100.0, rest.points, axis=1), number

    def redshifts(self, table: pa.Table) -> Any:
        return to_numpy(table["number"]) / 10_000.0


def test_rows_are_drawn_from_all_with_the_ends_of_their_redshifts() -> None:
    flat = np.ones((3, GRID.points), np.float32) + np.eye(3, GRID.points, dtype=np.float32)
    components = SpectralComponents.of(flat, GRID, 2)
    table = pa.table({"number": np.arange(ROWS)})
    reader: Any = Rows()
    one, again, other = (patterns_of(table, reader, components, None, seed) for seed in (1, 1, 2))
    assert one is not None and again is not None and other is not None
    assert len(one.redshift) == len(np.unique(one.redshift)) == len(one.variance) == 64
    assert one.redshifts == (1e-4, 0.1499)  # the first row has no data
    assert 0.05 < np.median(one.redshift) < 0.1 and len(one.levels) == ROWS - 1
    np.testing.assert_array_equal(one.redshift, again.redshift)
    assert not np.array_equal(one.redshift, other.redshift)
    assert patterns_of(table.slice(0, 1), reader, components, None, 1) is None
