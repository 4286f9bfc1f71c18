"""Processes that do one fit together, here threads: what they tell each other, and who else may."""

from __future__ import annotations

import json
import os
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from galbatch.cluster.certificates import certificates
from galbatch.errors import TransientError
from galbatch.training import group as group_module
from galbatch.training.group import Certificates, FitGroup, Meeting, joined


def together(meeting: Meeting, work: Callable[[FitGroup], Any]) -> list[Future[Any]]:
    def one(number: int) -> Any:
        with joined(meeting, number) as group:
            return work(group)

    with ThreadPoolExecutor(meeting.count) as pool:
        return [pool.submit(one, number) for number in range(meeting.count)]


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("g")


def made(found: Any) -> Certificates:
    return Certificates(found.tls_ca_file, found.tls_worker_cert, found.tls_worker_key)


def test_all_have_the_same_sum_to_the_bit(place: Path) -> None:
    parts = np.random.default_rng(1).normal(size=(3, 500)).astype(np.float32)
    found = together(Meeting(place, 3), lambda group: group.sum(parts[group.number]))
    whole = parts[0] + parts[1] + parts[2]
    for one in found:
        np.testing.assert_array_equal(one.result(), whole)


def test_what_the_chief_says_counts(place: Path) -> None:
    arrays = [np.arange(6.0).reshape(2, 3), np.array(7, np.int64), np.zeros((0, 4), np.float32)]

    def work(group: FitGroup) -> Any:
        mine = arrays if group.is_chief else [np.zeros(1)]
        return group.told({"epoch": 5 - group.number}, mine)

    for one in together(Meeting(place, 2), work):
        facts, told = one.result()
        assert facts == {"epoch": 5}
        for given, wanted in zip(told, arrays, strict=True):
            assert given.dtype == wanted.dtype
            np.testing.assert_array_equal(given, wanted)


def test_every_row_is_somebodys() -> None:
    for count, rows in ((1, 5), (3, 10), (4, 3)):
        shares = [FitGroup(number, count, []).share(rows) for number in range(count)]
        assert [row for share in shares for row in range(rows)[share]] == list(range(rows))


@pytest.mark.parametrize("leaves", [0, 1])
def test_one_that_is_gone_is_noticed(place: Path, leaves: int) -> None:
    def work(group: FitGroup) -> None:
        if group.number != leaves:
            group.sum(np.zeros(3, np.float32))

    gone, stays = sorted(together(Meeting(place, 2), work), key=lambda one: bool(one.exception()))
    assert gone.exception() is None
    with pytest.raises(TransientError, match=rf"process {leaves} of 2 is gone"):
        stays.result()


def test_one_that_does_not_come_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_module, "_SECONDS_TO_MEET", 0.2)
    with (
        pytest.raises(TransientError, match=r"of 3 processes these did not come: \[1, 2\]"),
        joined(Meeting(place, 3), 0),
    ):
        pass
    with (
        pytest.raises(TransientError, match="process 1 did not reach the first one"),
        joined(Meeting(place / "nowhere", 2), 1),
    ):
        pass


def test_on_one_machine_there_is_no_port(place: Path) -> None:
    def work(_group: FitGroup) -> list[Any]:
        ties = psutil.Process(os.getpid()).net_connections("inet")
        return [tie for tie in ties if tie.status == psutil.CONN_LISTEN]

    before = work(FitGroup(0, 1, []))
    assert [one.result() for one in together(Meeting(place, 2), work)] == [before, before]


def test_strangers_are_refused(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_module, "_SECONDS_TO_MEET", 20.0)

    def address() -> tuple[str, int]:
        while not (place / "chief.json").exists():
            time.sleep(0.01)
        host, port = json.loads((place / "chief.json").read_text())
        return host, port

    with certificates(tmp_path / "run") as ours, certificates(tmp_path / "other") as theirs:
        meeting = Meeting(place, 2, made(ours), "127.0.0.1")
        other = made(theirs)
        with ThreadPoolExecutor(1) as pool:

            def chief() -> np.ndarray:
                with joined(meeting, 0) as group:
                    return group.sum(np.ones(2, np.float32))

            waits = pool.submit(chief)
            assert address()[0] == "127.0.0.1"
            with socket.create_connection(address()) as plain:
                plain.sendall(b"galbatch\x00\x00\x00\x01" * 9)
                with suppress(ConnectionError):  # what it hears is an alert, if anything
                    while heard := plain.recv(64):
                        assert b"galbatch" not in heard
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.load_cert_chain(other.certificate, other.key)
            with (
                socket.create_connection(address()) as bare,
                pytest.raises(OSError, match=r"alert|closed|reset|[Pp]ipe|EOF"),
                context.wrap_socket(bare) as tie,
            ):
                tie.sendall(b"galbatch\x00\x00\x00\x01")
                if not tie.recv(1):
                    raise ConnectionError("closed")
            assert not waits.done()
            with joined(meeting, 1) as group:
                np.testing.assert_array_equal(group.sum(np.ones(2, np.float32)), [2, 2])
            np.testing.assert_array_equal(waits.result(), [2, 2])
