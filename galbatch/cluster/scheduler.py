"""The workers of a Dask scheduler that runs already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from galbatch.cluster.base import Folders
from galbatch.cluster.disks import Disks
from galbatch.cluster.session import closed, session
from galbatch.cluster.workers import Workers
from galbatch.errors import SpecError
from galbatch.spec.cluster import SchedulerCluster


@contextmanager
def scheduler(spec: SchedulerCluster, folders: Folders) -> Iterator[Workers]:
    """Join the scheduler.

    Yields
    ------
    Workers

    Raises
    ------
    SpecError
        If no scheduler answers, or a worker does not share the disks.
    """

    def start(disks: Disks, stack: ExitStack) -> Workers:
        return Workers(stack.enter_context(closed(_join(spec))), disks)

    with session(folders.shared, start) as workers:
        yield workers


def _join(spec: SchedulerCluster) -> Any:
    from distributed import Client, Security

    security = None
    if spec.tls:
        files = {"cert": spec.tls.certificate, "key": spec.tls.key, "ca": spec.tls.ca}
        for word, file in files.items():
            if not Path(file).expanduser().is_file():
                raise SpecError(f"cluster.tls: {word}", f"there is no file {file}")
        cert, key, ca = (str(Path(file).expanduser()) for file in files.values())
        security = Security(
            tls_ca_file=ca, tls_client_cert=cert, tls_client_key=key, require_encryption=True
        )
    try:
        return Client(spec.address, timeout="20s", set_as_default=False, security=security)
    except (OSError, ValueError) as error:
        raise SpecError(
            "cluster.address",
            f"no Dask scheduler answers at {spec.address}",
            "start one with 'dask scheduler', or use cluster: {kind: local}",
        ) from error
