"""A whole run in surroundings that are all unusual at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from faults.campaign import contents
from small import REPOSITORY, TIMEOUT, job_words, of_photometric, write_job

pytestmark = pytest.mark.timeout(600)

SURROUNDINGS = REPOSITORY / "tests" / "faults" / "surroundings.sh"
CACHES = ("MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "PYTHONIOENCODING")


def galbatch_there(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """As in the background of a script, by a user without a home, far east of Greenwich."""
    return subprocess.run(
        ["bash", str(SURROUNDINGS), sys.executable, "-m", "galbatch.cli", *arguments],
        check=False,
        cwd=cwd,
        capture_output=True,
        timeout=TIMEOUT,
        env={name: value for name, value in os.environ.items() if name not in CACHES},
    )


def test_the_surroundings_are_unusual(tmp_path: Path) -> None:
    script = (
        "import locale, os, signal, sys, time, pathlib\n"
        "assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN\n"
        "assert os.umask(0) == 0o77\n"
        "assert not pathlib.Path.home().exists()\n"
        "assert sys.stdout.encoding == 'ascii', sys.stdout.encoding\n"
        "assert time.timezone == -14 * 3600, time.timezone\n"
    )
    command = ["bash", str(SURROUNDINGS), sys.executable, "-c", script]
    assert subprocess.run(command, check=False, cwd=tmp_path).returncode == 0


def test_the_store_has_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    write_job(tmp_path, models=job_words()["models"][:1])
    done = galbatch_there("run", "job.yaml", cwd=tmp_path)
    said = done.stderr.decode("ascii").splitlines()
    assert done.returncode == 0, said
    assert [line for line in said if not line.startswith("galbatch ")] == []
    assert of_photometric(contents(tmp_path)) == of_photometric(contents(finished))
    page = (tmp_path / "store" / "report" / "index.html").read_text(encoding="utf-8")
    assert "σ" in page
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_words_that_the_terminal_does_not_know_stop_nothing(tmp_path: Path) -> None:
    survey = yaml.safe_load((REPOSITORY / "schemas" / "alhambra.yaml").read_text(encoding="utf-8"))
    survey["title"] = "Ångström's survey"
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(survey), encoding="utf-8")
    write_job(tmp_path, survey="mine.yaml")
    done = galbatch_there("plan", "job.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert b"\\xc5ngstr\\xf6m's survey" in done.stdout
