"""A family that the package does not know goes through all stages like those that it has."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small import REPOSITORY, job_words
from world import Silent

from galbatch.columns import to_numpy
from galbatch.errors import SpecError
from galbatch.models.base import read_card
from galbatch.models.families import FAMILIES, Entry, family_of
from galbatch.plan import plan
from galbatch.run.loop import run
from galbatch.run.store import opened
from galbatch.spec.job import Job
from galbatch.spec.survey import Survey
from galbatch.stages.base import OnProgress, Task
from galbatch.stages.checks import agree
from galbatch.stages.predict import Predict, Work
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store.layout import Layout
from galbatch.store.rows import read_rows
from galbatch.store.verify import verify
from galbatch.values import Receipt

PIXELS, ROWS = 400, 900
RNG = np.random.default_rng(6)
SPECTRA = RNG.normal(np.linspace(1, 3, PIXELS), 0.1, (ROWS, PIXELS)).astype(np.float32)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "toy", Entry("toy_family:ToyFamily", "toy_family:ToyTrainer"))
    # The process of the fit finds it as this one does.
    places = (str(REPOSITORY), str(REPOSITORY / "tests"), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, places)))
    family_of("toy")


@pytest.fixture
def site(toy: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.chdir(tmp_path)
    survey = Survey.model_validate(
        {
            "name": "spectra",
            "title": "Spectra without labels",
            "id": {"column": "id"},
            "bands": [{"name": "b", "wavelength": 5000, "width": 900, "value": "m", "error": "e"}],
            "photometry": {},
            "reference_band": "b",
            "labels": {},
            "columns": [
                *({"name": name} for name in ("id", "m", "e")),
                {"name": "spectrum", "shape": [PIXELS], "dtype": "float32"},
            ],
        }
    )
    columns = {
        "id": np.arange(ROWS), "m": np.full(ROWS, 20.0), "e": np.full(ROWS, 0.1),
        "spectrum": pa.FixedSizeListArray.from_arrays(pa.array(SPECTRA.ravel()), PIXELS),
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "spectra.parquet")
    words = job_words(
        source={"kind": "files", "paths": ["spectra.parquet"]},
        split={"kind": "id"},
        models=[{"kind": "toy"}],
    )
    return Site(Job.model_validate(words), survey, Layout(tmp_path / "store"))


def test_a_family_of_sixty_lines_goes_through_all_stages(site: Site, tmp_path: Path) -> None:
    assert len((REPOSITORY / "tests/toy_family.py").read_text().splitlines()) <= 60
    with opened(site):
        outcome = run(plan(site.job, site.survey), site, lambda: nullcontext(None), Silent())
    assert outcome.left == () and outcome.quarantined == ()
    assert list(verify(site.layout)) == []
    card = read_card(site.layout.model("toy"))
    assert card.kind == "toy" and card.spec["column"] == "spectrum"
    mean = np.load(site.layout.model("toy") / "mean.npy")
    np.testing.assert_allclose(mean, SPECTRA.mean(axis=0), atol=0.05)

    catalogue = Snapshot(site).catalogue
    assert catalogue is not None
    rows = pa.concat_tables(
        table
        for partition in catalogue.partitions
        for table in read_rows(site.layout, partition, ["id", "residual", "chi2"], model="toy")
    )
    assert rows.num_rows == ROWS
    away = SPECTRA[rows["id"].to_numpy()] - mean
    chi2 = (away**2).sum(axis=1)
    np.testing.assert_array_equal(to_numpy(rows["residual"]), away)
    np.testing.assert_allclose(rows["chi2"].to_numpy(), chi2, rtol=1e-6)
    with duckdb.connect(tmp_path / "small.duckdb", read_only=True) as database:
        found = database.execute("SELECT count(*), avg(chi2) FROM toy").fetchone()
    assert found == (ROWS, pytest.approx(float(chi2.mean()), rel=1e-5))
    assert "toy" in (tmp_path / "store/report/index.html").read_text(encoding="utf-8")

    with opened(site):
        again = run(plan(site.job, site.survey), site, lambda: nullcontext(None), Silent())
    assert not again.worked


def test_predictions_that_were_cut_short_are_gone_on_with(site: Site) -> None:
    class Interrupted(BaseException):
        """Somebody pulls the plug."""

    class Few(Predict):
        done = 0

        def run(self, site: Site, task: Task[Work], report: OnProgress) -> tuple[Receipt, ...]:
            if Few.done == 1:
                raise Interrupted
            Few.done += 1
            return super().run(site, task, report)

    def files() -> dict[str, bytes]:
        """The partitions that are there, and their shards."""
        found = [*dataset.rglob("*.parquet"), *site.layout.arrays("toy").rglob("c.*")]
        return {str(path): path.read_bytes() for path in found}

    stages, dataset = plan(site.job, site.survey), site.layout.dataset("toy")
    with opened(site), pytest.raises(Interrupted):
        run((*stages[:3], Few()), site, lambda: nullcontext(None), Silent())
    first = files()
    assert len(first) == 3 and Predict().pending(Snapshot(site)).done == 1
    with opened(site):
        assert run(stages, site, lambda: nullcontext(None), Silent()).left == ()
    assert len(files()) == 9 and first.items() <= files().items()
    assert list(verify(site.layout)) == []


def test_settings_of_a_family_are_its_own_class_to_read(site: Site) -> None:
    (model,) = site.job.models
    assert type(model).__name__ == "ToySettings"
    assert Job.model_validate(site.job.model_dump(mode="json")) == site.job
    labelled = site.job.model_dump(mode="json") | {"models": [{"kind": "photometric"}]}
    with pytest.raises(SpecError, match="nothing to train on"):
        agree(Job.model_validate(labelled), site.survey)
