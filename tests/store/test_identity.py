"""One store, one job, one run at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from galbatch.errors import SpecError
from galbatch.store.fence import Holder
from galbatch.store.identity import Identity, examine, hold, read_identity
from galbatch.store.layout import Layout

ME = Identity("mine", "toy", {"kind": "files", "paths": ("a.csv",)})


def test_a_new_store_is_claimed_and_opened_again(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "stores" / "x")
    for _ in range(2):
        with hold(layout, ME):
            assert read_identity(layout) == Identity(
                "mine", "toy", {"kind": "files", "paths": ["a.csv"]}
            )
    assert sorted(path.name for path in layout.root.iterdir()) == [
        ".galbatch.lock", "galbatch.json", "receipts",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (Identity("yours", "toy", ME.source), r"was made by job 'mine' \(survey toy\)"),
        (Identity("mine", "alhambra", ME.source), "this is job 'mine' .survey alhambra"),
        (
            Identity("mine", "toy", {"kind": "files", "paths": ["b.csv"]}),
            r'another source: paths differs .*"a.csv".*then.*"b.csv".*now',
        ),
        (Identity("mine", "toy", {"kind": "mock"}), "another source: kind, paths differs"),
    ],
)
def test_another_jobs_store_is_refused(tmp_path: Path, other: Identity, says: str) -> None:
    layout = Layout(tmp_path)
    with hold(layout, ME):
        pass
    before = layout.identity.read_bytes()
    with pytest.raises(SpecError, match=says) as refusal, hold(layout, other):
        pass
    assert "choose another 'store'" in str(refusal.value)
    assert layout.identity.read_bytes() == before


def test_a_folder_that_is_no_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("ten years of work")
    with (
        pytest.raises(SpecError, match=r"no store of galbatch \(it holds thesis\.tex"),
        hold(Layout(tmp_path), ME),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    for root in (tmp_path / "x", tmp_path / "x" / "y"):
        with pytest.raises(SpecError), hold(Layout(root), ME):
            pass


def test_a_first_run_killed_before_it_wrote_anything_does_not_block(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.lock.write_text("process 1 on nowhere")
    (tmp_path / ".galbatch.json.abc.tmp").write_text("{")
    with hold(layout, ME):
        pass


@pytest.mark.parametrize("text", ["", "{}", '{"version": 99}', "[1]"])
def test_a_damaged_or_newer_identity_is_refused(tmp_path: Path, text: str) -> None:
    layout = Layout(tmp_path)
    layout.identity.write_text(text)
    with pytest.raises(SpecError), hold(layout, ME):
        pass


@pytest.mark.parametrize("text", [None, "", "x", "[1]", "{}", '{"version": 1}', b"\xff"])
def test_a_lost_identity_is_written_again(tmp_path: Path, text: str | bytes | None) -> None:
    layout = Layout(tmp_path)
    with hold(layout, ME) as fresh:
        assert fresh
    before = layout.identity.read_bytes()
    layout.identity.unlink()
    if text is not None:
        layout.identity.write_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / "catalogue").mkdir()
    with pytest.raises(SpecError, match="was made by job 'mine'"):
        hold(layout, Identity("yours", "toy", ME.source)).__enter__()
    with hold(layout, ME) as fresh:
        assert not fresh  # or a mistake of the user's would remove the store
        assert layout.identity.read_bytes() == before


@pytest.mark.parametrize("text", [None, "x"])
def test_without_a_receipt_it_is_said_what_to_write(tmp_path: Path, text: str | None) -> None:
    layout = Layout(tmp_path)
    layout.receipt("ingest", "catalogue").parent.mkdir(parents=True)
    if text is not None:
        layout.identity.write_text(text)
    with pytest.raises(SpecError) as refusal, hold(layout, ME):
        pass
    layout.identity.write_text(refusal.value.hint.partition("into the file: ")[2])
    with hold(layout, ME) as fresh:
        assert not fresh


@pytest.mark.parametrize("killed", [True, False])
def test_what_a_killed_run_has_left_unfinished_is_removed(tmp_path: Path, killed: bool) -> None:
    layout = Layout(tmp_path / "store", tmp_path / "scratch")
    with pytest.raises(KeyboardInterrupt), hold(layout, ME):
        raise KeyboardInterrupt  # its workers are killed
    names = [
        layout.receipt("predict", "o3-p7").with_name(".o3-p7.json.0123456789ab.tmp"),
        layout.predictions / "net" / "dataset" / ".Npix=7.parquet.0123456789ab.tmp",
        layout.root / "models" / ".net.0123456789ab.tmp" / "card.json",
        layout.quarantine / ".scan.a.parquet.0123456789ab.tmp",
        layout.root / "report" / ".index.html.0123456789ab.tmp",
        layout.staging / ".abcd.tmp" / "dataset" / "_metadata",
        layout.staging / "model-net-0-0" / "work" / ".state.npz.0123456789ab.tmp",
        layout.shards / ".a.arrow.0123456789ab.tmp",
        layout.spill / "duckdb_temp_storage-0.tmp",
    ]
    for path in names:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    whole = layout.staging / "model-net-0-0" / "work" / "state.npz"
    whole.write_bytes(b"whole")
    if killed:
        layout.lock.write_bytes(Holder().to_bytes())
    with hold(layout, ME):
        assert [path for path in names if path.exists()] == []
        assert whole.exists()


def test_who_looks_needs_no_right_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(tmp_path)
    with pytest.raises(SpecError, match="is no store of galbatch"), examine(layout):
        pass
    with hold(layout, ME), pytest.raises(SpecError, match="another run works"), examine(layout):
        pass
    with examine(layout) as writable:
        assert writable
    monkeypatch.setattr(os, "access", lambda *_: False)
    with examine(layout) as writable, examine(layout) as again:
        assert not writable and not again
        with pytest.raises(SpecError, match="another run works"), hold(layout, ME):
            pass


def test_two_runs_cannot_work_at_once(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "store")
    script = (
        "import sys; from pathlib import Path\n"
        "from galbatch.store.identity import Identity, hold; from galbatch.store.layout import *\n"
        "with hold(Layout(Path(sys.argv[1])), Identity('mine', 'toy', "
        "{'kind': 'files', 'paths': ['a.csv']})):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(layout.root)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "held\n"
        says = rf"another run works on this store \(process {other.pid} on "
        with pytest.raises(SpecError, match=says), hold(layout, ME):
            pass
        other.kill()
    with hold(layout, ME):  # a killed run leaves no lock behind
        pass
