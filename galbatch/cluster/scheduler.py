"""The workers of a Dask scheduler that runs already."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from galbatch.cluster.base import Folders
from galbatch.cluster.certificates import checked_security, shake_hands
from galbatch.cluster.disks import Disks
from galbatch.cluster.session import closed, session
from galbatch.cluster.workers import Workers
from galbatch.errors import SpecError
from galbatch.spec.cluster import SchedulerCluster

_ANSWERS_WITHIN = 20.0
"""Seconds."""


@contextmanager
def scheduler(spec: SchedulerCluster, folders: Folders) -> Iterator[Workers]:
    """Join the scheduler.

    Yields
    ------
    Workers

    Raises
    ------
    SpecError
        If no scheduler answers, its certificates are not those that the job names, or a worker
        does not share the disks.
    """

    def start(disks: Disks, stack: ExitStack) -> Workers:
        return Workers(stack.enter_context(closed(_join(spec))), disks)

    with session(folders.shared, start) as workers:
        yield workers


def _join(spec: SchedulerCluster) -> Any:
    from distributed import Client

    security = None
    if spec.tls:
        security = checked_security(spec.tls)
        shake_hands(spec.address, security)
    try:
        # A client that does not come into being would not be closed.
        asyncio.run(asyncio.wait_for(_is_there(spec.address, security), _ANSWERS_WITHIN))
        return Client(
            spec.address, timeout=_ANSWERS_WITHIN, set_as_default=False, security=security
        )
    except Exception as error:  # each protocol has its own for what is no scheduler
        raise SpecError(
            "cluster.address",
            f"no Dask scheduler answers at {spec.address}",
            "start one with 'dask scheduler', or use cluster: {kind: local}",
        ) from error


async def _is_there(address: str, security: Any) -> None:
    """Ask a scheduler who it is.

    Raises
    ------
    Exception
        If nobody answers, or not as a scheduler does.
    """
    from distributed.core import rpc

    arguments = security.get_connection_args("client") if security else {}
    async with rpc(address, connection_args=arguments) as other:
        await other.identity()
