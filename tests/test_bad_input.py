"""A user's mistakes: one line that names the place and what to do, and nothing half-written."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from small import galbatch, galbatch_process, job_words, write_job

from galbatch.mock.observe import mock_batches
from galbatch.spec import load_survey

GOOD_ROWS = 300


@lru_cache(maxsize=1)
def good_frame() -> pd.DataFrame:
    (table,) = mock_batches(load_survey("alhambra"), GOOD_ROWS, 5, GOOD_ROWS)
    return table.to_pandas()


def edited(change: Callable[[pd.DataFrame], pd.DataFrame | None]) -> str:
    frame = good_frame().copy()
    changed = change(frame)
    text: str = (frame if changed is None else changed).to_csv(index=False)
    return text


def text_in_a_number(frame: pd.DataFrame) -> None:
    frame["F365W"] = frame["F365W"].astype(object)
    frame.loc[6, "F365W"] = "bright"


def duplicate(frame: pd.DataFrame) -> None:
    frame.loc[9, "ID"] = frame.loc[3, "ID"]


def off_the_sky(frame: pd.DataFrame) -> None:
    frame.loc[4, "RA"] = 400.0


def no_labels(frame: pd.DataFrame) -> None:
    frame["zb_1"] = -99.0


def unlabelled(frame: pd.DataFrame) -> pd.DataFrame:
    labels = ["zb_1", "Stellar_Flag", "Stell_Mass_1", "Tb_1", "M_Abs_1"]
    return frame.drop(columns=labels)


GOOD_TEXT = object()
CASES: list[tuple[str, Any, str, list[str]]] = [
    ("missing.csv", None, "", ["missing.csv", "no such file"]),
    ("empty.csv", b"", "", ["empty.csv", "empty"]),
    ("short.csv.gz", "truncated", "", ["short.csv.gz", "gzip"]),
    ("semicolon.csv", "semicolon", "", ["semicolon.csv", "delimiter"]),
    (
        "noband.csv",
        lambda f: f.drop(columns="F489W"),
        "",
        ["noband.csv", "column 'F489W' of band F489W is not in the file"],
    ),
    ("text.csv", text_in_a_number, "", ["text.csv", "row 7", "F365W", "bright"]),
    ("twice.csv", duplicate, "", ["'ID'"]),
    ("sky.csv", off_the_sky, "", ["sky.csv", "row 5", "'RA'", "400"]),
    ("noz.csv", no_labels, "models.photometric.targets=[redshift]", ["'zb_1'", "no label"]),
    ("nolabels.csv", unlabelled, "", ["label"]),
    ("page.csv", b"<html><body>404</body></html>\n", "", ["page.csv"]),
    ("header.csv", lambda f: f.iloc[:0], "", ["no rows"]),
    ("notgz.csv.gz", GOOD_TEXT, "", ["notgz.csv.gz"]),
    ("not.parquet", GOOD_TEXT, "", ["not.parquet"]),
    ("not.fits", GOOD_TEXT, "", ["not.fits"]),
    ("not.hdf5", GOOD_TEXT, "", ["not.hdf5"]),
    ("what.xyz", GOOD_TEXT, "", ["what.xyz"]),
]


@pytest.mark.parametrize(("name", "content", "override", "said"), CASES, ids=[c[0] for c in CASES])
def test_a_bad_file_is_refused_in_one_line(
    tmp_path: Path, name: str, content: Any, override: str, said: list[str]
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "truncated":
        whole = gzip.compress(edited(lambda f: f).encode())
        path.write_bytes(whole[: len(whole) // 2])
    elif content == "semicolon":
        path.write_text(edited(lambda f: f).replace(",", ";"))
    elif content is GOOD_TEXT:
        path.write_text(edited(lambda f: f))
    elif content is not None:
        path.write_text(edited(content))
    # One bad row of 300 is too many here, so that each mistake is refused.
    source = {"kind": "files", "paths": [str(path)], "bad_rows": 0.001}
    job = write_job(tmp_path, source=source)
    extra = ["--set", override] if override else []
    done = galbatch("run", job, *extra, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, done.stderr
    for word in said:
        assert word in errors[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "store").exists(), "something was left behind"
    assert not (tmp_path / "small.duckdb").exists()


def test_a_few_bad_rows_are_quarantined_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.csv"

    def several(frame: pd.DataFrame) -> None:
        text_in_a_number(frame)
        duplicate(frame)
        off_the_sky(frame)

    path.write_text(edited(several))
    source = {"kind": "files", "paths": [str(path)], "bad_rows": 0.05}
    one = job_words()["models"][:1]
    done = galbatch("run", write_job(tmp_path, source=source, models=one), cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("quarantined:") == 3
    rejected = pd.concat(pd.read_parquet(p) for p in (tmp_path / "store/quarantine").iterdir())
    assert sorted(rejected["row"]) == [5, 7, 10]
    parts = (tmp_path / "store/predictions/photometric/dataset").rglob("Npix=*.parquet")
    assert sum(len(pd.read_parquet(p)) for p in parts) == GOOD_ROWS - 3
    assert str(path) in (tmp_path / "store/report/index.html").read_text(encoding="utf-8")


def test_all_sentinel_rows_are_flagged_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.csv"
    survey = load_survey("alhambra")

    def dark(frame: pd.DataFrame) -> None:
        for band in survey.bands:
            frame.loc[:4, band.value] = -99.0
            frame.loc[:4, band.error] = 0.0

    path.write_text(edited(dark))
    source = {"kind": "files", "paths": [str(path)]}
    photometric, thesis = job_words()["models"]
    models = [photometric, thesis | {"targets": ["redshift"]}]
    done = galbatch("run", write_job(tmp_path, source=source, models=models), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for model in ("photometric", "thesis"):
        parts = (tmp_path / f"store/predictions/{model}/dataset").rglob("Npix=*.parquet")
        predicted = pd.concat(pd.read_parquet(p) for p in parts)
        assert len(predicted) == GOOD_ROWS
        assert int((predicted["quality"] & 1).sum()) == 5
        assert predicted.loc[(predicted["quality"] & 1) == 1, "z_mode"].isna().all()


def test_an_unknown_survey_is_refused(tmp_path: Path) -> None:
    done = galbatch("run", write_job(tmp_path, survey="alhamba"), cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean 'alhambra'?" in done.stderr


def test_a_misspelt_word_is_refused(tmp_path: Path) -> None:
    done = galbatch_process("run", write_job(tmp_path, partitions={"rows": 5}), cwd=tmp_path)
    assert done.returncode == 2
    assert "unknown setting 'partitions' (did you mean 'partition'?)" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.tex").write_text("precious")
    done = galbatch("run", write_job(tmp_path), cwd=tmp_path)
    assert done.returncode == 2
    assert "thesis.tex" in done.stderr
    assert (tmp_path / "store" / "thesis.tex").read_text() == "precious"
    assert [entry.name for entry in (tmp_path / "store").iterdir()] == ["thesis.tex"]


@pytest.mark.skipif(not Path("/dev/full").exists() or os.geteuid() != 0, reason="needs root")
def test_a_full_disk_is_said_and_nothing_is_half_written(tmp_path: Path) -> None:
    import subprocess

    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("cannot mount a small disk here")
    try:
        job = write_job(tmp_path, store=str(disk / "store"))
        done = galbatch("run", job, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert "no space left on device" in done.stderr
        assert "Traceback" not in done.stderr
        assert not list(disk.rglob("*.parquet"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)
