"""Certificates by which driver and workers know each other: a run's own, or those of a job."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from galbatch.errors import SpecError
from galbatch.spec.cluster import TlsFiles

_PREFIX = "keys-"
_MADE = ("ca_file", "worker_cert", "worker_key")
"""What is made for a run, as `distributed.Security` calls it; the files have these names."""
_IN_PEM = {
    "ca": ("certificate", re.compile("-----BEGIN (TRUSTED |X509 )?CERTIFICATE-----")),
    "certificate": ("certificate", re.compile("-----BEGIN (X509 )?CERTIFICATE-----")),
    "key": ("private key", re.compile("-----BEGIN ([A-Z]+ )?PRIVATE KEY-----")),
}
_ANSWERS_WITHIN = 5.0
"""Seconds that a scheduler may take for a greeting."""


@contextmanager
def certificates(folder: Path) -> Iterator[Any]:
    """Make a key and a certificate, and remove them in the end.

    Parameters
    ----------
    folder : Path
        On a disk that all workers share. In it they are in a folder with mode 700.

    Yields
    ------
    distributed.Security
        That names the files, and asks of everybody to have them.

    Raises
    ------
    SpecError
        If the package that makes them is not installed.
    """
    from distributed.security import Security

    try:
        made = Security.temporary()
    except ImportError as error:
        problem = "encrypted connections need the package cryptography"
        raise SpecError("cluster.tls", problem, "install galbatch[hpc]") from error
    folder.mkdir(parents=True, exist_ok=True)
    own = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
    try:
        for name, path in _files(own).items():
            path.touch(mode=0o600)
            path.write_text(getattr(made, f"tls_{name}"), encoding="ascii")
        yield security_of(*map(str, _files(own).values()))
    finally:
        shutil.rmtree(own, ignore_errors=True)
        with suppress(OSError):  # others may have put something there
            folder.rmdir()


def certificates_to_be(folder: Path, run: str) -> Any:
    """What `certificates` would make for a run: `distributed.Security` that names files to be."""
    return security_of(*map(str, _files(folder / f"{_PREFIX}{run}").values()))


def security_of(ca: str, certificate: str, key: str) -> Any:
    """What Dask wants to know of certificates.

    Parameters
    ----------
    ca, certificate, key : str
        Paths of files in PEM.

    Returns
    -------
    distributed.Security
        That uses them in each role, and asks of everybody to have such.
    """
    from distributed.security import Security

    roles = {
        f"tls_{role}_{what}": file
        for role in ("scheduler", "worker", "client")
        for what, file in (("cert", certificate), ("key", key))
    }
    return Security(tls_ca_file=ca, require_encryption=True, **roles)


def checked_security(files: TlsFiles) -> Any:
    """The certificates that a job names.

    Returns
    -------
    distributed.Security

    Raises
    ------
    SpecError
        That names the setting and the file: it cannot be read, is something else, or the key is
        another certificate's.
    """
    paths = {word: Path(getattr(files, word)).expanduser() for word in _IN_PEM}
    for word, path in paths.items():
        _check_pem(word, path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for word in ("ca", "certificate"):
        try:
            context.load_verify_locations(paths[word])
        except ssl.SSLError as error:
            raise SpecError(_setting(word, paths[word]), f"is damaged: {_reason(error)}") from error
    try:
        context.load_cert_chain(paths["certificate"], paths["key"])
    except ssl.SSLError as error:
        problem = f"is not the key of {paths['certificate']}"
        if "MISMATCH" not in (error.reason or ""):
            problem = f"is damaged: {_reason(error)}"
        raise SpecError(_setting("key", paths["key"]), problem) from error
    return security_of(*map(str, paths.values()))


def shake_hands(address: str, security: Any) -> None:
    """See whether a scheduler takes these certificates: Dask would say that none answers.

    Parameters
    ----------
    address : str
        Of the scheduler. Where nobody listens nothing is said: one may be about to start.
    security : distributed.Security

    Raises
    ------
    SpecError
        That names the setting and the file.
    """
    place = urlsplit(address)
    if place.scheme != "tls" or not place.hostname or not place.port:
        return
    where = (place.hostname, place.port)
    context = security.get_connection_args("client")["ssl_context"]
    try:
        with (
            socket.create_connection(where, _ANSWERS_WITHIN) as plain,
            context.wrap_socket(plain, server_hostname=place.hostname) as tie,
        ):
            tie.recv(1)  # it tells only now whether it takes ours
    except ssl.SSLCertVerificationError as error:
        raise SpecError(
            _setting("ca", security.tls_ca_file),
            f"has not signed the certificate of the scheduler at {address}: {error.verify_message}",
            "name the CA that the scheduler was started with",
        ) from error
    except ssl.SSLError as error:
        if "ALERT" not in (error.reason or ""):
            problem = f"{address} is not reached by TLS: {_reason(error)}"
            raise SpecError(
                "cluster.address", problem, "was the scheduler started with certificates?"
            ) from error
        raise SpecError(
            _setting("certificate", security.tls_client_cert),
            f"the scheduler at {address} refuses it: {_reason(error)}",
            "has the CA signed it that the scheduler was started with?",
        ) from error
    except OSError:
        return


def _check_pem(word: str, path: Path) -> None:
    what, mark = _IN_PEM[word]
    where = _setting(word, path)
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise SpecError(where, f"cannot be read: {error.strerror}") from error
    if "ENCRYPTED" in text and word == "key":
        raise SpecError(where, "has a password, which nobody can be asked for", "name one without")
    if not mark.search(text):
        raise SpecError(where, f"holds no {what} in PEM", f"name the file of the {what}")


def _files(folder: Path) -> dict[str, Path]:
    return {name: folder / f"{name}.pem" for name in _MADE}


def _setting(word: str, path: str | Path) -> str:
    return f"cluster.tls.{word}: {path}"


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
