# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = [
#     "desc-bpz==0.4.0",
#     "pyarrow>=22",
#     "pz-rail-bpz==2.2.0",
#     "pz-rail-flexzboost==2.0.3",
#     "pz-rail-sklearn==2.0.3",
#     "scikit-learn>=1.7",
# ]
# [tool.uv]
# # xgboost looks for it on machines with several GPUs only.
# override-dependencies = ["nvidia-nccl-cu12; sys_platform == 'never'"]
# ///
"""Photometric redshifts by the field's other codes, on rows that another process has chosen.

    uv run --script benchmarks/peers/photoz.py METHOD train.parquet test.parquet out.parquet

The environment is this script's own, so that what the codes need is never in galbatch's.
`benchmarks/compare_photoz.py` writes the rows and judges what comes back.

Rows have `mag_<band>` and `err_<band>`: AB magnitudes, NaN where not observed, 99 where not
detected with the 1-sigma limiting magnitude in `err_`; the training rows have `redshift` as well.
The schema's metadata (`peers`, JSON) says which bands there are, with their limits and curves, and
which quantiles are wanted. Out come `z_mode`, `z_median`, `z_mean`, `z_quantiles` and, from a code
that has it on a grid, `density`; and in the metadata what it cost and what was chosen.

A code's settings are its authors' defaults, but for the redshift range, which is that of the
training rows, and for what the classes below say.
"""

from __future__ import annotations

import os

# Before NumPy is imported: speeds are those of one core. Fits use more processes where they can.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

Array = NDArray[np.float64]
NOT_DETECTED, NOT_OBSERVED = 99.0, -99.0
GRID = 301
FINE = 1501


@dataclass(frozen=True)
class Rows:
    """Photometry, and what there is to know about it.

    Parameters
    ----------
    magnitude, error : array, shape (n, b)
    redshift : array, shape (n,)
        NaN for rows whose redshift is asked for.
    facts : dict
        The metadata `peers` of the file.
    """

    magnitude: Array
    error: Array
    redshift: Array
    facts: dict[str, Any]

    @property
    def bands(self) -> list[str]:
        """Their names."""
        return [band["name"] for band in self.facts["bands"]]

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Where there is a measurement, shape (n, b)."""
        return np.isfinite(self.magnitude) & (self.magnitude < 50)

    @property
    def highest(self) -> float:
        """End of the redshift range."""
        return float(self.facts["highest"])

    def part(self, rows: NDArray[np.bool_]) -> Rows:
        """Some of the rows."""
        return Rows(self.magnitude[rows], self.error[rows], self.redshift[rows], self.facts)


@dataclass(frozen=True)
class Summary:
    """What is said of each row's redshift.

    Parameters
    ----------
    mode, median, mean : array, shape (n,)
        NaN throughout where a code does not give it.
    quantiles : array, shape (n, k), or None
    density : array, shape (n, GRID), or None
        On `numpy.linspace(0, highest, GRID)`.
    """

    mode: Array
    median: Array
    mean: Array
    quantiles: Array | None = None
    density: Array | None = None


class Peer(Protocol):
    """A code: what `fit` takes and what `predict` takes is timed, `summary` is not."""

    packages: tuple[str, ...]
    smooth: bool
    """Whether its distributions have a density."""

    def fit(self, train: Rows) -> str:
        """Learn, and say what was chosen."""
        ...

    def predict(self, test: Rows) -> Any:
        """What the code itself gives."""
        ...

    def summary(self, predicted: Any, test: Rows) -> Summary:
        """The same, in the common form."""
        ...


class TrainZ:
    """Every object has the redshifts of the whole training set: what any code must beat."""

    packages = ("numpy",)
    smooth = True

    def fit(self, train: Rows) -> str:
        """Keep the redshifts."""
        self._redshift = np.sort(train.redshift)
        return ""

    def predict(self, test: Rows) -> Array:
        """The same quantiles for all."""
        return np.tile(np.quantile(self._redshift, test.facts["levels"]), (len(test.redshift), 1))

    def summary(self, predicted: Array, test: Rows) -> Summary:
        """Median and mean; a mode would be an arbitrary one."""
        shape = len(predicted)
        return Summary(
            np.full(shape, np.nan),
            np.full(shape, np.median(self._redshift)),
            np.full(shape, self._redshift.mean()),
            predicted,
        )


class Forest:
    """scikit-learn's ExtraTrees, 200 trees: the trees' values are the distribution's sample."""

    packages = ("scikit-learn",)
    # Many trees give the very same redshift, that of one training row.
    smooth = False

    def fit(self, train: Rows) -> str:
        """Grow the trees."""
        from sklearn.ensemble import ExtraTreesRegressor

        self._forest = ExtraTreesRegressor(200, random_state=0, n_jobs=-1)
        self._forest.fit(far_off(train), train.redshift)
        return "200 trees; magnitudes and neighbouring colours"

    def predict(self, test: Rows) -> tuple[Array, Array]:
        """Quantiles over the trees, and their mean."""
        inputs = far_off(test).astype(np.float32)
        values = np.stack([tree.predict(inputs) for tree in self._forest.estimators_])
        return np.quantile(values, test.facts["levels"], axis=0).T, values.mean(axis=0)

    def summary(self, predicted: tuple[Array, Array], test: Rows) -> Summary:
        """As it is."""
        quantiles, mean = predicted
        return Summary(np.full(len(mean), np.nan), middle(quantiles, test), mean, quantiles)


