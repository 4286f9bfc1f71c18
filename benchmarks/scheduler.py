"""A real Dask scheduler, 200 workers that sleep, and galbatch's own `run` on 10,000 partitions.

    python benchmarks/scheduler.py [--workers 200] [--seconds 3.3] [--dying 0.1]

A task stands for the prediction of a partition: 50,000 rows at 15,000 rows/s take 3.3 s. It sleeps
for a seeded random time around that (log-normal, 30 % scatter), reports progress once as the
predict stage does for every row group, and returns a receipt with the facts of a real one; what it
is given is what `Predict.pending` gives. The workers are `distributed.Worker`s of one thread each,
50 in a process, which talk TCP with the scheduler; the scheduler lives in the driver, as that of
dask-jobqueue does. Their own profilers are off: 200 of them do not fit on one machine.

With `--dying`, that share of the workers end in the middle of a task, at seeded moments all through
the run, as those of a lost node do; others come in their place two seconds later. What was begun is
done once more, and does not count as busy. With `--seconds 0` the partitions are empty.

Printed are

- how long `Predict.pending` takes for 10,000 partitions: none of them predicted, half, and all;
- the share of the workers' time that was spent in tasks, from the start of the first to the end of
  the last (target: more than 0.90), and until the last task was given to a worker: that the last
  ones end one after the other costs about two task times, whatever the scheduler does;
- how much the driver, scheduler included, grows with 1,000 and 10,000 partitions, and with
  partitions of a hundred times as many rows.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from scipy.stats import norm

from galbatch.cluster.disks import Disks
from galbatch.cluster.workers import Workers
from galbatch.models.base import Card, survey_record
from galbatch.models.families import family_of
from galbatch.run.loop import Outcome, run
from galbatch.spec import load_survey
from galbatch.spec.job import Job
from galbatch.stages.base import AnyPending, AnyStage, OnProgress, Pending, Task, Where
from galbatch.stages.catalogue import catalogue_need
from galbatch.stages.checks import identity_of
from galbatch.stages.predict import Predict, Work
from galbatch.stages.predictions import predict_need
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store.facts import (
    CatalogueFacts,
    Counts,
    PartitionFacts,
    SourceFacts,
    StoredPartition,
    Totals,
)
from galbatch.store.identity import hold
from galbatch.store.layout import Layout
from galbatch.store.model_facts import PredictFacts, TrainFacts
from galbatch.store.receipts import Need, ReceiptBook
from galbatch.values import Partition, Receipt

ROWS = 50_000
IN_A_PROCESS = 50
REPLACED_AFTER = 2.0
"""Seconds."""
MODEL = "thesis"
FINGERPRINT = "f" * 64
COUNTS = Counts(tuple(0.05 * n for n in range(121)), (411,) * 120)
FACTS = PredictFacts(ROWS, {f"FLAG_{number}": 17 for number in range(8)}, COUNTS, COUNTS).to_json()
QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.admin.log-format": "%(message)s",
}


@dataclass(frozen=True)
class Sleep:
    """The predict stage, asleep."""

    tasks: tuple[Task[Work], ...]
    mean: float
    factor: int = 1
    """Rows that a task says it has done, in units of what its partition has."""
    name: str = "predict"
    progress_unit: str = "rows"
    where: Where = "workers"

    def summary(self, site: Site) -> str:
        """As `stages.base.Stage`."""
        return "sleep"

    def memory(self, site: Site) -> int:
        """As `stages.base.Stage`."""
        return 0

    def pending(self, snapshot: Snapshot) -> Pending[Work, None]:
        """All of them."""
        return Pending(self.tasks)

    def begin(self, snapshot: Snapshot, pending: Pending[Work, None]) -> Sleep:
        """What is carried to the workers does not hold the tasks."""
        return replace(self, tasks=())

    def run(self, site: Site, task: Task[Work], report: OnProgress) -> tuple[Receipt, ...]:
        """Sleep."""
        began = time.time()
        share = (int(task.unit.rsplit("p", 1)[1]) * 0.6180339887498949) % 1
        time.sleep(self.mean * np.exp(0.3 * norm.ppf(0.001 + 0.998 * share) - 0.045))
        report(ROWS * self.factor, ROWS * self.factor, "")
        (need,) = task.payload.needs.values()
        receipt: Receipt = need.receipt(
            digest=FINGERPRINT,
            rows=ROWS * self.factor,
            outputs={
                site.layout.relative(
                    site.layout.partition(task.payload.partition, MODEL)
                ): FINGERPRINT
            },
            seconds=time.time() - began,
            facts=FACTS | {"began": began},
        )
        return (receipt,)

    def finish(self, snapshot: Snapshot, pending: Pending[Work, None]) -> None:
        """As `stages.base.Stage`."""


class Clock:
    """When the tasks ran: a monitor that keeps two numbers for each."""

    def __init__(self) -> None:
        self.heard = self.retried = 0

    def start(self, stage: AnyStage, pending: AnyPending) -> None:
        """As `run.Monitor`."""

    def progress(self, unit: str, done: int, total: int | None, note: str) -> None:
        """As `run.Monitor`."""
        self.heard += 1

    def retry(self, result: Any, attempt: int) -> None:
        """As `run.Monitor`."""
        self.retried += 1

    def failed(self, result: Any) -> None:
        """As `run.Monitor`; nothing may fail here."""
        raise result.error

    def waiting(self, text: str) -> None:
        """As `run.Monitor`."""

    def end(self, record: Any) -> None:
        """As `run.Monitor`."""


def make_store(root: Path, count: int) -> tuple[Site, Callable[[int], None]]:
    """A store whose catalogue has `count` partitions (empty files), and a way to predict some."""
    source = root.with_suffix(".parquet")
    source.touch()
    job = Job.model_validate(
        {
            "name": "scheduler",
            "survey": "alhambra",
            "source": {"kind": "files", "paths": [str(source)]},
            "store": str(root),
            "models": [{"kind": "thesis", "name": MODEL}],
        }
    )
    survey = load_survey("alhambra")
    site = Site(job, survey, Layout(root))
    with hold(site.layout, identity_of(site)):
        pass
    book, layout = ReceiptBook(layout=site.layout), site.layout
    (source_file,) = Snapshot(site).catalogue_state.files
    partitions = [Partition("healpix", 8, 40_000 + number, ROWS) for number in range(count)]
    files = {0: (1, count * ROWS)}
    stored = [StoredPartition(one, f"{one.index:064x}", 0, files) for one in partitions]
    for one in stored:
        path = layout.partition(one.partition)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        need = Need("ingest", one.partition.name, {"code": 0, "files": {"0": "0" * 64}})
        outputs = {layout.relative(path): one.digest}
        facts = PartitionFacts(COUNTS, files, {0: ROWS}, None)
        put(book, need.receipt(digest=one.digest, rows=ROWS, outputs=outputs, seconds=1.0,
                               facts=facts.to_json()))  # fmt: skip
    source_facts = SourceFacts(
        key=source_file.need.key, rows=count * ROWS, number=0, records=count * ROWS, rejected=0,
        labelled={}, stars=0, aliases=(), absent=(), notes=(), content="0" * 64,
    )  # fmt: skip
    sources = {source_file.unit: source_facts}
    catalogue_facts = CatalogueFacts(
        totals=Totals.of(sources.values()),
        sources=sources,
        partitions=tuple(stored),
        duplicates=0,
        histogram=None,
        id=survey.id.column,
        columns=tuple(column.name for column in survey.columns),
        types=tuple(str(column.kind) for column in survey.columns),
    )
    need = catalogue_need(site, sources)
    put(book, need.receipt(digest="c" * 64, rows=count * ROWS, outputs={}, seconds=1.0,
                           facts=catalogue_facts.to_json()))  # fmt: skip
    (settings,) = job.models
    folder = layout.model(MODEL)
    folder.mkdir(parents=True)
    # A model that says what it predicts, and has no networks to do so.
    Card(
        MODEL, settings.kind, family_of(settings.kind).version, survey.name, (), (),
        ("redshift",), {}, "", {}, {"inputs": [], "transforms": {}}, {}, {},
        settings.training_settings(), survey_record(survey), fingerprint=FINGERPRINT,
    ).save(folder)  # fmt: skip
    need = Snapshot(site).versions.need(settings, MODEL)
    train_facts = TrainFacts(rows=0, fingerprint=FINGERPRINT, catalogue="c" * 64)
    put(book, need.receipt(digest="", rows=0, outputs={}, seconds=1.0,
                           facts=train_facts.to_json()))  # fmt: skip

    def predict(number: int) -> None:
        catalogue = Snapshot(site).catalogue
        assert catalogue is not None
        for partition in catalogue.partitions[:number]:
            path = layout.partition(partition, MODEL)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            need = predict_need(catalogue, partition, MODEL, FINGERPRINT, None, {})
            digest = f"{partition.index:064x}"
            outputs = {layout.relative(path): digest}
            put(book, need.receipt(digest=digest, rows=ROWS, outputs=outputs,
                                   seconds=1.0, facts=FACTS))  # fmt: skip

    return site, predict


def put(book: ReceiptBook, receipt: Receipt) -> None:
    """A receipt; that each is on the disk for good does not matter here, and takes long."""
    with mock.patch.object(os, "fsync"):
        book.put(receipt)


def keep_workers(address: str, count: int, scratch: str, deaths: Sequence[float] = ()) -> None:
    """A process with `count` workers, until their scheduler goes; some end earlier."""
    import dask
    from distributed import Worker

    def made() -> Any:
        return Worker(address, nthreads=1, memory_limit=0, dashboard=False, local_directory=scratch)

    async def dies(worker: Any, stack: AsyncExitStack, seconds: float) -> None:
        await asyncio.sleep(seconds)
        worker.batched_stream.comm.abort()  # the scheduler hears no farewell
        await worker.close(timeout=5, executor_wait=False)
        await asyncio.sleep(REPLACED_AFTER)
        other = await stack.enter_async_context(made())
        await other.finished()

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            workers = [made() for _ in range(count)]
            await asyncio.gather(*(stack.enter_async_context(worker) for worker in workers))
            dying = [
                dies(worker, stack, seconds)
                for worker, seconds in zip(workers, deaths, strict=False)
            ]
            await asyncio.gather(*dying, *(worker.finished() for worker in workers[len(dying) :]))

    logging.getLogger("distributed").setLevel(logging.CRITICAL + 1)
    with dask.config.set(QUIET):
        asyncio.run(serve())


def drive(
    site: Site, stage: Sleep, workers: int, scratch: str, profile: str, dying: float, answer: Any
) -> None:
    """In a process of its own: scheduler, driver, and what came of it."""
    import dask
    from distributed import Client, LocalCluster

    processes = multiprocessing.get_context("spawn")
    with (
        dask.config.set(QUIET),
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        hosts = []
        moments = np.random.default_rng(5)
        for first in range(0, workers, IN_A_PROCESS):
            count = min(IN_A_PROCESS, workers - first)
            lasting = len(stage.tasks) * stage.mean / workers
            deaths = moments.uniform(0.05, 0.9, round(count * dying)) * lasting
            arguments = (cluster.scheduler_address, count, scratch, deaths.tolist())
            hosts.append(processes.Process(target=keep_workers, args=arguments))
            hosts[-1].start()
        client.wait_for_workers(workers, timeout=120)
        before, clock, called = memory("VmRSS"), Clock(), time.time()
        spans: list[tuple[float, float]] = []
        watched = Watched(spans)
        began = time.process_time()
        outcome = watched.run((stage,), site, Workers(client, Disks()), clock, profile)
        cpu = time.process_time() - began
        ended = time.time()
        after, peak = memory("VmRSS"), memory("VmHWM")
        client.close()
        cluster.close()
        for host in hosts:
            host.join(30)
            host.terminate()
    assert outcome.records[0].units == len(stage.tasks) == len(spans)
    answer.put(
        {
            "spans": spans,
            "called": called,
            "ended": ended,
            "cpu": cpu,
            "heard": clock.heard,
            "retried": clock.retried,
            "grown": after - before,
            "peak": peak - before,
        }
    )


class Watched:
    """`run`, with when each task began and how long it took."""

    def __init__(self, spans: list[tuple[float, float]]) -> None:
        self.spans = spans

    def run(
        self, plan: tuple[AnyStage, ...], site: Site, workers: Workers, clock: Clock, profile: str
    ) -> Outcome:
        """Carry out the plan; of each receipt keep two numbers."""
        from galbatch.run import loop as room
        from galbatch.run import on_dask

        distributed = on_dask.distributed

        def spied(*arguments: Any) -> Any:
            for result in distributed(*arguments):
                for receipt in result.receipts:
                    self.spans.append((receipt.facts["began"], receipt.seconds))
                yield result

        with mock.patch.object(room, "distributed", spied):
            if not profile:
                return run(plan, site, lambda: nullcontext(workers), clock)
            import cProfile

            with cProfile.Profile() as profiler:
                outcome = run(plan, site, lambda: nullcontext(workers), clock)
            profiler.dump_stats(profile)
            return outcome


def memory(word: str) -> float:
    """Of this process, MiB: VmRSS now, or VmHWM at most so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{word}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(word)


