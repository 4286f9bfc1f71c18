"""The ensemble that others' tools read has the distributions that the store has."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import qp
from small import galbatch

from galbatch.models.pdf import QUANTILES

# tables_io and qp tell of what they deprecate in each other.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A small job that has run, and may be changed."""
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    return folder


def test_an_ensemble_of_every_row(copy: Path) -> None:
    done = galbatch("export", "job.yaml", "pz.hdf5", cwd=copy)
    assert done.returncode == 0, done.stderr
    ensemble = qp.read(str(copy / "pz.hdf5"))
    stored = pd.read_parquet(copy / "store/predictions/photometric/dataset").set_index("ID")
    stored = stored[np.isfinite(stored["z_mode"])]
    assert ensemble.npdf == len(stored)
    rows = stored.loc[np.asarray(ensemble.ancil["ID"])]
    np.testing.assert_allclose(np.ravel(ensemble.ancil["z_mode"]), rows["z_mode"], rtol=1e-6)
    median = np.ravel(ensemble.ppf(0.5))
    np.testing.assert_allclose(median, rows["z_median"], atol=2e-3)
    wanted = np.stack(rows["z_quantiles"].to_list())
    low = np.ravel(ensemble.ppf(0.16))
    np.testing.assert_allclose(low, wanted[:, QUANTILES.index(0.16)], atol=2e-3)
    assert not list(copy.glob(".pz*"))


def test_nothing_is_replaced_unasked(copy: Path) -> None:
    (copy / "pz.hdf5").write_text("mine")
    done = galbatch("export", "job.yaml", "pz.hdf5", cwd=copy)
    assert done.returncode == 2 and "--force" in done.stderr
    assert (copy / "pz.hdf5").read_text() == "mine"
    assert galbatch("export", "job.yaml", "pz.hdf5", "--force", cwd=copy).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pz.fits"], "ends with .hdf5"),
        (["pz.hdf5", "--model", "photometrix"], "did you mean 'photometric'?"),
    ],
)
def test_mistakes_are_told(copy: Path, arguments: list[str], said: str) -> None:
    done = galbatch("export", "job.yaml", *arguments, cwd=copy)
    assert done.returncode == 2 and said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
