"""Certificates for a run, by which its driver and its workers know each other."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from galbatch.errors import SpecError


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
    own = Path(tempfile.mkdtemp(prefix="keys-", dir=folder))
    try:
        files = {}
        for name in ("ca_file", "worker_cert", "worker_key"):
            path = own / f"{name}.pem"
            path.touch(mode=0o600)
            path.write_text(getattr(made, f"tls_{name}"), encoding="ascii")
            files[name] = str(path)
        roles = {
            f"tls_{role}_{what}": files[f"worker_{what}"]
            for role in ("scheduler", "worker", "client")
            for what in ("cert", "key")
        }
        yield Security(tls_ca_file=files["ca_file"], require_encryption=True, **roles)
    finally:
        shutil.rmtree(own, ignore_errors=True)
        with suppress(OSError):  # others may have put something there
            folder.rmdir()
