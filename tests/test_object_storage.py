"""A store in object storage, against a real S3 server on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from small import galbatch, write_job

from galbatch.mock.observe import mock_batches
from galbatch.spec import load_survey
from galbatch.store.lease import DEAD_AFTER
from galbatch.store.locations import is_remote, location

ROWS = 800
MODEL = {"kind": "photometric", "members": 1, "width": 16, "layers": 1, "epochs": 1}


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A file system on a server with an empty bucket, for this process and those it starts."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    words = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")),
    }
    with pytest.MonkeyPatch.context() as patched:
        for name, value in words.items():
            patched.setenv(name, value)
        import s3fs

        system = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)
        system.mkdir("bucket")
        yield system
    server.stop()


@pytest.fixture(scope="module")
def work(s3: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a job that has run on object storage, and the same on this disk."""
    folder = tmp_path_factory.mktemp("work")
    (table,) = mock_batches(load_survey("alhambra"), ROWS, 3, ROWS)
    pq.write_table(table, folder / "a.parquet")
    s3.put_file(str(folder / "a.parquet"), "bucket/data/a.parquet")
    words: dict[str, Any] = {"models": [MODEL], "partition": {"rows": 200}, "sinks": []}
    source = {"kind": "files", "paths": [str(folder / "a.parquet")]}
    write_job(folder, source=source, **words)
    done = galbatch("run", "job.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "far").mkdir()
    source = {"kind": "files", "paths": ["s3://bucket/data/*.parquet"]}
    write_job(folder / "far", source=source, store="s3://bucket/store", **words)
    return folder


def tables(folder: Path) -> dict[str, bytes]:
    paths = [p for p in folder.rglob("*.parquet") if "quarantine" not in str(p)]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_killed_and_resumed_it_ends_with_the_bytes_of_a_disk(s3: Any, work: Path) -> None:
    far = work / "far"
    command = [sys.executable, "-m", "galbatch.cli", "run", "job.yaml"]
    for stage in ("ingest", "predict"):
        with subprocess.Popen(
            command, cwd=far, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if line.startswith(f"galbatch {stage}: ") and "to do" in line:
                    time.sleep(0.2)
                    process.send_signal(signal.SIGKILL)
                    break
        assert process.returncode == -signal.SIGKILL
    done = galbatch("run", "job.yaml", cwd=far)
    assert done.returncode == 0, done.stderr
    store = location("s3://bucket/store")
    assert is_remote(store)
    assert tables(store) == tables(work / "store")
    models = (store / "models", work / "store" / "models")
    remote, local = ({p.name: p.read_bytes() for p in one.rglob("*.onnx")} for one in models)
    assert remote == local
    assert not s3.exists("bucket/store/.galbatch.lock")
    again = galbatch("run", "job.yaml", cwd=far)
    assert "nothing to do, all of it is in s3://bucket/store" in again.stdout


def test_others_read_it_there(s3: Any, work: Path) -> None:
    import lsdb

    store: Any = location("s3://bucket/store")
    catalogue = lsdb.open_catalog(store)
    found = catalogue.load_extension("photometric").compute()
    assert len(found) == ROWS


def test_damage_is_named_and_mended(s3: Any, work: Path) -> None:
    sound = galbatch("verify", "s3://bucket/store", cwd=work)
    assert sound.returncode == 0, sound.stdout + sound.stderr
    before = tables(location("s3://bucket/store"))
    names = [name for name in before if "Npix" in name]
    lost = next(name for name in names if name.startswith("predictions"))
    s3.rm(f"bucket/store/{lost}")
    changed = next(name for name in names if name.startswith("catalogue"))
    s3.pipe_file(f"bucket/store/{changed}", before[changed][:-1] + b"?")
    found = galbatch("verify", "s3://bucket/store", cwd=work)
    assert found.returncode == 1
    assert f"{lost}: is gone" in found.stdout
    assert changed in found.stdout
    done = galbatch("run", "job.yaml", cwd=work / "far")
    assert done.returncode == 0, done.stderr
    assert tables(location("s3://bucket/store")) == before


def test_a_second_run_is_refused_and_a_dead_one_is_not(s3: Any, work: Path) -> None:
    lock = "bucket/store/.galbatch.lock"
    holder = {"run": "x", "process": os.getpid(), "host": os.uname().nodename}
    s3.pipe_file(lock, json.dumps(holder).encode())
    done = galbatch("report", "job.yaml", cwd=work / "far")
    assert done.returncode == 2
    assert f"another run works on this store (process {os.getpid()} on" in done.stderr
    assert f"after {DEAD_AFTER:.0f} s" in done.stderr
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    s3.pipe_file(lock, json.dumps(holder | {"process": ended.pid}).encode())
    done = galbatch("report", "job.yaml", cwd=work / "far")
    assert done.returncode == 0, done.stderr
    assert not s3.exists(lock)


def test_who_is_ousted_in_the_background_of_a_script_writes_nothing_more(
    s3: Any, work: Path, tmp_path: Path
) -> None:
    source = {"kind": "files", "paths": ["s3://bucket/data/*.parquet"]}
    write_job(tmp_path, source=source, store="s3://bucket/ousted", partition={"rows": 200})
    another = json.dumps({"run": "x", "process": 7, "host": "elsewhere"}).encode()
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
    with subprocess.Popen(
        [*ignoring, sys.executable, "-m", "galbatch.cli", "run", "job.yaml"],
        cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, encoding="utf-8",
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("galbatch ingest: ") and "to do" in line:
                s3.pipe_file("bucket/ousted/.galbatch.lock", another)
                break
        rest = process.stderr.read().splitlines()
    assert process.returncode == 2
    assert "another run has taken over this store (process 7 on elsewhere)" in rest[-1]
    assert not any("Traceback" in line for line in rest)
    assert s3.cat_file("bucket/ousted/.galbatch.lock") == another
    assert not s3.exists("bucket/ousted/receipts/ingest/catalogue.json")


def test_secrets_in_urls_are_refused_and_not_repeated(tmp_path: Path) -> None:
    source = {"kind": "files", "paths": ["https://me:hunter2@example.org/a.csv"]}
    write_job(tmp_path, source=source)
    done = galbatch("validate", "job.yaml", cwd=tmp_path)
    write_job(tmp_path, store="s3://me:hunter2@bucket/store")
    other = galbatch("run", "job.yaml", cwd=tmp_path)
    for one in (done, other):
        assert one.returncode == 2
        assert "through the environment" in one.stderr
        assert "hunter2" not in one.stderr + one.stdout


def test_what_is_not_there_is_said_in_one_line(s3: Any, work: Path, tmp_path: Path) -> None:
    source = {"kind": "files", "paths": ["s3://bucket/data/*.fits"]}
    write_job(tmp_path, source=source, store="s3://bucket/other")
    done = galbatch("run", "job.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "s3://bucket/data/*.fits: there is no such file" in done.stderr
    write_job(tmp_path, store="s3://no-such-bucket/store")
    done = galbatch("run", "job.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
