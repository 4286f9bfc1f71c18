"""`galbatch status` on a catalogue of many partitions.

    python benchmarks/status_speed.py [--partitions 10000] [--repeat 3]

A store with receipts of 10,000 partitions and of their predictions (the files themselves are
empty, and so is the source). Measured: the seconds that `status` takes, in this process and from a
local disk; and how often each receipt is read. At most once each, and 5 s, is what is asked.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent))

from scheduler import make_store

from galbatch.plan import plan
from galbatch.run.status import status
from galbatch.stages.site import Site
from galbatch.store.receipts import ReceiptBook

MOST_SECONDS = 5.0


def main() -> None:
    """Make the store, and ask."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--partitions", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=3)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        site, predict = make_store(Path(folder) / "store", words.partitions)
        predict(words.partitions)
        seconds, cpu = min(asked(site, words.partitions) for _ in range(words.repeat))
        reads = counted(site)
    most = max(reads.values())
    print(
        f"{words.partitions:,} partitions: status {seconds:.2f} s (at most {MOST_SECONDS:g}), "
        f"{cpu:.2f} s of the processor"
    )
    print(f"{len(reads):,} receipts, each read {most} time{'s' * (most > 1)} at most")
    if most > 1 or seconds > MOST_SECONDS:
        raise SystemExit(1)


def asked(site: Site, partitions: int) -> tuple[float, float]:
    """Seconds that `status` takes, and of the processor; all is ingested and predicted."""
    began, busy = time.perf_counter(), time.process_time()
    state = status(plan(site.job, site.survey), site)
    seconds, cpu = time.perf_counter() - began, time.process_time() - busy
    done = {row["stage"]: row["done"] for row in state["stages"]}
    assert done["ingest"] == done["predict"] == partitions, state["left"]
    return seconds, cpu


def counted(site: Site) -> Counter[Path]:
    """How often `status` reads each receipt."""
    reads: Counter[Path] = Counter()
    read = ReceiptBook.read

    def spied(book: ReceiptBook, path: Path) -> Any:
        reads[path] += 1
        return read(book, path)

    with mock.patch.object(ReceiptBook, "read", spied):
        status(plan(site.job, site.survey), site)
    return reads


if __name__ == "__main__":
    main()
