import numpy as np
import pytest

from galbatch.models.heads.cells import BODY, fitting_bins, redshift_cells
from galbatch.spec import load_survey
from galbatch.training.capacity import (
    fitting_batch,
    fitting_decay,
    fitting_dropout,
    fitting_epochs,
    fitting_rate,
)

ZETA = np.random.default_rng(5).uniform(0.1, 1.1, 20_000).astype(np.float32)


def test_narrow_bands_get_narrow_cells() -> None:
    narrow, broad = (load_survey(name).bands for name in ("jpas", "zcosmos"))
    bins = fitting_bins(ZETA, narrow)
    low, high, count = redshift_cells(ZETA, bins)
    widths = [band.width / band.wavelength for band in narrow]
    assert 0.09 < (high - low) / count / np.median(widths) < 0.11
    assert fitting_bins(ZETA, broad) == 300
    # Twice the range has twice the cells, up to a limit: a few labels far off change nothing.
    assert fitting_bins(2 * ZETA, narrow) == pytest.approx(2 * bins, abs=2)
    assert fitting_bins(20 * ZETA, narrow) == 900
    far = np.append(ZETA, np.float32(9.0))
    assert 100 - BODY[1] > 100 / far.size
    assert fitting_bins(far, narrow) == pytest.approx(bins, abs=2)


def test_many_rows_are_shown_less_often() -> None:
    epochs = [fitting_epochs(rows) for rows in (100, 60_000, 400_000, 10**7)]
    assert epochs == [40, 40, 20, 10]
    assert fitting_dropout(100) > fitting_dropout(400_000) > 0
    assert fitting_batch(100) == 256 < fitting_batch(400_000)
    assert fitting_rate(1e-3, 1024) == 2 * fitting_rate(1e-3, 256) == 2e-3


def test_weight_decay_of_a_fit_grows_as_the_root_of_its_steps() -> None:
    assert fitting_decay(0.3, 100) == fitting_decay(0.3, 3000) == 0.3
    for steps in (6000, 48_000):
        assert steps * fitting_decay(0.3, steps) == pytest.approx(0.3 * np.sqrt(3000 * steps))
