"""The whole way of a prediction on a GPU, on a stand-in for cupy that refuses what cupy refuses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import strict_cupy
from card import CudaSession, on_card, onnxruntime_with_cuda
from small import REPOSITORY
from strict_cupy import counts

from galbatch import arrays
from galbatch.columns import to_numpy
from galbatch.flux.clean import clean
from galbatch.flux.features import features, learn_features
from galbatch.mock.observe import mock_batches
from galbatch.models import photometric, runtime, thesis
from galbatch.models.binned import Binned, density
from galbatch.models.families import load_model
from galbatch.models.heads import CellsHead, ClassesHead, PointHead
from galbatch.models.heads.base import DecodeSettings
from galbatch.models.monte_carlo import scatter
from galbatch.models.novelty import learn_novelty
from galbatch.models.pdf import QUANTILES, density_of_quantiles
from galbatch.models.runtime import KerasOnCard, OnnxNetwork, OnnxOnCard, ThroughHost, open_network
from galbatch.quality.calibration import LogitScale, SoftmaxScale
from galbatch.quality.recalibration import Calibration, Straightening, Warp
from galbatch.spec import load_survey
from galbatch.spec.job import StandardClean
from galbatch.spec.survey import Band, Photometry, Sentinel
from galbatch.values import FluxBlock

AGREE = 1e-5
ROWS = 1100
ASKED: dict[str, dict[str, Any]] = {
    "photometric": {"monte_carlo": 3, "redshift_grid": {"low": 0, "high": 3, "points": 301}},
    "thesis": {},
}
WARP = Warp((20.0, 22.0, 24.0), (0.1, -0.1, 0.1), (1.1, 0.9, 1.0), (0.2, 0.6), (0.25, 0.5), 999)
STRAIGHT = Straightening((0.1, 0.5, 0.9), (0.12, 0.5, 0.85), rows=999)


@pytest.fixture(scope="module")
def table() -> pa.Table:
    survey = load_survey("alhambra")
    found = pa.concat_tables(mock_batches(survey, ROWS, 8, ROWS))
    # Some rows have seen nothing.
    for name in survey.photometry_columns:
        values = found[name].to_numpy().copy()
        values[:7] = np.nan
        place = found.schema.get_field_index(name)
        found = found.set_column(place, found.schema.field(place), pa.array(values))
    return found


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    for family in (photometric, thesis):
        monkeypatch.setattr(family, "rows_at_once", lambda xp, row_bytes, on_cpu: 400)


def agree(here: np.ndarray, there: np.ndarray, name: str, tolerance: float = AGREE) -> None:
    assert here.dtype == there.dtype and here.shape == there.shape, name
    np.testing.assert_allclose(there, here, rtol=tolerance, atol=tolerance, err_msg=name)


def moved(value: Any) -> Any:
    return strict_cupy.asarray(value)


def on_both(call: Callable[..., Any], *given: Any) -> tuple[Any, Any]:
    """What a function says of NumPy's arrays, and of the card's."""
    here = call(*given)
    there = call(*(moved(one) if isinstance(one, np.ndarray) else one for one in given))
    return here, there


@pytest.mark.parametrize("family", ASKED)
def test_a_card_predicts_what_a_cpu_does(
    finished: Path, table: pa.Table, small_batches: None, family: str
) -> None:
    model = load_model(finished / "store/models" / family, **ASKED[family])
    here = model.predict(table)
    with on_card():
        there = model.predict(table)
        counts.begin()
        again = model.predict(table)
    batches = -(-ROWS // 400)
    assert counts.uploads == counts.downloads == batches
    assert here.schema == there.schema == again.schema
    assert {bool(bit) for bit in np.asarray(here["quality"]) & 1} == {True, False}
    for name in here.column_names:
        cpu, card, twice = (to_numpy(one[name]) for one in (here, there, again))
        np.testing.assert_array_equal(twice, card)
        if name == "pz":
            # A density of cells of 0.01 in z: what agrees is the probability in them.
            cpu, card = cpu * np.float32(0.01), card * np.float32(0.01)
        agree(cpu, card, name)


def test_cleaning_and_features_agree() -> None:
    rng = np.random.default_rng(0)
    value = rng.uniform(18, 28, (1000, 3))
    value[::7, 0], value[::5, 1], value[::11, 2] = 99, -99, np.nan
    error = rng.uniform(0.01, 0.5, (1000, 3))
    error[::7, 0] = 26.5
    bands = tuple(
        Band(name=name, wavelength=length, width=900, depth=25.0)
        for name, length in (("g", 4800), ("r", 6200), ("i", 7700))
    )
    photometry = Photometry(
        sentinels=(
            Sentinel(value=99, meaning="not_detected", error_is_limit=True),
            Sentinel(value=-99, meaning="not_observed"),
        )
    )
    recipe = StandardClean(error_floor=0.01, extinction=True)
    mask, saturated = rng.random((1000, 3)) < 0.05, rng.random(1000) < 0.05
    reddening = rng.uniform(-0.1, 0.3, 1000)
    shapes = np.where(rng.random((1000, 2)) < 0.1, np.nan, rng.normal(size=(1000, 2)))

    def cleaned(*given: Any) -> FluxBlock:
        value, error, mask, saturated, reddening = given
        return clean(
            value, error, photometry, bands, recipe,
            mask=mask, saturated=saturated, reddening=reddening,
        )  # fmt: skip

    here, there = on_both(cleaned, value, error, mask, saturated, reddening)
    for name, array in vars(there).items():
        agree(vars(here)[name], array.get(), name)
    learnt = learn_features(here, bands, shapes, ("a", "b"))
    seen = features(learnt, here, shapes)
    agree(seen, features(learnt, there, moved(shapes)).get(), "features")
    novelty = learn_novelty(seen[:800], seen[800:], 1)
    agree(novelty.score(seen), novelty.score(moved(seen)).get(), "novelty")


HEADS = (
    ClassesHead("star", 0, quasars=True),
    PointHead("log_mass", 3, 2, centre=10.0, scale=0.5, floor=0.01),
    PointHead("abs_mag_b", 9, 2, centre=-20.0, scale=1.5, floor=0.01),
    CellsHead("redshift", 15, low=0.0, high=1.0, bins=120),
)
CALIBRATION = {
    "redshift": Calibration(STRAIGHT, warp=WARP).to_json(),
    "star": SoftmaxScale(0.9, (0.0, 0.1, -0.1), 999).to_json(),
    "log_mass": Calibration(warp=WARP).to_json(),
    "abs_mag_b": Calibration().to_json(),
}


def told(rows: int, members: int = 2) -> np.ndarray:
    """What networks might say: a peak among the cells, and mild numbers elsewhere."""
    rng = np.random.default_rng(5)
    outputs = rng.normal(size=(rows, members, 135)).astype(np.float32)
    away = (np.arange(120) - rng.uniform(10, 110, (rows, 1, 1))) / rng.uniform(1, 9, (rows, 1, 1))
    outputs[:, :, 15:] = -0.5 * away**2 + 0.1 * outputs[:, :, 15:]
    return outputs


@pytest.mark.parametrize("members", [1, 2])
def test_decoding_with_all_corrections_agrees(members: int) -> None:
    outputs = told(700, members)
    magnitude = np.where(np.arange(700) % 9, np.linspace(18, 26, 700), np.nan).astype(np.float32)
    settings = DecodeSettings(0.02, tuple(np.linspace(0, 1.7, 171)))
    here, there = on_both(
        lambda *given: {
            name: column
            for kind in (ClassesHead, PointHead, CellsHead)
            for name, column in kind.decode(
                [head for head in HEADS if type(head) is kind],  # type: ignore[arg-type]
                given[0], CALIBRATION, given[1], settings,
            ).items()
        },
        outputs, magnitude,
    )  # fmt: skip
    assert set(here) == set(there)
    for name, column in here.items():
        width = np.float32(0.01) if name == "pz" else np.float32(1)
        agree(column * width, there[name].get() * width, name)


def test_draws_are_the_same_on_both() -> None:
    rng = np.random.default_rng(1)
    slope = rng.normal(0, 0.02, (3, 135)).astype(np.float32)
    flux, error = (rng.uniform(*ends, (300, 3)).astype(np.float32) for ends in ((5, 50), (0.1, 2)))
    base, seen = told(300), np.ones((300, 3), bool)

    def drawn(flux: Any, error: Any, seen: Any, base: Any, slope: Any) -> dict[str, Any]:
        block = FluxBlock(flux, error, seen, seen, seen[:, 0])

        def ask(block: FluxBlock) -> Any:
            return base + (block.flux @ slope)[:, None, :]

        calibration = CALIBRATION | {"star": SoftmaxScale().to_json()}
        return scatter(ask, block, ask(block), HEADS, calibration, 8, 0)

    here, there = on_both(drawn, flux, error, seen, base, slope)
    for name, column in here.items():
        agree(column, there[name].get(), name)
    counts.begin()
    on_both(drawn, flux, error, seen, base, slope)
    assert counts.uploads == 5 and counts.downloads == 0


def test_densities_agree() -> None:
    rng = np.random.default_rng(2)
    shares = rng.dirichlet(np.full(60, 0.3), 200).astype(np.float32)
    edges = np.linspace(0, 0.8, 61, dtype=np.float32)
    grid = np.linspace(0, 1.1, 111)
    here, there = on_both(
        lambda shares, edges: density(Binned.of(shares, edges), grid), shares, edges
    )
    agree(here * np.float32(0.01), there.get() * np.float32(0.01), "density")
    quantiles = np.sort(rng.uniform(0, 1, (200, len(QUANTILES))), axis=1).astype(np.float32)
    here, there = on_both(lambda at: density_of_quantiles(at, QUANTILES, grid), quantiles)
    agree(here * np.float32(0.01), there.get() * np.float32(0.01), "density of quantiles")


def test_corrections_take_arrays_of_any_order() -> None:
    reached = np.linspace(0.0, 1.0, 60, dtype=np.float32).reshape(4, 15)
    magnitude = np.linspace(19, 25, 4, dtype=np.float32)
    for call in (lambda x, m: WARP.apply(x.T, m), lambda x, m: STRAIGHT.apply(x.T)):
        here, there = on_both(call, reached, magnitude)
        agree(here, there.get(), "correction")
    here, there = on_both(lambda x: LogitScale(1.2, 0.1, 99).apply(x), reached)
    agree(here, there.get(), "logit")


def network_file(finished: Path) -> Path:
    return finished / "store/models/photometric/network.onnx"


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "CARD_ROWS", 64)


def inputs(file: Path, rows: int) -> np.ndarray:
    width = OnnxNetwork(file)._session.get_inputs()[0].shape[1]
    return np.random.default_rng(0).normal(size=(rows, width)).astype(np.float32)


@pytest.mark.parametrize("rows", [0, 1, 63, 64, 65, 200])
def test_onnxruntime_reads_and_writes_on_the_card(
    finished: Path, few_rows: None, rows: int
) -> None:
    file = network_file(finished)
    given = inputs(file, rows)
    wanted = OnnxNetwork(file)(given)
    with onnxruntime_with_cuda() as sessions:
        network = OnnxOnCard(file, strict_cupy)
        (options,) = sessions.opened
        there = moved(given)
        counts.begin()
        found = network(there)
        assert (counts.uploads, counts.downloads, counts.waits) == (0, 0, 1)
        # Columns that are not next to each other in memory are the same numbers.
        turned = network(moved(given.T.copy()).T)
    assert options["use_tf32"] == "0" and options["device_id"] == "0"
    agree(wanted, found.get(), "outputs")
    np.testing.assert_array_equal(found.get(), turned.get())


def test_a_lack_of_memory_on_the_card_is_a_memory_error(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("Failed to allocate memory for requested buffer of size 1")

    file = network_file(finished)
    given = moved(inputs(file, 3))
    with onnxruntime_with_cuda():
        network = OnnxOnCard(file, strict_cupy)
        monkeypatch.setattr(CudaSession, "run_with_iobinding", fail)
        with pytest.raises(MemoryError, match="onnxruntime"):
            network(given)


def no_build() -> Any:
    raise AssertionError("no Keras model is needed")


def test_who_runs_the_network(
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = network_file(finished).parent
    monkeypatch.setattr(runtime, "tensorflow_has_card", lambda: False)
    assert isinstance(open_network(folder, "network", no_build, np), OnnxNetwork)
    with onnxruntime_with_cuda():
        on = open_network(folder, "network", no_build, strict_cupy)
        assert isinstance(on, OnnxOnCard)
        # A driver too old: onnxruntime says so to nobody, and takes the CPU.
        monkeypatch.setattr(CudaSession, "active", False)
        through = open_network(folder, "network", no_build, strict_cupy)
    assert isinstance(through, ThroughHost) and "onnxruntime-gpu" in caplog.text
    given = inputs(folder / "network.onnx", 9)
    agree(OnnxNetwork(folder / "network.onnx")(given), through(moved(given)).get(), "through host")
    monkeypatch.setattr(runtime, "tensorflow_has_card", lambda: True)
    with pytest.raises(AssertionError, match="Keras"):
        open_network(folder, "network", no_build, strict_cupy)


def test_tensorflow_reads_and_writes_on_the_card(few_rows: None) -> None:
    import keras
    import tensorflow as tf

    entry = keras.Input((5,))
    model = keras.Model(entry, keras.layers.Dense(3, activation="silu")(entry))
    given = np.random.default_rng(0).normal(size=(150, 5)).astype(np.float32)
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    try:
        network = KerasOnCard(model)
        assert not tf.config.experimental.tensor_float_32_execution_enabled()
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)
    there = moved(given)
    counts.begin()
    found = network(there)
    assert (counts.uploads, counts.downloads) == (0, 0)
    agree(np.asarray(model(given)), found.get(), "outputs")
    assert network(moved(given[:0])).shape == (0, 3)


def test_a_card_with_onnxruntime_alone_needs_no_tensorflow(finished: Path) -> None:
    script = (
        "import sys, pyarrow as pa\n"
        "from pathlib import Path\n"
        "from card import on_card\n"
        "from galbatch.mock.observe import mock_batches\n"
        "from galbatch.models.families import load_model\n"
        "from galbatch.spec import load_survey\n"
        "table = pa.concat_tables(mock_batches(load_survey('alhambra'), 50, 8, 50))\n"
        "with on_card():\n"
        "    for family in ('photometric', 'thesis'):\n"
        f"        load_model(Path({str(finished / 'store/models')!r}, family)).predict(table)\n"
        "assert not {'tensorflow', 'keras', 'onnx'} & set(sys.modules)\n"
    )
    path = [str(REPOSITORY), str(REPOSITORY / "tests")]
    code = f"import sys; sys.path[:0] = {path!r}\n{script}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rows_of_a_batch_are_told_by_the_family(
    finished: Path, table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strict_cupy, "MEMORY", 1)
    arrays._memory.cache_clear()
    model = load_model(finished / "store/models/photometric")
    with on_card():
        model.predict(table)
        counts.begin()
        model.predict(table)
    arrays._memory.cache_clear()
    assert counts.uploads == 2 and strict_cupy.pool_limits
