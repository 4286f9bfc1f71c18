"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from galbatch.errors import SpecError, TransientError
from galbatch.store.commit import (
    NewFile,
    commit_bytes,
    commit_folder,
    digest_file,
    digest_output,
    remove_unfinished,
)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_what_is_committed_is_there_with_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    assert commit_bytes(path, b"hello") == digest_file(path)
    assert path.read_bytes() == b"hello"
    assert names(path.parent) == ["b.txt"]


def test_a_failed_check_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    commit_bytes(path, b"old")

    def refuse(temporary: Path) -> None:
        assert temporary.read_bytes() == b"new"
        raise TransientError("a", "not as written")

    with pytest.raises(TransientError):
        commit_bytes(path, b"new", refuse)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_bit_that_flips_on_the_way_to_the_disk_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def damage(descriptor: int) -> None:
        os.pwrite(descriptor, b"X", 0)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", damage)
    with pytest.raises(TransientError, match="reads back different"):
        commit_bytes(tmp_path / "a", b"hello")
    assert names(tmp_path) == []


def test_killed_before_the_rename_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "a"
    commit_bytes(path, b"old")
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from galbatch.store.commit import commit_bytes\n"
        "kill = lambda temporary: os.kill(os.getpid(), signal.SIGKILL)\n"
        "commit_bytes(Path(sys.argv[1]), b'new', kill)"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert len(names(tmp_path)) == 2
    remove_unfinished(tmp_path)
    assert names(tmp_path) == ["a"]


def test_a_full_disk_is_said_with_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SpecError, match=r"no space left on device: 2.0 KiB needed, .* free"):
        commit_bytes(tmp_path / "a", bytes(2048))
    assert names(tmp_path) == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, check=False, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no 'mount' here")
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_real_full_disk(tiny_disk: Path) -> None:
    commit_bytes(tiny_disk / "a", b"old")
    with pytest.raises(SpecError, match=r"no space left on device: 1\.0 MiB needed"):
        commit_bytes(tiny_disk / "a", bytes(2**20))
    assert (tiny_disk / "a").read_bytes() == b"old"
    assert names(tiny_disk) == ["a"]


def test_what_is_left_to_flush_on_a_full_disk_hides_no_error(tiny_disk: Path) -> None:
    ballast = tiny_disk / "ballast"
    with pytest.raises(OSError, match="No space"), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with pytest.raises(KeyError), NewFile(tiny_disk / "a") as file_:
        file_.write(b"x")  # stays in the buffer
        raise KeyError
    assert names(tiny_disk) == ["ballast"]


def test_a_file_in_the_way_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(SpecError, match="is a file in the way"):
        commit_bytes(tmp_path / "a" / "b", b"")


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    final = tmp_path / "model"
    for text in ("old", "new"):
        prepared = tmp_path / "work" / "model"
        prepared.mkdir(parents=True)
        (prepared / text).write_text(text)
        commit_folder(prepared, final)
        assert names(final) == [text]
    assert names(tmp_path) == ["model", "work"]


def test_the_digest_of_outputs_sees_every_file(tmp_path: Path) -> None:
    first = commit_bytes(tmp_path / "a", b"1")
    commit_bytes(tmp_path / "m" / "x", b"2")
    commit_bytes(tmp_path / "m" / "y" / "z", b"3")
    assert digest_output(tmp_path / "a") == first
    before = digest_output(tmp_path / "m")
    commit_bytes(tmp_path / "m" / "y" / "z", b"4")
    assert digest_output(tmp_path / "m") != before
