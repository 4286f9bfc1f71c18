"""A few moments of the campaign, and the faults that are no kills."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from faults.campaign import Campaign, Moment, Run, begin_at, contents
from small import galbatch, galbatch_process

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    return Campaign(tmp_path_factory.mktemp("campaign"))


@pytest.fixture
def copy(campaign: Campaign, tmp_path: Path) -> Path:
    """A finished run of one's own."""
    shutil.copytree(campaign.reference, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(Moment("ingest", 0.5, "everything"), marks=pytest.mark.faults),
        Moment("train", 0.6, "driver"),
        Moment("predict", 0.3, "worker"),
    ],
    ids=str,
)
def test_killed_at_a_moment_it_ends_the_same(campaign: Campaign, moment: Moment) -> None:
    assert campaign.at(moment) == ""


@pytest.mark.faults
def test_a_clean_stop_in_training(campaign: Campaign, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    begin_at(campaign.reference, folder, "train")
    run = Run(folder)
    assert run.reach("train")
    assert run.stop() == 130
    assert run.said[-1] == "stopped; run the same command to go on where it was"
    assert not any("Traceback" in line for line in run.said)
    assert run.orphans() == []
    assert Run(folder).wait() == 0
    assert contents(folder) == campaign.expected


def test_lost_and_damaged_files_are_made_again(campaign: Campaign, copy: Path) -> None:
    store = copy / "store"
    predicted = sorted((store / "predictions/photometric").rglob("Npix=*.parquet"))
    predicted[0].unlink()
    predicted[1].write_bytes(predicted[1].read_bytes()[:-500])
    rows = sorted((store / "catalogue").rglob("Npix=*.parquet"))
    rows[2].write_bytes(rows[2].read_bytes()[:-500])
    receipt = next((store / "receipts/predict").glob("thesis.o*.json"))
    receipt.write_text(receipt.read_text().replace('"rows": ', '"rows": 1', 1))
    state = json.loads(galbatch("status", "job.yaml", "--json", cwd=copy).stdout)
    assert state["stages"][0]["stale"] > 0
    assert Run(copy).wait() == 0
    assert contents(copy) == campaign.expected


def test_two_runs_at_once(campaign: Campaign, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    begin_at(campaign.reference, folder, "predict")
    first = Run(folder)
    assert first.reach("predict")
    second = galbatch("run", "job.yaml", cwd=folder)
    assert second.returncode == 2
    (line,) = second.stderr.strip().splitlines()
    assert "another run works on this store (process " in line
    assert first.wait() == 0
    assert contents(folder) == campaign.expected


def test_a_model_changed_between_two_halves_never_mixes(campaign: Campaign, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    begin_at(campaign.reference, folder, "predict")
    run = Run(folder)
    run.kill(Moment("predict", 0, "everything"), 0.05)
    done = galbatch_process(
        "run", "job.yaml", "--set", "models.photometric.dropout=0.1", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    for model in (folder / "store/predictions").iterdir():
        files = list(model.rglob("Npix=*.parquet"))
        found = {pq.read_schema(file).metadata[b"galbatch.fingerprint"] for file in files}
        assert len(found) == 1, model.name
    assert galbatch("verify", "store", cwd=folder).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, check=False, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no 'mount' here")
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_loses_nothing(campaign: Campaign, tmp_path: Path, small_disk: Path) -> None:
    folder = small_disk / "copy"
    begin_at(campaign.reference, folder, "predict")
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space"), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    ballast.write_bytes(bytes(max(ballast.stat().st_size - 200_000, 0)))
    done = galbatch_process("run", "job.yaml", cwd=folder)
    assert done.returncode == 2, done.stderr
    assert "no space left on device" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    ballast.unlink()
    assert Run(folder).wait() == 0
    assert contents(folder) == campaign.expected
