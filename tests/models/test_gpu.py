"""A GPU predicts what a CPU does. On a machine without TensorFlow, GALBATCH_MODELS names a folder
with trained models for ALHAMBRA, ``photometric`` and ``thesis``: the `models` of a store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from galbatch.arrays import computing_with, device_kind, worker_namespace
from galbatch.columns import to_numpy
from galbatch.mock.observe import mock_batches
from galbatch.models.families import load_model
from galbatch.spec import load_survey

pytestmark = pytest.mark.gpu
ROWS = 20_000
ASKED: dict[str, dict[str, Any]] = {
    "photometric": {"monte_carlo": 8, "redshift_grid": {"low": 0, "high": 3, "points": 301}},
    "thesis": {},
}


@pytest.fixture(scope="module")
def card() -> Any:
    xp = worker_namespace()
    if xp is np:
        pytest.skip("no CUDA device, or cupy is not installed")
    return xp


@pytest.fixture(scope="module")
def models(card: Any, request: pytest.FixtureRequest) -> Path:
    if folder := os.environ.get("GALBATCH_MODELS"):
        return Path(folder)
    pytest.importorskip("tensorflow", reason="no TensorFlow to train with: set GALBATCH_MODELS")
    finished: Path = request.getfixturevalue("finished")
    return finished / "store/models"


@pytest.mark.parametrize("family", ASKED)
def test_a_gpu_predicts_what_a_cpu_does(card: Any, models: Path, family: str) -> None:
    table = pa.concat_tables(mock_batches(load_survey("alhambra"), ROWS, 8, ROWS))
    model = load_model(models / family, **ASKED[family])
    with computing_with(np):
        here = model.predict(table)
    there, again = model.predict(table), model.predict(table)
    assert there.schema == here.schema and device_kind(card).startswith("cuda: ")
    for name in here.column_names:
        cpu, gpu, twice = (to_numpy(one[name]) for one in (here, there, again))
        np.testing.assert_array_equal(twice, gpu, err_msg=name)
        if name == "pz":
            # A density of cells of 0.01 in z: what agrees is the probability in them.
            cpu, gpu = cpu * np.float32(0.01), gpu * np.float32(0.01)
        np.testing.assert_allclose(gpu, cpu, rtol=1e-5, atol=1e-5, err_msg=name)
