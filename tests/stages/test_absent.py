"""Files as an archive gives them: columns that are joined to them are there, or not, or in some."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy.table import Table
from small import job_words
from world import STAGES, Silent

from galbatch.errors import SpecError
from galbatch.models.families import load_model
from galbatch.run.loop import run
from galbatch.run.store import opened
from galbatch.spec import load_survey
from galbatch.spec.job import Job, PhotometricModel, ThesisModel
from galbatch.stages.catalogue import Catalogue
from galbatch.stages.checks import check_sources, source_notes
from galbatch.stages.mock import write_mock
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.stages.training_rows import split_of, training_rows
from galbatch.store.layout import Layout
from galbatch.store.tables import read_partition
from galbatch.training.fit import train

pytestmark = pytest.mark.filterwarnings("ignore:::(tensorflow|keras|tf2onnx)")

SURVEY = load_survey("jpas")
LABELS = ("Z_SPEC", "STAR_LABEL", "LOG_MASS", "SPECTRAL_TYPE", "ABS_MAG_B")
JOINED = ("EBV", *LABELS, "PHOTOZ", "PHOTOZ_ERR", "ODDS", "SGLC_PROB_STAR")
ROWS = 1200
TINY = {"members": 1, "width": 16, "layers": 1, "bins": 40, "epochs": 1, "monte_carlo": 2}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bare`, a table as the archive gives it; `joined`, with labels, without R_EFF and masks."""
    folder = tmp_path_factory.mktemp("archive")
    write_mock(SURVEY, ROWS, 1, folder / "all.fits")
    table = Table.read(folder / "all.fits")
    for name, rows, gone in (
        ("bare", table[: ROWS // 3], JOINED),
        ("joined", table[ROWS // 3 :], ("EBV", "R_EFF", "MASK_FLAGS", *JOINED[6:])),
    ):
        rows.remove_columns(list(gone))
        rows.write(folder / f"{name}.fits")
    (folder / "all.fits").unlink()
    return folder


def site(archive: Path, store: Path, files: str, **model: object) -> Site:
    words = job_words(
        survey="jpas",
        source={"kind": "files", "paths": [f"{archive}/{files}.fits"]},
        store=str(store),
        models=[{"kind": "photometric", **TINY, **model}],
        sinks=[],
    )
    return Site(Job.model_validate(words), SURVEY, Layout(store))


def ingested(place: Site) -> Catalogue:
    with opened(place):
        run(STAGES, place, lambda: nullcontext(None), Silent())
    found = Snapshot(place).catalogue
    assert found is not None
    return found


def test_nothing_to_train_on_is_said_before_anything_is_read(archive: Path, tmp_path: Path) -> None:
    bare = site(archive, tmp_path / "store", "bare")
    for attempt in (lambda: list(check_sources(bare.job, SURVEY)), lambda: ingested(bare)):
        with pytest.raises(SpecError, match=r"no file has a column with labels.*'Z_SPEC', 'STAR"):
            attempt()
    dusty = site(archive, tmp_path / "store", "*", clean={"extinction": True})
    with pytest.raises(SpecError, match="no file has the column 'EBV'"):
        ingested(dusty)
    assert not (tmp_path / "store").exists()


def test_labels_in_one_file_are_enough(archive: Path, tmp_path: Path) -> None:
    place = site(archive, tmp_path / "store", "*")
    facts = list(check_sources(place.job, SURVEY))
    notes = "\n".join(source_notes(place.job, SURVEY, facts))
    assert "no file has 'EBV' (extinction): left out" in notes
    assert "bare.fits, 1 of 2 files, has no 'Z_SPEC' (labels.redshift)" in notes
    assert "has no 'R_EFF' (morphology), 'MASK_FLAGS' (photometry.vectors.mask): no value" in notes
    catalogue = ingested(place)
    assert catalogue.rows == ROWS
    assert "EBV" not in catalogue.facts.columns
    split = split_of(place.job, SURVEY)
    rows, roles, census = training_rows(place.layout, SURVEY, split, catalogue, place.job.models[0])
    whole = pa.concat_tables(read_partition(place.layout, one) for one in catalogue.partitions)
    (spec,) = place.job.models
    assert isinstance(spec, PhotometricModel)
    thesis = ThesisModel(kind="thesis", epochs=1, targets=("redshift",))
    for one, less in ((spec, ("R_EFF", "MASK_FLAGS")), (thesis, ("R_EFF",))):
        folder = tmp_path / one.kind
        train(one, SURVEY, rows, roles, folder, lambda *_: None, census=census)
        model = load_model(folder)
        assert "EBV" not in model.card.inputs
        assert {"R_EFF", "MASK_FLAGS"} <= {*model.card.inputs}
        predicted = model.predict(whole)
        assert predicted.num_rows == ROWS
        assert np.isfinite(predicted["z_mode"].to_numpy()).mean() > 0.9
        # A catalogue that never had them is one whose rows say nothing of them.
        kept = [name for name in whole.column_names if name not in less]
        assert model.predict(whole.select(kept)).num_rows == ROWS
