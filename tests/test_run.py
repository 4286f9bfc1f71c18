"""The whole path on a small simulated sky."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from astropy.table import Table
from small import REPOSITORY, ROWS, galbatch, galbatch_process, partitions, write_job

from galbatch.store.commit import digest_file


def test_every_row_is_predicted_once(finished: Path) -> None:
    ids = pd.concat(pd.read_parquet(p)["ID"] for p in partitions(finished, "catalogue"))
    assert len(ids) == ROWS
    for model in ("photometric", "thesis"):
        frames = [pd.read_parquet(p) for p in partitions(finished, f"predictions/{model}")]
        predicted = pd.concat(frames)
        assert sorted(predicted["ID"]) == sorted(ids)
        usable = (predicted["quality"] & 1) == 0
        assert usable.mean() > 0.99
        for column in ("z_mode", "prob_star", "log_mass", "spectral_type", "abs_mag_b"):
            assert np.isfinite(predicted.loc[usable, column]).all(), (model, column)


def test_predictions_carry_unit_ucd_and_fingerprint(finished: Path) -> None:
    card = json.loads((finished / "store/models/photometric/card.json").read_text())
    for path in partitions(finished, "predictions/photometric"):
        schema = pq.read_schema(path)
        assert schema.field("z_mode").metadata[b"ucd"] == b"src.redshift.phot;meta.main"
        assert schema.field("abs_mag_b").metadata[b"unit"] == b"mag"
        assert schema.field("RA").metadata[b"unit"] == b"deg"
        assert schema.metadata[b"galbatch.fingerprint"].decode() == card["fingerprint"]


def test_the_database_has_every_row_once(finished: Path) -> None:
    with duckdb.connect(str(finished / "small.duckdb"), read_only=True) as database:
        for model in ("photometric", "thesis"):
            found = database.execute(f'SELECT count(*), count(DISTINCT "ID") FROM {model}')
            assert found.fetchone() == (ROWS, ROWS)


def test_the_report_tells_what_happened(finished: Path) -> None:
    page = (finished / "store/report/index.html").read_text(encoding="utf-8")
    counted = f"{ROWS:,}".replace(",", "\u202f")
    for word in ("photometric", "thesis", "σ", "held out", "simulated", counted):
        assert word in page
    numbers = json.loads((finished / "store/report/report.json").read_text())
    assert numbers["rows"] == {"read": ROWS, "rejected": 0, "ingested": ROWS}
    for model in ("photometric", "thesis"):
        targets = {t["target"] for t in numbers["models"][model]["evaluation"]["targets"]}
        assert targets == {"redshift", "star", "log_mass", "spectral_type", "abs_mag_b"}


def test_a_second_run_finds_nothing_to_do(finished: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (finished / "store").rglob("*") if p.is_file()}
    done = galbatch("run", "job.yaml", cwd=finished)
    assert done.returncode == 0
    assert "nothing to do" in done.stdout
    after = {p: p.stat().st_mtime_ns for p in (finished / "store").rglob("*") if p.is_file()}
    assert {p.name for p in before.keys() ^ after.keys()} <= {".galbatch.lock"}
    assert all(after[p] == t for p, t in before.items() if p.name != ".galbatch.lock")


def test_status_for_programs(finished: Path) -> None:
    done = galbatch("status", "job.yaml", "--json", cwd=finished)
    state = json.loads(done.stdout)
    assert [row["stage"] for row in state["stages"]] == [
        "scan", "ingest", "train", "predict", "append", "report",
    ]  # fmt: skip
    assert all(row["left"] == 0 and not row["waiting"] for row in state["stages"])
    assert state["quarantine"] == {}


def test_a_lost_partition_is_made_again_with_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    victims = [
        partitions(copy, "predictions/photometric")[0],
        copy / "store/receipts/predict" / next(
            p.name for p in (copy / "store/receipts/predict").glob("thesis.o*.json")
        ),
    ]  # fmt: skip
    prediction = digest_file(victims[0])
    for victim in victims:
        victim.unlink()
    (copy / "small.duckdb").unlink()
    done = galbatch("run", "job.yaml", cwd=copy)
    assert done.returncode == 0, done.stderr
    assert digest_file(victims[0]) == prediction
    with duckdb.connect(str(copy / "small.duckdb"), read_only=True) as database:
        assert database.execute("SELECT count(*) FROM photometric").fetchone() == (ROWS,)


def test_dask_agrees_with_the_serial_runner(finished: Path, tmp_path: Path) -> None:
    path = write_job(tmp_path, cluster={"kind": "local", "workers": 2, "memory": "3 GiB"})
    done = galbatch_process("run", path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for table in ("catalogue", "predictions/photometric", "predictions/thesis"):
        ours, theirs = partitions(finished, table), partitions(tmp_path, table)
        assert [p.name for p in ours] == [p.name for p in theirs]
        for mine, other in zip(ours, theirs, strict=True):
            assert digest_file(mine) == digest_file(other), mine.name


def test_a_damaged_prediction_file_is_made_again(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    victim = partitions(copy, "predictions/thesis")[0]
    whole = digest_file(victim)
    victim.write_bytes(victim.read_bytes()[:1000])
    done = galbatch("run", "job.yaml", cwd=copy)
    assert done.returncode == 0, done.stderr
    assert digest_file(victim) == whole


def test_the_report_counts_the_rows_that_trained(finished: Path) -> None:
    numbers = json.loads((finished / "store/report/report.json").read_text())
    for model in numbers["models"].values():
        labels = {one["target"]: one for one in model["labels"]}
        assert labels["redshift"]["train"] > 500
        assert labels["redshift"]["held_out"] > 50


def test_the_readme_example_of_an_own_catalogue_runs(tmp_path: Path) -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    survey, job, *_ = re.findall(r"```yaml\n(.*?)```", readme, re.S)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "my_survey.yaml").write_text(survey)
    (tmp_path / "own" / "my_job.yaml").write_text(job)
    rng = np.random.default_rng(0)
    rows = 1200
    z = rng.gamma(3.0, 0.2, rows)
    r = rng.uniform(19, 24, rows)
    columns = {"objid": np.arange(rows), "ra": rng.uniform(10, 12, rows)}
    columns |= {"dec": rng.uniform(-1, 1, rows), "r_mag": r}
    columns |= {"g_mag": r + 0.4 + z + rng.normal(0, 0.05, rows), "i_mag": r - 0.3 * z}
    columns |= {f"{band}_err": np.full(rows, 0.05) for band in "gri"}
    columns["g_mag"][::40], columns["g_err"][::40] = 99.0, 26.0
    columns["zspec"] = np.where(rng.random(rows) < 0.5, z, np.nan)
    Table(columns).write(tmp_path / "my_catalogue.fits")
    quick = ["--set", "models.photometric.epochs=3", "--set", "cluster={kind: serial}"]
    done = galbatch("run", "own/my_job.yaml", *quick, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "stores/mine/predictions/photometric/dataset"
    found = pd.concat(pd.read_parquet(p) for p in folder.rglob("Npix=*.parquet"))
    assert len(found) == rows
    assert found["z_mode"].notna().all()


def test_stopping_a_run_says_one_line(tmp_path: Path) -> None:
    job = write_job(tmp_path, cluster={"kind": "local", "workers": 1, "memory": "3 GiB"})
    command = [sys.executable, "-m", "galbatch.cli", "run", job]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert "galbatch scan" in said
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert rest.splitlines()[-1] == "stopped; run the same command to go on where it was"


def test_a_store_of_another_job_is_refused(finished: Path, tmp_path: Path) -> None:
    path = write_job(tmp_path, name="another", store=str(finished / "store"))
    done = galbatch_process("run", path, cwd=tmp_path)
    assert done.returncode == 2
    assert "was made by job 'small'" in done.stderr
    assert "Traceback" not in done.stderr
