"""Which version of a model the job's words call for, whatever is damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from small import galbatch, partitions, write_job
from world import site_of

from galbatch.mock.observe import mock_batches
from galbatch.spec import load_survey
from galbatch.stages.state import Snapshot

MODEL = {"kind": "photometric", "members": 1, "width": 8, "layers": 1, "epochs": 1}


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job on one file, that has run; a second file is there."""
    folder = tmp_path_factory.mktemp("versions")
    first, second = mock_batches(load_survey("alhambra"), 1200, 3, 800)
    (folder / "src").mkdir()
    pq.write_table(first, folder / "src" / "a.parquet")
    pq.write_table(second, folder / "b.parquet")
    source = {"kind": "files", "paths": ["src/*.parquet"]}
    write_job(folder, source=source, models=[MODEL], sinks=[])
    done = galbatch("run", "job.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def copy(once: Path, tmp_path: Path) -> Path:
    shutil.copytree(once, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_lost_network_on_a_grown_catalogue_becomes_a_version_of_its_own(copy: Path) -> None:
    shutil.move(copy / "b.parquet", copy / "src" / "b.parquet")
    assert galbatch("run", "job.yaml", cwd=copy).returncode == 0
    before = {path: path.read_bytes() for path in partitions(copy, "predictions/photometric")}
    (copy / "store/models/photometric/network.onnx").unlink()
    done = galbatch("run", "job.yaml", cwd=copy)
    assert done.returncode == 0, done.stderr
    assert before == {p: p.read_bytes() for p in partitions(copy, "predictions/photometric")}
    assert len(partitions(copy, "predictions/photometric_v2")) == len(before)
    assert Snapshot(site_of(copy)).versions.current(site_of(copy).job.models[0]) == "photometric_v2"


def test_a_lost_network_on_the_same_catalogue_comes_back(copy: Path) -> None:
    before = {path: path.read_bytes() for path in partitions(copy, "predictions/photometric")}
    network = copy / "store/models/photometric/network.onnx"
    bytes_ = network.read_bytes()
    network.unlink()
    assert galbatch("run", "job.yaml", cwd=copy).returncode == 0
    assert network.read_bytes() == bytes_
    assert before == {p: p.read_bytes() for p in partitions(copy, "predictions/photometric")}


def test_a_damaged_receipt_does_not_bring_back_an_earlier_version(copy: Path) -> None:
    layout = site_of(copy).layout
    # A version of the same words, as `run --retrain` makes one.
    shutil.copytree(layout.model("photometric"), layout.model("photometric_v2"))
    page = json.loads(layout.receipt("train", "photometric").read_text())
    page["receipt"]["unit"] = "photometric_v2"
    layout.receipt("train", "photometric_v2").write_text(json.dumps(page))  # no valid checksum
    site = site_of(copy)
    assert Snapshot(site).versions.current(site.job.models[0]) == "photometric_v2"
