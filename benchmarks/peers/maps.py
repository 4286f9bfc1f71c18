# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = [
#     "numpy<2.4",
#     "xpysom==1.0.7",
# ]
# ///
"""A self-organising map by XPySom (a batch map, GPL-3), of rows that another process has chosen.

    uv run --script benchmarks/peers/maps.py rows.npy 10 10 40 out.npz

The environment is this script's own. Out come `cells` (x * y, d) and `seconds`, CPU on one core, of
so many epochs from random weights with its default neighbourhood.
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import contextlib
import sys
import time

import numpy as np
from xpysom import XPySom


def main(rows: str, across: str, along: str, epochs: str, out: str) -> None:
    given = np.load(rows)
    som = XPySom(int(across), int(along), given.shape[1], random_seed=0)
    began = time.process_time()
    som.train(given, int(epochs))
    seconds = time.process_time() - began
    cells = np.asarray(som.get_weights(), np.float64).reshape(-1, given.shape[1])
    np.savez(out, allow_pickle=False, cells=cells, seconds=seconds)


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        main(*sys.argv[1:6])
