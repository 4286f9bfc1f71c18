"""How fast a simulated sky is made, against drawing as many normal deviates.

    python benchmarks/mock_speed.py [SURVEY] [ROWS]

Prints one line. The ratio is against NumPy alone drawing one float32 normal deviate for every
number of the catalogue in the same run: a machine twice as fast changes both.
"""

from __future__ import annotations

import math
import resource
import sys
import time

import numpy as np

from galbatch.mock.observe import mock_batches
from galbatch.spec import load_survey

BATCH_ROWS = 65_536


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "alhambra"
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    survey = load_survey(name)
    numbers = sum(math.prod(column.shape) for column in survey.columns)

    start = time.perf_counter()
    batches = mock_batches(survey, rows, 1, BATCH_ROWS)
    ready = time.perf_counter() - start
    start = time.perf_counter()
    made = sum(len(batch) for batch in batches)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    rng = np.random.default_rng(1)
    start = time.perf_counter()
    for _ in range(-(-rows // BATCH_ROWS)):
        rng.standard_normal((BATCH_ROWS, numbers), np.float32)
    baseline = time.perf_counter() - start
    print(
        f"{name}: {made:,} rows x {numbers} numbers; ready in {ready:.1f} s, then {seconds:.1f} s "
        f"({made / seconds / 1e3:.0f} krows/s); bare normals {baseline:.1f} s, "
        f"ratio {seconds / baseline:.1f}; peak RSS {peak:.0f} MiB"
    )


if __name__ == "__main__":
    main()