class Boosting:
    """scikit-learn's HistGradientBoosting: a fit for each quantile, one for the mean.

    It knows what a missing value is: bands that are not there stay NaN.
    """

    packages = ("scikit-learn",)
    smooth = True

    def fit(self, train: Rows) -> str:
        """One after the other."""
        from sklearn.ensemble import HistGradientBoostingRegressor

        words = {"early_stopping": True, "max_iter": 500, "learning_rate": 0.05, "random_state": 0}
        inputs = self._inputs(train)
        self._mean = HistGradientBoostingRegressor(**words).fit(inputs, train.redshift)
        self._levels = [
            HistGradientBoostingRegressor(loss="quantile", quantile=level, **words).fit(
                inputs, train.redshift
            )
            for level in train.facts["levels"]
        ]
        return "magnitudes, errors and neighbouring colours; at most 500 trees, stopped early"

    def predict(self, test: Rows) -> tuple[Array, Array]:
        """Quantiles, in order, and the mean."""
        inputs = self._inputs(test)
        quantiles = np.stack([model.predict(inputs) for model in self._levels], axis=1)
        return np.sort(quantiles, axis=1), self._mean.predict(inputs)

    def summary(self, predicted: tuple[Array, Array], test: Rows) -> Summary:
        """As it is."""
        quantiles, mean = predicted
        return Summary(np.full(len(mean), np.nan), middle(quantiles, test), mean, quantiles)

    def _inputs(self, rows: Rows) -> Array:
        magnitude = np.where(rows.seen, rows.magnitude, np.nan)
        error = np.where(rows.seen, rows.error, np.nan)
        return np.hstack([magnitude, error, np.diff(magnitude, axis=1)])


class Rail:
    """A code of RAIL's: an informer learns, an estimator gives a qp ensemble.

    Bands are in RAIL's own form: what is not there is at the band's limiting magnitude.
    """

    packages: tuple[str, ...] = ()
    smooth = True

    def _words(self, rows: Rows) -> dict[str, Any]:
        from rail.core.data import DataStore

        # An estimator is asked several times, to be timed.
        DataStore.allow_overwrite = True
        names = [f"mag_{band}" for band in rows.bands]
        limits = [band["limit"] for band in rows.facts["bands"]]
        return {
            "bands": names,
            "err_bands": [f"err_{band}" for band in rows.bands],
            "ref_band": f"mag_{rows.facts['reference']}",
            "mag_limits": dict(zip(names, limits, strict=True)),
            "hdf5_groupname": "",
            "zmin": 0.0,
            "zmax": rows.highest,
            "nzbins": GRID,
            "nondetect_val": NOT_DETECTED,
            "output_mode": "return",
            "chunk_size": len(rows.redshift),
        }

    def _table(self, rows: Rows, missing: float = NOT_DETECTED) -> dict[str, Array]:
        # The codes write into what they are given.
        value = np.where(np.isfinite(rows.magnitude), rows.magnitude, missing)
        error = np.where(np.isfinite(rows.error), rows.error, 1.0)
        table = {"redshift": rows.redshift.copy()}
        for index, band in enumerate(rows.bands):
            table[f"mag_{band}"], table[f"err_{band}"] = value[:, index].copy(), error[:, index]
        return table

    def summary(self, predicted: Any, test: Rows) -> Summary:
        """From the ensemble's density."""
        return from_grid(predicted.pdf, test)


