"""How fast a catalogue is predicted, files included, against the bare network on the same core.

    python benchmarks/predict_speed.py [--rows 100000] [--repeat 5] [--store FOLDER]

Without a finished store in FOLDER, one is made there first: a simulated ALHAMBRA sky and the
default model, trained for an epoch (its size, not its skill, is what counts). Then, one thread,
in turns, with the median of all turns: (a) the exported network alone, on features that lie ready
in memory, in the batch size that suits it best; (b) the predict stage, partition by partition, from
reading the file to its receipt. On a machine that others use as well, the ratio of CPU times is the
steadier one. Where b spends its time is of a further turn.
"""

from __future__ import annotations

import os

# Before NumPy is imported: the comparison is by core.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"}

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import yaml
from numpy.typing import NDArray

from galbatch.flux import bands
from galbatch.models import novelty, photometric, runtime
from galbatch.models.heads import cells, point
from galbatch.spec import load_job, load_survey
from galbatch.stages import predict
from galbatch.stages.base import AnyTask
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store.layout import Layout
from galbatch.store.tables import PartitionWriter

TARGET = 0.5
BATCHES = (128, 256, 512, 1024, 2048, 4096, 8192)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--store", type=Path, help="where to work (default: temporary)")
    arguments = parser.parse_args()
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.store or Path(temporary)).absolute()
        measure(finished(folder, arguments.rows), arguments.repeat)


def finished(folder: Path, rows: int) -> Site:
    """A store with a catalogue and a trained model."""
    job = folder / "job.yaml"
    if not job.exists():
        folder.mkdir(parents=True, exist_ok=True)
        words = {
            "name": "predict_speed",
            "survey": "alhambra",
            "source": {"kind": "mock", "rows": rows, "seed": 1},
            "store": str(folder / "store"),
            "models": [{"kind": "photometric", "epochs": 1}],
            "cluster": {"kind": "serial"},
        }
        job.write_text(yaml.safe_dump(words), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "galbatch.cli", "run", str(job)], check=True)
    spec = load_job(str(job))
    return Site(spec, load_survey(spec.survey), Layout(Path(spec.store)))


def measure(site: Site, repeat: int) -> None:
    """Both in turns; then where the second spends its time."""
    stage = predict.Predict()
    # Without their receipts all partitions are to be done again.
    for unit in list(site.book.all("predict")):
        site.book.forget("predict", unit)
    tasks = stage.pending(Snapshot(site)).tasks
    (version,) = tasks[0].payload.needs
    network = Bare(site.layout.model(version) / f"{photometric.NETWORK}.onnx")
    network.choose()
    stage.run(site, tasks[0], _quiet)
    bare, whole = [], []
    for _ in range(repeat):
        for task in tasks:
            bare.append(network.speed())
            whole.append(speed_of(stage, site, task))
    print(f"\n{'rows/s':34}{'wall':>10}{'CPU':>10}")
    for label, speeds in ((f"bare network, {network.batch} rows", bare), ("predict stage", whole)):
        wall, busy = np.median(speeds, axis=0)
        print(f"{label:34}{wall:10,.0f}{busy:10,.0f}")
    wall, busy = np.median(np.array(whole) / np.array(bare), axis=0)
    print(f"{f'ratio, of at least {TARGET:.2f}':34}{wall:10.2f}{busy:10.2f}")
    breakdown(stage, site, tasks)
    snapshot = Snapshot(site)
    stage.finish(snapshot, stage.pending(snapshot))


class Bare:
    """The exported network, and nothing else.

    Parameters
    ----------
    file : Path
    """

    def __init__(self, file: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(file), options)
        entry = self._session.get_inputs()[0]
        rng = np.random.default_rng(0)
        self._name = entry.name
        self._features = rng.standard_normal((32_768, entry.shape[1])).astype(np.float32)
        self.batch = BATCHES[0]

    def choose(self) -> None:
        """Take the batch size in which it is fastest, of three tries each."""
        found: dict[int, float] = {}
        for batch in BATCHES * 3:
            self.batch = batch
            found[batch] = max(found.get(batch, 0.0), self.speed()[1])
        self.batch = max(found, key=lambda batch: found[batch])
        print(
            "bare network, rows per CPU second by batch:", {b: round(s) for b, s in found.items()}
        )

    def speed(self) -> NDArray[np.float64]:
        """Rows per second, of the clock and of the CPU."""
        began = clocks()
        for start in range(0, len(self._features), self.batch):
            self._session.run(None, {self._name: self._features[start : start + self.batch]})
        return len(self._features) / (clocks() - began)


def clocks() -> NDArray[np.float64]:
    """Seconds since some time: passed, and spent by this process."""
    return np.array([time.perf_counter(), time.process_time()])


def speed_of(stage: predict.Predict, site: Site, task: AnyTask) -> NDArray[np.float64]:
    """Rows per second of a partition, of the clock and of the CPU."""
    began = clocks()
    (receipt,) = stage.run(site, task, _quiet)
    return receipt.rows / (clocks() - began)


def breakdown(stage: predict.Predict, site: Site, tasks: tuple[AnyTask, ...]) -> None:
    """Print the microseconds a row costs, by what is done with it."""
    spent: dict[str, float] = {}

    def timed(owner: Any, name: str, label: str) -> None:
        function: Callable[..., Any] = getattr(owner, name)

        def call(*arguments: Any, **words: Any) -> Any:
            began = time.process_time()
            try:
                return function(*arguments, **words)
            finally:
                spent[label] = spent.get(label, 0.0) + time.process_time() - began

        setattr(owner, name, call)

    timed(runtime.OnnxNetwork, "__call__", "network")
    timed(bands.BandReader, "read", "cleaning")
    timed(photometric, "features", "features")
    timed(cells, "redshift_statistics", "redshift statistics")
    timed(point, "quantiles", "other quantiles")
    timed(cells.CellsHead, "shares", "redshift cells")
    timed(point.PointHead, "mixture", "mixtures")
    timed(novelty.Novelty, "score", "novelty")
    timed(photometric, "tabulate", "tables")
    timed(PartitionWriter, "write", "writing")
    timed(PartitionWriter, "commit", "writing")
    began = time.process_time()
    rows = sum(stage.run(site, task, _quiet)[0].rows for task in tasks)
    total = time.process_time() - began
    spent["reading and the rest"] = total - sum(spent.values())
    print(f"\n{'CPU microseconds a row':24}{1e6 * total / rows:8.2f}")
    for label, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"  {label:22}{1e6 * seconds / rows:8.2f}{seconds / total:8.0%}")


def _quiet(done: int, total: int | None, note: str) -> None:
    """Return a monitor's call that does nothing."""


if __name__ == "__main__":
    main()
