"""What a job will take: tasks, memory and time, and what cannot go well."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from galbatch.errors import counted
from galbatch.forecast.rates import Rates, epochs_of
from galbatch.spec.cluster import STAGES, LocalCluster, QueueCluster, QueueGroup
from galbatch.spec.sizes import in_bytes, in_seconds
from galbatch.stages.base import AnyStage
from galbatch.stages.site import Site
from galbatch.store.locations import is_remote

_FILLED = 0.6
"""Of `partition.rows`, what a partition has on average: a pixel is cut in four when it has more."""
_SHARED_DISKS = ("nfs", "lustre", "gpfs", "beegfs", "ceph", "fuse", "afs", "panfs", "wekafs", "9p")
_GIB = 2**30


@dataclass(frozen=True)
class Doers:
    """Who does a stage.

    Parameters
    ----------
    said : str
        For people: ``cpu: 40 workers in 10 jobs``.
    workers : int or None
        How many at most; None where that is not known beforehand.
    memory : int or None
        Bytes that each of them has.
    seconds : float or None
        For how long each of them is there.
    """

    said: str
    workers: int | None
    memory: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class StageForecast:
    """What a stage will take.

    Parameters
    ----------
    stage : str
    tasks : int
    core_seconds : float
        Of all tasks together.
    longest : float
        Seconds of the longest task; of ``train``, of an epoch: it goes on where it was.
    workers : int
        That there is work for at once.
    """

    stage: str
    tasks: int
    core_seconds: float
    longest: float
    workers: int

    @property
    def seconds(self) -> float:
        """Wall time."""
        return max(self.core_seconds / self.workers, self.longest)


def doers(stage: AnyStage, site: Site) -> Doers:
    """Who does a stage of a job.

    Parameters
    ----------
    stage : AnyStage
    site : Site
    """
    if stage.where == "driver":
        return Doers("the driver", 1)
    everybody = _workers_of(stage, site)
    if stage.where == "one worker" and everybody.workers != 1:
        return replace(everybody, said=f"one of {everybody.said}", workers=1)
    return everybody


def _workers_of(stage: AnyStage, site: Site) -> Doers:
    cluster = site.job.cluster
    if cluster.kind == "serial":
        return Doers("this process", 1)
    if isinstance(cluster, LocalCluster):
        workers = cluster.workers or len(os.sched_getaffinity(0))
        return Doers(counted(workers, "worker"), workers, in_bytes(cluster.memory))
    if not isinstance(cluster, QueueCluster):
        return Doers(f"workers ({cluster.kind})", None)
    groups = cluster.all_groups
    mine = {name: groups[name] for name, done in cluster.stages_of.items() if stage.name in done}
    said = ", ".join(f"{name}: {_workers(group)}" if name else _workers(group)
                     for name, group in mine.items())  # fmt: skip
    return Doers(
        said,
        sum(group.most for group in mine.values()),
        min(in_bytes(group.memory) // group.per_job for group in mine.values()),
        min(group.lifetime * in_seconds(group.walltime) for group in mine.values()),
    )


def _workers(group: QueueGroup) -> str:
    workers, jobs = counted(group.most, "worker"), counted(group.most // group.per_job, "job")
    if group.least != group.most:
        workers = f"{group.least:,} to {workers}"
        jobs = f"{group.least // group.per_job:,} to {jobs}"
    with_gpu = ", a GPU each" if group.gpus else ""
    return f"{workers} in {jobs}{with_gpu}"


def forecast(
    stages: Sequence[AnyStage], site: Site, rows: int, files: int, rates: Rates
) -> dict[str, StageForecast]:
    """What each stage that workers do will take.

    Parameters
    ----------
    stages : sequence of AnyStage
    site : Site
    rows : int
        Of the catalogue.
    files : int
        That they are in.
    rates : Rates

    Returns
    -------
    dict of str to StageForecast
        By stage.
    """
    per_partition = site.job.partition.rows
    partitions = max(1, round(rows / (per_partition * _FILLED)))
    found = {}
    for stage in stages:
        if stage.name not in STAGES:
            continue
        workers, rate = doers(stage, site).workers or 1, rates.rows[stage.name]
        if stage.name == "train":
            shown = [min(rows, model.max_rows) for model in site.job.models]
            epochs = [epochs_of(model, n) for model, n in zip(site.job.models, shown, strict=True)]
            work = sum(n * epoch for n, epoch in zip(shown, epochs, strict=True))
            longest = max(shown) / rate
            found["train"] = StageForecast("train", len(shown), work / rate, longest, 1)
            continue
        tasks = max(files, 1) if stage.name == "scan" else partitions
        at_once = min(rows / tasks * 2 if stage.name == "scan" else per_partition, rows)
        found[stage.name] = StageForecast(
            stage.name, tasks, rows / rate, at_once / rate, min(workers, tasks)
        )
    return found


def warnings(
    stages: Sequence[AnyStage], site: Site, forecasts: dict[str, StageForecast]
) -> tuple[str, ...]:
    """What cannot go well, or will go badly: a line each.

    Parameters
    ----------
    stages : sequence of AnyStage
    site : Site
    forecasts : dict of str to StageForecast
        Empty where no rates are known.
    """
    found = []
    for stage in stages:
        who, needed = doers(stage, site), stage.memory(site)
        if who.memory is not None and needed > who.memory:
            found.append(
                f"{stage.name} may need {needed / _GIB:.1f} GiB, and a worker has "
                f"{who.memory / _GIB:.1f} GiB: give it more 'memory', or make {_which(stage, site)}"
            )
        longest = forecasts[stage.name].longest if stage.name in forecasts else 0.0
        if who.seconds is not None and longest > who.seconds:
            what = "an epoch" if stage.name == "train" else "its longest task"
            found.append(
                f"{stage.name}: {what} takes about {longest:,.0f} s, and workers leave after "
                f"{who.seconds:,.0f} s: give them a longer 'walltime', or make the pieces smaller"
            )
    unasked = site.job.cluster.unasked if isinstance(site.job.cluster, QueueCluster) else ""
    return (*found, *_unshared(site), *([unasked] if unasked else []))


def _which(stage: AnyStage, site: Site) -> str:
    """What to make smaller, so that a stage needs less memory."""
    if stage.name == "train":
        return f"max_rows smaller than {max(model.max_rows for model in site.job.models):,}"
    return f"partition.rows smaller than {site.job.partition.rows:,}"


def _unshared(site: Site) -> list[str]:
    """Disks that workers on other machines will hardly see."""
    if site.job.cluster.kind in ("serial", "local", "cuda"):
        return []
    places = {"store": site.layout.root, "scratch": site.layout.work}
    found = []
    for setting, path in places.items():
        kind = "" if is_remote(path) else _disk(path)
        if kind and not kind.startswith(_SHARED_DISKS):
            found.append(
                f"{setting}: {path} is on a disk of kind {kind}, which other machines rarely "
                "share; workers that do not see it are refused"
            )
    return found


def _disk(path: Path) -> str:
    """The kind of file system that a path is, or will be, on; empty where nobody knows."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    absolute, best = path.absolute(), ("", "")
    for line in mounts:
        _, where, kind, *_ = line.split()
        if absolute.is_relative_to(where.replace("\\040", " ")) and len(where) >= len(best[0]):
            best = (where, kind)
    return best[1]
