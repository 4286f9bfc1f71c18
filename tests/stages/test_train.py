"""What a model is trained on, as it comes out of a store."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from small import galbatch, write_job

from galbatch.models.base import read_card
from galbatch.sample.split import TEST, roles
from galbatch.spec import load_job, load_survey
from galbatch.stages import training_rows as stage
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.stages.training_rows import split_of, training_rows
from galbatch.store import tables
from galbatch.store.layout import Layout
from galbatch.training.transfer import Pretrained

ONE_MODEL: dict[str, Any] = {
    "kind": "photometric", "members": 1, "width": 16, "layers": 1, "bins": 40, "epochs": 1,
}  # fmt: skip


def rows_of(folder: Path, monkeypatch: pytest.MonkeyPatch, at_most: int) -> Any:
    monkeypatch.chdir(folder)
    job = load_job("job.yaml", ())
    site = Site(job, load_survey(job.survey), Layout(folder / "store"))
    catalogue = Snapshot(site).catalogue
    assert catalogue is not None
    split = split_of(job, site.survey)
    model = job.models[0].model_copy(update={"max_rows": at_most, "seed": 0})
    found = training_rows(site.layout, site.survey, split, catalogue, model)
    return site, split, found


def test_the_census_is_of_rows_that_are_not_held_out(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "SAMPLE_ROWS", 600)
    site, split, (table, _, census) = rows_of(finished, monkeypatch, 10**6)
    sample = census.sample
    assert 450 < sample.num_rows < 620
    assert "zb_1" not in sample.column_names and "Stellar_Flag" not in sample.column_names
    catalogue = Snapshot(site).catalogue
    assert catalogue is not None
    parts = [tables.read_partition(site.layout, one) for one in catalogue.partitions]
    whole = pa.concat_tables(parts)
    ids = whole["ID"].to_numpy()
    judged = roles(split, whole[tables.HEALPIX].to_numpy(), ids) == TEST
    held_out = ids[judged]
    assert len(held_out) > 100
    assert not np.isin(held_out, sample["ID"].to_numpy()).any()
    assert not np.isin(held_out, table["ID"].to_numpy()).any()
    # The simulated catalogue writes -99 for the redshift of a star, and does not know faint stars.
    no_redshift = (whole["zb_1"].to_numpy() < 0) & (whole["Stellar_Flag"].to_numpy() < 1)
    assert census.refused["redshift"] == int((no_redshift & ~judged).sum()) > 0


def test_rows_do_not_depend_on_how_many_are_read_at_a_time(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, (table, role, census) = rows_of(finished, monkeypatch, 500)
    whole = tables.read_partition

    def few_at_a_time(layout: Layout, partition: Any, columns: Any) -> Any:
        rows = whole(layout, partition, columns)
        return (rows.slice(start, 37) for start in range(0, rows.num_rows, 37))

    monkeypatch.setattr(stage, "read_rows", few_at_a_time)
    _, _, (again, same, other) = rows_of(finished, monkeypatch, 500)
    assert 350 < table.num_rows < 650
    assert again.equals(table) and other.sample.equals(census.sample)
    np.testing.assert_array_equal(same, role)
    assert other.refused == census.refused


def test_a_job_begins_with_a_model_of_another(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "store" / "models" / "photometric", tmp_path / "before")
    words: dict[str, Any] = {
        "source": {"kind": "mock", "rows": 1200, "seed": 3},
        "split": {"kind": "sky", "order": 10, "seed": 7},
        "models": [{**ONE_MODEL, "pretrained": "before", "bands": ["F489W", "F613W", "F814W"]}],
        "sinks": [],
    }
    job = write_job(tmp_path, **words)
    done = galbatch("run", job, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    card = read_card(tmp_path / "store" / "models" / "photometric")
    before = read_card(tmp_path / "before")
    assert [one["survey"] for one in card.training["lineage"]] == ["alhambra", "alhambra"]
    assert card.training["lineage"][0]["fingerprint"] == before.fingerprint
    shown = json.loads(galbatch("status", job, "--json", cwd=tmp_path).stdout)
    notes = [note for row in shown["stages"] for note in row["notes"]]
    assert any("F365W" in note and "read as not observed" in note for note in notes)
    leak = "rows held out here may have taught it"
    assert any(leak in note for note in notes)
    assert any(leak in said for said in card.training["warnings"])
    page = (tmp_path / "store" / "report" / "index.html").read_text(encoding="utf-8")
    assert "alhambra, then alhambra" in page and "read as not observed" in page and leak in page
    # It is needed to train alone.
    (tmp_path / "before").rename(tmp_path / "away")
    for command in ("validate", "run", "report"):
        done = galbatch(command, job, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert command != "run" or "nothing to do" in done.stdout
    done = galbatch("export", job, "pz.hdf5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shown = json.loads(galbatch("status", job, "--json", cwd=tmp_path).stdout)
    assert not any(row["left"] for row in shown["stages"])
    notes = [note for row in shown["stages"] for note in row["notes"]]
    assert any("cannot be trained again" in note and "no model here" in note for note in notes)
    done = galbatch("run", job, "--set", "models.0.epochs=2", cwd=tmp_path)
    assert done.returncode == 2 and "no model here" in done.stderr
    (tmp_path / "away").rename(tmp_path / "before")
    # Another model to begin with is another word.
    weights = Pretrained(before, tmp_path / "before").weights()
    replace(before, libraries={}).sealed(weights).save(tmp_path / "before")
    shown = json.loads(galbatch("status", job, "--json", cwd=tmp_path).stdout)
    left = {row["stage"]: row["left"] for row in shown["stages"]}
    assert left["train"] == 1


def test_what_a_job_cannot_begin_with_is_said_first(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "store" / "models" / "photometric", tmp_path / "before")
    shutil.copytree(tmp_path / "before", tmp_path / "spoilt")
    (tmp_path / "spoilt" / "network.weights.h5").unlink()
    for pretrained, width, message in (
        ("nowhere", 16, "no model here"),
        ("before", 24, "write width: 16"),
        ("spoilt", 16, "there is no such file"),
    ):
        model = ONE_MODEL | {"pretrained": pretrained, "width": width}
        done = galbatch("run", write_job(tmp_path, models=[model]), cwd=tmp_path)
        assert done.returncode == 2 and message in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "store").exists()
