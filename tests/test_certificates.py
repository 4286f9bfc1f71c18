"""Certificates that a job names: what is wrong with them is said, and of which file."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from galbatch.cluster import connect
from galbatch.cluster.certificates import certificates
from galbatch.errors import SpecError
from galbatch.spec.cluster import SchedulerCluster

pytest.importorskip("cryptography")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    """Certificates of two authorities."""
    folder = tmp_path_factory.mktemp("certificates")
    with certificates(folder / "ours") as ours, certificates(folder / "theirs") as theirs:
        yield ours, theirs


@pytest.fixture(scope="module")
def scheduler(made: tuple[Any, Any]) -> Iterator[str]:
    """The address of a scheduler with the first."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=0,
        processes=False,
        protocol="tls://",
        host="127.0.0.1",
        security=made[0],
        dashboard_address="127.0.0.1:0",
    ) as cluster:
        yield cluster.scheduler_address


def refusal(folder: Path, address: str, found: Any, **files: Path) -> str:
    """What is said of a scheduler and these files; within seconds."""
    words = {
        "ca": found.tls_ca_file,
        "certificate": found.tls_client_cert,
        "key": found.tls_client_key,
        **{word: str(file) for word, file in files.items()},
    }
    spec = SchedulerCluster.model_validate({"kind": "scheduler", "address": address, "tls": words})
    began = time.monotonic()
    shared = {"scratch": folder / "token"}
    with pytest.raises(SpecError) as caught, connect(spec, folder, folder, shared):
        pass
    assert time.monotonic() - began < 10
    return str(caught.value)


def test_those_that_fit_are_taken(tmp_path: Path, scheduler: str, made: tuple[Any, Any]) -> None:
    ours, _ = made
    words = {
        "ca": ours.tls_ca_file,
        "certificate": ours.tls_client_cert,
        "key": ours.tls_client_key,
    }
    spec = SchedulerCluster.model_validate(
        {"kind": "scheduler", "address": scheduler, "tls": words}
    )
    with connect(spec, tmp_path, tmp_path, {"scratch": tmp_path / "token"}) as workers:
        assert workers is not None
        assert workers.client.scheduler.address == scheduler


@pytest.mark.parametrize("word", ["ca", "certificate", "key"])
def test_a_file_that_is_none_of_them_is_named(
    word: str, tmp_path: Path, made: tuple[Any, Any]
) -> None:
    ours, _ = made
    nowhere = "tls://127.0.0.1:9"
    file, setting = tmp_path / "file.pem", f"cluster.tls.{word}: {tmp_path}/file.pem: "
    said = refusal(tmp_path, nowhere, ours, **{word: file})
    assert said == f"{setting}cannot be read: No such file or directory"
    file.mkdir()
    said = refusal(tmp_path, nowhere, ours, **{word: file})
    assert said == f"{setting}cannot be read: Is a directory"
    file.rmdir()
    what = "private key" if word == "key" else "certificate"
    for text in ("", "-----BEGIN RSA PUBLIC KEY-----\n"):
        file.write_text(text)
        said = refusal(tmp_path, nowhere, ours, **{word: file})
        assert said == f"{setting}holds no {what} in PEM (name the file of the {what})"
    mark = "PRIVATE KEY" if word == "key" else "CERTIFICATE"
    file.write_text(f"-----BEGIN {mark}-----\nAAAA\n-----END {mark}-----\n")
    assert refusal(tmp_path, nowhere, ours, **{word: file}).startswith(f"{setting}is damaged: ")
    if word == "key":
        file.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n")
        assert f"{setting}has a password, " in refusal(tmp_path, nowhere, ours, key=file)
    if os.geteuid() != 0:
        file.chmod(0)
        assert "Permission denied" in refusal(tmp_path, nowhere, ours, **{word: file})


def test_the_key_of_another_certificate_is_refused(tmp_path: Path, made: tuple[Any, Any]) -> None:
    ours, theirs = made
    said = refusal(tmp_path, "tls://127.0.0.1:9", ours, key=theirs.tls_client_key)
    assert said == (
        f"cluster.tls.key: {theirs.tls_client_key}: is not the key of {ours.tls_client_cert}"
    )


def test_authorities_that_differ_are_told_apart(
    tmp_path: Path, scheduler: str, made: tuple[Any, Any]
) -> None:
    ours, theirs = made
    said = refusal(tmp_path, scheduler, ours, ca=theirs.tls_ca_file)
    assert said.startswith(
        f"cluster.tls.ca: {theirs.tls_ca_file}: has not signed the certificate of the scheduler at "
        f"{scheduler}: "
    )
    other = {"certificate": theirs.tls_client_cert, "key": theirs.tls_client_key}
    said = refusal(tmp_path, scheduler, ours, **other)
    assert said.startswith(
        f"cluster.tls.certificate: {theirs.tls_client_cert}: the scheduler at {scheduler} refuses "
        "it: "
    )


def test_who_speaks_something_else_is_no_scheduler(tmp_path: Path, made: tuple[Any, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            tie, _ = server.accept()
            with tie:
                tie.recv(1)
                tie.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                tie.recv(1 << 16)

        other = threading.Thread(target=answer)
        other.start()
        address = f"tls://127.0.0.1:{server.getsockname()[1]}"
        said = refusal(tmp_path, address, made[0])
        other.join()
    assert said.startswith(f"cluster.address: {address} is not reached by TLS: ")