class FlexZBoost(Rail):
    """RAIL's FlexZBoost: bumps, sharpening and basis tuned on its own 25 % of the training rows."""

    packages = ("pz-rail-flexzboost", "flexcode", "xgboost")
    more: Mapping[str, Any] = {}

    def fit(self, train: Rows) -> str:
        """Fit, tune, fit again on all rows."""
        from rail.estimation.algos.flexzboost import FlexZBoostEstimator, FlexZBoostInformer

        # Beyond its range the cosine basis would mirror a redshift back into it.
        train = train.part(train.redshift <= train.highest)
        words = self._words(train)
        self._informer = FlexZBoostInformer.make_stage(name="inform", **words, **self.more)
        model = self._informer.inform(self._table(train))
        words["include_mag_err"] = self.more.get("include_mag_err", False)
        self._estimator = FlexZBoostEstimator.make_stage(name="estimate", model=model, **words)
        found = self._informer.model
        return f"bump threshold {found.bump_threshold:.3f}, sharpening {found.sharpen_alpha:.2f}"

    def predict(self, test: Rows) -> Any:
        """p(z) on the grid."""
        self._estimator.config.chunk_size = len(test.redshift)
        return self._estimator.estimate(self._table(test)).data


class FlexZBoostTuned(FlexZBoost):
    """The same, with the colours' errors among the inputs, and a basis that is twice as fine."""

    more: Mapping[str, Any] = {"include_mag_err": True, "max_basis": 70}


class Neighbours(Rail):
    """RAIL's k nearest neighbours, k and the kernel's width tuned on its own 25 %."""

    packages = ("pz-rail-sklearn", "scikit-learn")

    def fit(self, train: Rows) -> str:
        """Tune, then make the tree of all rows."""
        from rail.estimation.algos.k_nearneigh import KNearNeighEstimator, KNearNeighInformer

        # `only_colors` means the opposite of what it says: this way the magnitude is used as well.
        words = self._words(train) | {"only_colors": True}
        del words["err_bands"]
        self._informer = KNearNeighInformer.make_stage(name="inform", **words)
        model = self._informer.inform(self._table(train))
        words = {key: words[key] for key in words if key != "only_colors"}
        self._estimator = KNearNeighEstimator.make_stage(name="estimate", model=model, **words)
        found = self._informer.model
        return f"{found['nneigh']} neighbours, sigma {found['bestsig']:.3f}"

    def predict(self, test: Rows) -> Any:
        """A mixture for each row."""
        self._estimator.config.chunk_size = len(test.redshift)
        return self._estimator.estimate(self._table(test)).data


