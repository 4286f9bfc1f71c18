"""A fit is the same on one device, on several, and by several processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import replicas

from galbatch.spec.survey import Survey


def test_losses_of_fifty_steps_agree(
    survey: Survey, sky: Callable[[int, int], pa.Table], tmp_path: Path
) -> None:
    table = sky(2200, 1)
    assert (table["secure"].to_numpy() < 0).any()  # without some of the labels
    off = replicas.differences(survey, table, tmp_path, devices=((1, 2),))  # four: the benchmark
    assert set(off) == {"2 devices", "2 processes"}
    assert max(off.values()) < replicas.TOLERANCE, off
