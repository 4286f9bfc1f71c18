"""The batch map beside MiniSom on the same rows: both errors, and CPU time on one core.

    python benchmarks/som.py [--rows 10000] [--many 1000000] [--xpysom]

MiniSom (`pip install minisom`, in the development environment) takes one pass and ten over the
rows, from random weights; the map here 20 passes. Rows are latents of a smooth family of six
parameters in 256 directions, as they are and whitened. Targets: neither error worse than MiniSom's
after ten passes, in at most a tenth of its CPU time; 500,000 rows a second, core and pass.
`--xpysom` runs that batch map too, 40 epochs in an environment of its own (uv).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from minisom import MiniSom
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from galbatch.maps.som import Som, fit_som, narrowing, scaling_of, sums_by_cell

SHAPE = (10, 10)
WIDTHS = narrowing(4.0, 0.35, 20).tolist()
CHUNK = 100_000
EPOCHS = 40
SCRIPT = Path(__file__).parent / "peers" / "maps.py"
TOOLS = str(Path(__file__).parents[1] / ".tools" / "bin")


def latents(rows: int, seed: int = 0) -> NDArray[np.float32]:
    """A smooth family of six parameters in 256 directions."""
    rng = np.random.default_rng(seed)
    first, second = np.random.default_rng(1).normal(size=(2, 6, 256))
    parameters = rng.uniform(-1, 1, (rows, 6))
    found = np.tanh(0.5 * parameters @ first) + 0.3 * np.sin(parameters @ second)
    return np.asarray(found, np.float32)


def by_minisom(rows: NDArray[np.float32], updates: int) -> Som:
    som = MiniSom(*SHAPE, rows.shape[1], random_seed=0)
    som.random_weights_init(rows)
    som.train_random(rows, updates)
    return Som(SHAPE, som.get_weights().reshape(-1, rows.shape[1]).astype(np.float64))


def by_batch(rows: NDArray[np.float32]) -> Som:
    return fit_som([lambda: [rows]], SHAPE, widths=WIDTHS)


def by_xpysom(rows: NDArray[np.float32]) -> tuple[Som, float]:
    """Its map, and its CPU seconds."""
    uv = shutil.which("uv") or shutil.which("uv", path=TOOLS)
    if uv is None:
        sys.exit("uv, which makes the environment of XPySom, is not installed")
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder, "rows.npy"), Path(folder, "out.npz")
        np.save(given, rows, allow_pickle=False)
        environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
        subprocess.run(
            [uv, "run", "--quiet", "--no-project", "--script", str(SCRIPT), str(given),
             *map(str, SHAPE), str(EPOCHS), str(out)],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
        with np.load(out) as found:
            return Som(SHAPE, found["cells"]), float(found["seconds"])


def told(what: str, name: str, som: Som, seconds: float, rows: NDArray[np.float32]) -> None:
    errors = som.errors([rows])
    print(f"{what:20} {name:22} {seconds:7.3f} {errors.quantisation:13.4f} "
          f"{errors.topographic:12.4f}")  # fmt: skip


def timed(make: Callable[[], Any]) -> tuple[Any, float]:
    began = time.process_time()
    made = make()
    return made, time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--xpysom", action="store_true")
    words = parser.parse_args()
    raw = latents(words.rows)
    whitened = scaling_of([raw])(raw)
    six = scaling_of([raw], 6)(raw)
    print(f"{words.rows:,} rows, {SHAPE[0]} x {SHAPE[1]} cells, one core")
    print(f"{'rows':20} {'map':22} {'CPU s':>7} {'quantisation':>13} {'topographic':>12}")
    for what, rows in (("as they are", raw), ("whitened", whitened), ("six whitened", six)):
        cases: dict[str, Callable[[], Som]] = {
            "MiniSom, one pass": partial(by_minisom, rows, len(rows)),
            "MiniSom, ten passes": partial(by_minisom, rows, 10 * len(rows)),
            "batch, 20 passes": partial(by_batch, rows),
        }
        spent = {}
        for name, make in cases.items():
            som, spent[name] = timed(make)
            told(what, name, som, spent[name], rows)
        if words.xpysom:
            told(what, f"XPySom, {EPOCHS} epochs", *by_xpysom(rows), rows)
        ratio = spent["batch, 20 passes"] / spent["MiniSom, ten passes"]
        print(f"{'':20} batch / MiniSom's ten: {ratio:.3f} of the CPU time (target 0.1)")
    cells = fit_som([lambda: [raw]], SHAPE, widths=WIDTHS[:1]).cells
    part = latents(CHUNK, 2)
    parts = max(words.many // CHUNK, 1)
    _, seconds = timed(lambda: [sums_by_cell(part, cells) for _ in range(parts)])
    rate = parts * CHUNK / seconds
    print(f"{parts * CHUNK:,} rows x 256, one pass: {rate:,.0f} rows/s and core (target 500,000)")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