class Templates(Rail):
    """RAIL's BPZ-lite with the 31 COSMOS templates it ships, the HDF-N prior, and zero points.

    Zero points are what is standard: the median offset of the training rows from the best template
    at their true redshift. Errors allow for templates that do not fit, in the ultraviolet most.
    """

    packages = ("pz-rail-bpz", "desc-bpz")
    spectra, types, mismatch = "COSMOS_seds.list", [7, 12, 12], 0.05

    def fit(self, train: Rows) -> str:
        """Synthesise the templates' photometry and find the zero points."""
        from rail.estimation.algos.bpz_lite import BPZliteEstimator, BPZliteInformer

        folder = self._data(train)
        words = self._words(train) | {
            "bpz_ref_data_path": str(folder),
            "spectra_file": self.spectra,
            "override_file_offsets": True,
        }
        informer = BPZliteInformer.make_stage(name="inform", nt_array=self.types, **words)
        model = informer.inform(self._table(train, NOT_OBSERVED))
        words |= {
            "filter_list": [self._filter(band) for band in train.facts["bands"]],
            "madau_flag": "yes",
            "zp_errors": [
                0.3 if band["wavelength"] < 3000 else self.mismatch for band in train.facts["bands"]
            ],
            "unobserved_val": NOT_OBSERVED,
            "zp_offsets": [0.0] * len(train.bands),
        }
        self._estimator = BPZliteEstimator.make_stage(name="estimate", model=model, **words)
        with quiet():
            templates = self._estimator._load_templates()
        offsets = zero_points(train, templates, self._estimator.zgrid)
        self._estimator.config.zp_offsets = offsets.tolist()
        said = ", ".join(
            f"{band} {value:+.2f}" for band, value in zip(train.bands, offsets, strict=True)
        )
        return f"zero points {said}"

    def predict(self, test: Rows) -> Any:
        """p(z) on the grid."""
        self._estimator.config.chunk_size = len(test.redshift)
        with quiet():
            return self._estimator.estimate(self._table(test, NOT_OBSERVED)).data

    @staticmethod
    def _filter(band: dict[str, Any]) -> str:
        return f"peer_{band['name']}" if band["curve"] else f"DC2LSST_{band['name']}"

    def _data(self, rows: Rows) -> Path:
        import desc_bpz.paths
        from rail.utils.path_utils import RAILDIR

        folder = Path(rows.facts["folder"]) / "bpz"
        shipped = Path(RAILDIR) / "rail" / "examples_data" / "estimation_data" / "data"
        for name in ("SED", "FILTER"):
            shutil.copytree(shipped / name, folder / name, dirs_exist_ok=True)
        (folder / "AB").mkdir(exist_ok=True)
        for band in rows.facts["bands"]:
            if band["curve"]:
                np.savetxt(
                    folder / "FILTER" / f"peer_{band['name']}.res", np.array(band["curve"]).T
                )
        desc_bpz.paths.set_data_dir(str(folder))
        return folder


class FewTemplates(Templates):
    """RAIL's BPZ-lite as it comes: the 8 CWW and starburst templates."""

    spectra, types, mismatch = "CWWSB4.list", [1, 2, 5], 0.1


PEERS: dict[str, Callable[[], Peer]] = {
    "flexzboost": FlexZBoost,
    "flexzboost_tuned": FlexZBoostTuned,
    "knn": Neighbours,
    "extratrees": Forest,
    "boosting": Boosting,
    "bpz": Templates,
    "bpz_cww": FewTemplates,
    "trainz": TrainZ,
}


def far_off(rows: Rows) -> Array:
    """Magnitudes and neighbouring colours; what is missing is put far off."""
    magnitude = np.where(rows.seen, rows.magnitude, NOT_DETECTED)
    both = rows.seen[:, :-1] & rows.seen[:, 1:]
    return np.hstack([magnitude, np.where(both, np.diff(magnitude, axis=1), NOT_DETECTED)])


def middle(quantiles: Array, rows: Rows) -> Array:
    """The quantile of level one half."""
    return quantiles[:, rows.facts["levels"].index(0.5)]


