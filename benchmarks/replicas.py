"""Losses of the first 50 steps on 1, 2 and 4 devices of a process, and with 2 processes.

    python benchmarks/replicas.py

Devices are logical CPUs. Every step of an epoch of one step has the same 1,024 rows of a simulated
sky, some without labels, with drawn noise and dropped bands, whatever does it. Dropout is off: each
device draws its own. Prints, for each, the largest relative difference from one device of one
process, for training and validation loss; the exit code is 1 if one is above 1e-4.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from galbatch.sample.split import TRAIN, roles
from galbatch.spec import load_survey
from galbatch.spec.job import IdSplit, PhotometricModel
from galbatch.spec.survey import Survey

STEPS, BATCH, TOLERANCE = 50, 1024, 1e-4
Losses = dict[str, list[float]]


def main() -> None:
    if sys.argv[1:2] == ["fit"]:
        number, count, *devices = map(int, sys.argv[2:])
        fit(number, count, devices)
        return
    from galbatch.mock.observe import mock_batches

    survey = load_survey("alhambra")
    tables = list(mock_batches(survey, 2500, 3, 2500))
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for name, off in differences(survey, pa.concat_tables(tables), Path(folder)).items():
            print(f"{name}: losses of {STEPS} steps differ by at most {off:.1e}")
            worst = max(worst, off)
    sys.exit(0 if worst <= TOLERANCE else 1)


def differences(
    survey: Survey,
    table: pa.Table,
    folder: Path,
    devices: Sequence[tuple[int, ...]] = ((1, 2), (4,)),
) -> dict[str, float]:
    """Largest relative difference of losses from those of one device.

    Parameters
    ----------
    survey : Survey
    table : pa.Table
        Between 1,024 and 2,047 rows of it train.
    folder : Path
        Empty.
    devices : sequence of tuple of int, optional
        Numbers of devices that one process tries, for each process.
    """
    (folder / "survey.json").write_text(survey.model_dump_json(), encoding="utf-8")
    pq.write_table(table, folder / "sky.parquet")
    begun = [
        # TensorFlow's collectives of one process have one number of devices.
        *(_begin(folder, 0, 1, some) for some in devices),
        *(_begin(folder, number, 2, (1,)) for number in range(2)),
    ]
    codes = [process.wait() for process in begun]
    if any(codes):
        raise RuntimeError(f"fits ended with {codes}: {(folder / 'log').read_text()[-2000:]}")
    one = _losses(folder, 1, 1)
    tried = {number for some in devices for number in some if number > 1}
    names = {f"{number} devices": (1, number) for number in sorted(tried)}
    names["2 processes"] = (2, 1)
    return {name: _off(one, _losses(folder, *which)) for name, which in names.items()}


def fit(number: int, count: int, devices: Sequence[int]) -> None:
    """Fit in this process, as one of some, on so many devices, one number after the other."""
    import tensorflow as tf

    from galbatch.models.device import prepare_tensorflow
    from galbatch.training import loop
    from galbatch.training.fit import train
    from galbatch.training.group import Meeting, joined

    prepare_tensorflow()
    cpu = tf.config.list_physical_devices("CPU")[0]
    each = [tf.config.LogicalDeviceConfiguration()] * max(devices)
    tf.config.set_logical_device_configuration(cpu, each)
    names = [device.name for device in tf.config.list_logical_devices("CPU")]
    survey = Survey.model_validate_json(Path("survey.json").read_text(encoding="utf-8"))
    table = pq.read_table("sky.parquet")
    role = roles(IdSplit(), None, table[survey.id.column].to_numpy())
    assert BATCH <= np.sum(role == TRAIN) < 2 * BATCH
    settings = PhotometricModel(
        kind="photometric", members=1, width=32, layers=2, bins=40, epochs=STEPS, patience=STEPS,
        batch=BATCH, dropout=0.0, noise=0.3, drop_bands=0.1, learning_rate=0.005,
    )  # fmt: skip
    for some in devices:
        # What devices there are cannot be changed once TensorFlow runs; which are used can.
        loop._devices = partial(names.__getitem__, slice(some))
        folder = Path(f"{count}x{some}-{number}")
        if count == 1:
            train(settings, survey, table, role, folder, _say_nothing)
            continue
        with joined(Meeting(Path.cwd(), count), number) as group:
            train(settings, survey, table, role, folder, _say_nothing, group=group)


def _say_nothing(_done: int, _total: int, _text: str) -> None:
    """Nobody watches."""


def _begin(
    folder: Path, number: int, count: int, devices: Sequence[int]
) -> subprocess.Popen[bytes]:
    words = [sys.executable, str(Path(__file__).resolve()), "fit", str(number), str(count)]
    with (folder / "log").open("a") as log:
        return subprocess.Popen(
            [*words, *map(str, devices)],
            cwd=folder,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stderr=log,
        )


def _losses(folder: Path, count: int, devices: int) -> Losses:
    file = folder / f"{count}x{devices}-0" / "history.json"
    found: Losses = json.loads(file.read_text(encoding="utf-8"))["network"]
    assert {len(losses) for losses in found.values()} == {STEPS}
    return found


def _off(one: Losses, other: Losses) -> float:
    return max(
        float(np.max(np.abs(np.divide(other[name], one[name]) - 1)))
        for name in ("loss", "val_loss")
    )


if __name__ == "__main__":
    main()
