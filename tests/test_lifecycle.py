"""What happens to a store after its first run: news, versions of models, damage."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import duckdb
import lsdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import zarr
from small import ROWS, galbatch, partitions, write_job

from galbatch.mock.observe import mock_batches
from galbatch.spec import load_survey
from galbatch.store.commit import digest_file
from galbatch.store.layout import Layout
from galbatch.store.verify import verify, withdraw


def test_versions_of_a_model_live_beside_each_other(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    before = {p: digest_file(p) for p in (copy / "store").glob("*/**/*.parquet")}
    change = ["--set", "models.photometric.seed=5"]
    state = json.loads(galbatch("status", "job.yaml", "--json", *change, cwd=copy).stdout)
    assert [stage["left"] for stage in state["stages"]][:3] == [0, 0, 1]
    done = galbatch("run", "job.yaml", *change, cwd=copy)
    assert done.returncode == 0, done.stderr
    assert before == {p: digest_file(p) for p in before}
    state = json.loads(galbatch("status", "job.yaml", "--json", *change, cwd=copy).stdout)
    models = {model["name"]: model for model in state["models"]}
    assert set(models) == {"photometric", "photometric_v2", "thesis"}
    assert [models[name]["current"] for name in sorted(models)] == [False, True, True]
    fingerprint = models["photometric_v2"]["fingerprint"]
    assert fingerprint != models["photometric"]["fingerprint"]
    for path in partitions(copy, "predictions/photometric_v2"):
        metadata = pq.read_schema(path).metadata
        assert metadata[b"galbatch.fingerprint"].decode() == fingerprint
    collection = lsdb.open_catalog(copy / "store")
    assert len(collection.load_extension("photometric_v2").compute()) == ROWS
    with duckdb.connect(copy / "small.duckdb", read_only=True) as database:
        for table in ("photometric", "photometric_v2"):
            assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (ROWS,)

    # The words of the first version bring it back: nothing is trained, nothing predicted.
    done = galbatch("run", "job.yaml", cwd=copy)
    assert "galbatch train: nothing to do" in done.stderr
    assert "galbatch predict: nothing to do" in done.stderr

    done = galbatch("drop", "job.yaml", "photometric_v3", cwd=copy)
    assert done.returncode == 2
    assert "did you mean 'photometric_v2'?" in done.stderr
    done = galbatch("drop", "job.yaml", "photometric_v2", cwd=copy)
    assert done.returncode == 0, done.stderr
    assert not list((copy / "store").rglob("*photometric_v2*"))
    assert galbatch("verify", "store", cwd=copy).returncode == 0
    assert "photometric_v2" not in galbatch("status", "job.yaml", "--json", cwd=copy).stdout


def test_verify_names_what_is_damaged_and_run_mends_just_that(
    finished: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    sound = galbatch("verify", "job.yaml", cwd=copy)
    assert (sound.returncode, sound.stdout.split()[-1]) == (0, "sound")
    before = {p: digest_file(p) for p in (copy / "store").glob("*/dataset/**/*.parquet")}
    before |= {p: digest_file(p) for p in (copy / "store/predictions").rglob("*.parquet")}
    rows = partitions(copy, "catalogue")[0]
    predicted = partitions(copy, "predictions/photometric")[1]
    for path in (rows, predicted):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1  # one bit: the size is the same
        path.write_bytes(data)
    (receipt,) = (copy / "store/receipts/predict").glob("thesis.json")
    receipt.write_text(receipt.read_text().replace('"rows": 1', '"rows": 2'))
    stray = predicted.with_name("Npix=1.parquet")
    shutil.copy(predicted, stray)
    found = galbatch("verify", "store", cwd=copy)
    assert found.returncode == 1, found.stderr
    names = [path.relative_to(copy / "store").as_posix() for path in (rows, predicted, stray)]
    for name in (*names, "receipts/predict/thesis.json"):
        assert name in found.stdout
    done = galbatch("run", "job.yaml", cwd=copy)
    assert done.returncode == 0, done.stderr
    assert "galbatch ingest: 1 to do" in done.stderr
    assert "galbatch train: nothing to do" in done.stderr
    assert before == {p: digest_file(p) for p in before}
    assert not stray.exists()
    assert galbatch("verify", "store", cwd=copy).returncode == 0


def test_a_flipped_bit_does_not_reach_a_database(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    (copy / "small.duckdb").unlink()
    damaged = partitions(copy, "predictions/photometric")[-1]
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    done = galbatch("run", "job.yaml", cwd=copy)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert damaged.name in done.stderr and "galbatch verify" in done.stderr
    assert galbatch("verify", "store", cwd=copy).returncode == 1
    done = galbatch("run", "job.yaml", cwd=copy)
    assert done.returncode == 0, done.stderr
    with duckdb.connect(copy / "small.duckdb", read_only=True) as database:
        assert database.execute("SELECT count(*) FROM photometric").fetchone() == (ROWS,)


def test_verify_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    found = galbatch("verify", "folder", cwd=tmp_path)
    assert found.returncode == 2
    assert "is no store of galbatch" in found.stderr


def test_news_are_read_and_predicted_alone(tmp_path: Path) -> None:
    model = {"kind": "photometric", "members": 1, "width": 16, "layers": 1, "epochs": 1}
    source = {"kind": "files", "paths": ["data/*.parquet"]}
    write_job(tmp_path, source=source, models=[model], partition={"rows": 60})
    tables = list(mock_batches(load_survey("alhambra"), 1600, 3, 800))
    (tmp_path / "data").mkdir()
    pq.write_table(tables[0], tmp_path / "data" / "a.parquet")
    done = galbatch("run", "job.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    weights = {p: digest_file(p) for p in (tmp_path / "store/models").rglob("*.*")}

    pq.write_table(tables[1].slice(0, 5), tmp_path / "data" / "b.parquet")
    state = json.loads(galbatch("status", "job.yaml", "--json", cwd=tmp_path).stdout)
    assert state["stages"][0]["reasons"] == {"new": 1}
    done = galbatch("run", "job.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "galbatch scan: 1 to do, 1 done already" in done.stderr
    assert "galbatch train: nothing to do" in done.stderr
    assert re.search(r"galbatch predict: \d to do, \d+ done already", done.stderr)
    assert weights == {p: digest_file(p) for p in weights}
    assert galbatch("verify", "store", cwd=tmp_path).returncode == 0
    with duckdb.connect(tmp_path / "small.duckdb", read_only=True) as database:
        (counts,) = database.execute(
            "SELECT count(*), count(DISTINCT ID), count(z_mode) FROM photometric"
        ).fetchall()
    assert counts == (805, 805, 805)

    state = galbatch("status", "job.yaml", cwd=tmp_path).stdout
    assert "photometric was trained before the catalogue changed" in state
    done = galbatch("run", "job.yaml", "--retrain", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    state = json.loads(galbatch("status", "job.yaml", "--json", cwd=tmp_path).stdout)
    assert [(m["name"], m["current"], m["rows"]) for m in state["models"]] == [
        ("photometric", False, 805),
        ("photometric_v2", True, 805),
    ]
    done = galbatch("run", "job.yaml", "--retrain", cwd=tmp_path)
    assert "galbatch train: nothing to do" in done.stderr


def test_densities_on_a_grid_beside_the_predictions(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    before = {p: digest_file(p) for p in partitions(copy, "predictions/photometric")}
    grid = ["--set", "models.photometric.redshift_grid={low: 0, high: 3, points: 301}"]
    done = galbatch("run", "job.yaml", *grid, cwd=copy)
    assert done.returncode == 0, done.stderr
    assert "galbatch train: nothing to do" in done.stderr
    assert before == {p: digest_file(p) for p in before}
    group = zarr.open_group(copy / "store/arrays/photometric", mode="r")
    z, pz, ids = group["z"][:], group["pz"], group["id"][:]
    assert (z[0], z[-1], pz.shape[1]) == (0, 3, 301)
    found = pd.concat(pq.ParquetFile(path).read().to_pandas() for path in before)
    found = found.set_index("ID")
    place = {number: row for row, number in enumerate(ids.tolist()) if number in found.index}
    assert sorted(place) == sorted(found.index)
    density = pz[:][[place[number] for number in found.index]]
    # Of what lies beyond the grid nothing is said.
    predicted = (found["z_median"] < 3).to_numpy()
    assert predicted.mean() > 0.9
    assert np.isfinite(density[predicted]).all()
    np.testing.assert_allclose(np.trapezoid(density[predicted], z, axis=1), 1, atol=1e-3)
    mean = np.trapezoid(density * z, z, axis=1)[predicted]
    inside = (found["z_err95_high"] < 2.5).to_numpy()[predicted]
    np.testing.assert_allclose(
        mean[inside], found["z_mean"].to_numpy()[predicted][inside], rtol=0.05
    )

    assert galbatch("verify", "store", cwd=copy).returncode == 0
    files = (copy / "store/arrays/photometric/pz").rglob("*")
    shard = next(p for p in files if p.is_file() and p.name != "zarr.json")
    data = shard.read_bytes()
    shard.write_bytes(data[:-1])
    broken = galbatch("verify", "store", cwd=copy)
    assert broken.returncode == 1
    assert shard.relative_to(copy / "store").as_posix() in broken.stdout
    done = galbatch("run", "job.yaml", *grid, cwd=copy)
    assert "galbatch predict: 1 to do" in done.stderr
    assert shard.read_bytes() == data

    # One bit: the size is the same. Nothing is taken away but what holds it.
    arrays = {p: digest_file(p) for p in (copy / "store/arrays").rglob("*") if p.is_file()}
    shard.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    layout = Layout(copy / "store")
    (damage,) = verify(layout)
    assert damage.files == (shard,)
    withdraw(layout, damage)
    assert before == {p: digest_file(p) for p in before}
    galbatch("run", "job.yaml", *grid, cwd=copy)
    assert arrays == {p: digest_file(p) for p in arrays}

    # The metadata of a group is made again around the shards.
    lost = [copy / "store/arrays/photometric" / name for name in ("zarr.json", "z/c/0")]
    for path in lost:
        path.unlink()
    assert {file for damage in verify(layout) for file in damage.files} == set(lost)
    touched = {p: p.stat().st_mtime_ns for p in arrays if p.name.startswith("c.")}
    done = galbatch("run", "job.yaml", *grid, cwd=copy)
    assert "galbatch predict: nothing to do" in done.stderr
    assert touched == {p: p.stat().st_mtime_ns for p in touched}
    assert arrays == {p: digest_file(p) for p in arrays}
    assert before == {p: digest_file(p) for p in before}
    assert list(verify(layout)) == []
    refused = galbatch("drop", "job.yaml", "photometric", cwd=copy)
    assert refused.returncode == 2 and "(--yes removes it all the same)" in refused.stderr
    assert (copy / "store/arrays/photometric").exists()
    dropped = galbatch("drop", "job.yaml", "photometric", "--yes", cwd=copy)
    assert dropped.returncode == 0, dropped.stderr
    assert not (copy / "store/arrays/photometric").exists()