def from_grid(density: Callable[[Array], Array], rows: Rows) -> Summary:
    """What is said of distributions that are known at points.

    Parameters
    ----------
    density : callable
        From redshifts, shape (m,), to densities, shape (n, m); of any norm.
    rows : Rows

    Returns
    -------
    Summary
        NaN for rows whose density is nowhere positive.
    """
    grid = np.linspace(0.0, rows.highest, FINE)
    values = np.maximum(np.asarray(density(grid)), 0.0)
    cells = (values[:, 1:] + values[:, :-1]) / 2 * np.diff(grid)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = cells / cells.sum(axis=1, keepdims=True)
        reached = np.hstack([np.zeros((len(share), 1)), np.cumsum(share, axis=1)])
        quantiles = np.stack([inverse(reached, grid, level) for level in rows.facts["levels"]], 1)
        coarse = values[:, :: (FINE - 1) // (GRID - 1)]
        width = rows.highest / (GRID - 1)
        coarse = coarse / (coarse.sum(axis=1) - (coarse[:, 0] + coarse[:, -1]) / 2)[:, None] / width
    mode = np.where(np.isfinite(share[:, 0]), grid[values.argmax(axis=1)], np.nan)
    mean = share @ ((grid[1:] + grid[:-1]) / 2)
    return Summary(mode, middle(quantiles, rows), mean, quantiles, coarse)


def inverse(reached: Array, grid: Array, level: float) -> Array:
    """Where each row's cumulative (n, m), linear between points, first reaches a level."""
    upper = np.clip((reached < level).sum(axis=1), 1, len(grid) - 1)
    rows = np.arange(len(reached))
    low, high = reached[rows, upper - 1], reached[rows, upper]
    part = (level - low) / np.where(high > low, high - low, 1.0)
    return np.where(
        np.isfinite(high), grid[upper - 1] + part * (grid[upper] - grid[upper - 1]), np.nan
    )


def zero_points(train: Rows, templates: Array, grid: Array) -> Array:
    """Offsets of the bands, to be subtracted from magnitudes.

    Parameters
    ----------
    train : Rows
    templates : array, shape (z, t, b)
        Fluxes of the templates at the grid's redshifts.
    grid : array, shape (z,)

    Returns
    -------
    array, shape (b,)
        Zero in the reference band.
    """
    seen = train.seen
    place = np.clip(np.searchsorted(grid, train.redshift), 0, len(grid) - 1)
    model = -2.5 * np.log10(np.maximum(templates[place], 1e-60))
    spread = np.hypot(np.where(seen, train.error, np.inf), 0.05)
    weight = np.where(np.isfinite(spread) & seen, spread**-2.0, 0.0)[:, None, :]
    reference = train.bands.index(train.facts["reference"])
    # A row without photometry has no weight, and says nothing below.
    total = np.maximum(weight.sum(-1, keepdims=True), 1e-30)
    offsets = np.zeros(len(train.bands))
    for _ in range(5):
        value = np.where(seen, train.magnitude - offsets, 0.0)[:, None, :]
        level = (weight * (value - model)).sum(-1, keepdims=True) / total
        left = value - model - level
        best = (weight * left**2).sum(-1).argmin(axis=1)
        left = left[np.arange(len(left)), best]
        step = np.array([np.median(left[seen[:, band], band]) for band in range(left.shape[1])])
        offsets += step - step[reference]
    return offsets


class quiet:
    """BPZ prints a page for each template and band."""

    def __enter__(self) -> None:
        self._kept, sys.stdout = sys.stdout, Path(os.devnull).open("w")

    def __exit__(self, *reason: object) -> None:
        sys.stdout.close()
        sys.stdout = self._kept


def read(path: Path) -> Rows:
    """The rows of an exchanged file."""
    table = pq.read_table(path)
    facts = json.loads(table.schema.metadata[b"peers"])
    names = [band["name"] for band in facts["bands"]]
    value, error = (
        np.stack([table[f"{kind}_{name}"].to_numpy() for name in names], axis=1)
        for kind in ("mag", "err")
    )
    known = "redshift" in table.column_names
    redshift = table["redshift"].to_numpy() if known else np.full(len(value), np.nan)
    return Rows(value, error, redshift, facts)


def write(path: Path, summary: Summary, facts: dict[str, Any]) -> None:
    """What a code says, with what it cost."""
    columns: dict[str, Any] = {
        "z_mode": summary.mode,
        "z_median": summary.median,
        "z_mean": summary.mean,
    }
    for name, matrix in (("z_quantiles", summary.quantiles), ("density", summary.density)):
        if matrix is not None:
            flat = pa.array(matrix.astype(np.float32).ravel())
            columns[name] = pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])
    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata({"peers": json.dumps(facts)}), path)


def one_core() -> None:
    """Bind this process to a core, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def seconds() -> Array:
    """Of the clock, and of this process's CPU."""
    return np.array([time.perf_counter(), time.process_time()])


def main() -> None:
    method, train_path, test_path, out = sys.argv[1:]
    train, test = read(Path(train_path)), read(Path(test_path))
    peer = PEERS[method]()
    began = time.perf_counter()
    chosen = peer.fit(train)
    fitted = time.perf_counter() - began
    one_core()
    costs = []
    for _ in range(int(test.facts["repeat"])):
        start = seconds()
        predicted = peer.predict(test)
        costs.append(seconds() - start)
    wall, cpu = np.median(costs, axis=0)
    facts = {
        "method": method,
        "chosen": chosen,
        "smooth": peer.smooth,
        "versions": {name: version(name) for name in peer.packages},
        "fit_seconds": fitted,
        "predict_seconds": wall,
        "predict_cpu_seconds": cpu,
    }
    write(Path(out), peer.summary(predicted, test), facts)


if __name__ == "__main__":
    main()