def measured(
    site: Site, stage: Sleep, workers: int, scratch: str, profile: str = "", dying: float = 0.0
) -> Any:
    """Run it in a fresh process."""
    processes = multiprocessing.get_context("spawn")
    answer = processes.Queue()
    arguments = (site, stage, workers, scratch, profile, dying, answer)
    process = processes.Process(target=drive, args=arguments)
    process.start()
    while True:
        try:
            found = answer.get(timeout=1)
            break
        except Exception:  # queue.Empty, until there is an answer or nobody to give it
            if not process.is_alive():
                raise SystemExit("the driver died") from None
    process.join(60)
    return found


def shares(spans: list[tuple[float, float]], workers: int) -> tuple[float, float, float]:
    """Busy share until the last task ended and until it began; wall time in seconds."""
    began, took = (np.array(column) for column in zip(*spans, strict=True))
    first, last_begun, last = began.min(), began.max(), (began + took).max()
    whole = took.sum() / (workers * (last - first))
    inside = np.minimum(began + took, last_begun) - began
    return float(whole), float(inside.sum() / (workers * (last_begun - first))), last - first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--partitions", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=3.3, help="mean length of a task")
    parser.add_argument("--dying", type=float, default=0.0, help="share of the workers that end")
    parser.add_argument("--profile", default="", help="file for a profile of the driver's thread")
    parser.add_argument("--only-plan", action="store_true")
    parser.add_argument("--quick", action="store_true", help="without the cases for memory")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        site, predict = make_store(Path(temporary) / "store", words.partitions)
        print(f"{words.partitions:,} partitions, Predict.pending:", flush=True)
        tasks = plan(site, "none predicted", words.partitions)
        if not words.quick:
            predict(words.partitions // 2)
            plan(site, "half", words.partitions - words.partitions // 2)
            predict(words.partitions)
            plan(site, "all", 0)
        if words.only_plan:
            return
        scratch = f"{temporary}/scratch"
        measure = partial(measured, site, workers=words.workers, scratch=scratch, dying=words.dying)
        print(f"\n{words.workers} workers, {words.seconds} s a task, {words.dying:.0%} die")
        found = measure(Sleep(tasks, words.seconds), profile=words.profile)
        whole, until, wall = shares(found["spans"], words.workers)
        print(f"busy      {whole:.3f} to the end of the last task, {until:.3f} to its start")
        print(
            f"wall      {wall:.1f} s; {wall * words.workers / len(tasks):.2f} s a task and worker, "
            f"{1000 * wall / len(tasks):.2f} ms a task"
        )
        starts = min(began for began, _ in found["spans"])
        print(f"the first task started {starts - found['called']:.1f} s after the call, ", end="")
        print(f"the call ended {found['ended'] - starts - wall:.1f} s after the last one")
        print(f"driver    {found['cpu']:.1f} s of CPU; heard {found['heard']:,} reports, ", end="")
        print(f"{found['retried']} retries")
        print(f"memory    +{found['grown']:.0f} MiB after, +{found['peak']:.0f} MiB at most")
        if words.quick:
            return
        print("\nmemory of the driver, 1/10 of the partitions:")
        few = tasks[: len(tasks) // 10]
        for factor in (1, 100):
            found = measure(Sleep(few, words.seconds, factor))
            print(
                f"{ROWS * factor:>10,} rows each: +{found['grown']:.0f} MiB after, "
                f"+{found['peak']:.0f} MiB at most"
            )


def plan(site: Site, what: str, expected: int) -> tuple[Task[Work], ...]:
    """Find out what is pending, and say how long it took."""
    began = time.perf_counter()
    pending = Predict().pending(Snapshot(site))
    seconds = time.perf_counter() - began
    assert len(pending.tasks) == expected, pending.waiting
    print(f"{what:>16}: {seconds:5.2f} s for {expected:,} tasks", flush=True)
    return pending.tasks


if __name__ == "__main__":
    main()
