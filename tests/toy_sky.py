"""A small survey in magnitudes, and a sky that it sees: everything can be learnt from it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from galbatch.spec.survey import Survey

WAVELENGTHS = {"u": 3800, "g": 4800, "r": 6200, "i": 7600, "z": 9000, "y": 10000}
OTHERS = (
    "id", "ra", "dec", "size", "flag", "z_spec", "kind", "mass", "type", "m_b", "secure",
)  # fmt: skip


@pytest.fixture(scope="session")
def survey() -> Survey:
    bands = [
        {"name": b, "wavelength": w, "width": 1000, "value": f"mag_{b}", "error": f"err_{b}"}
        for b, w in WAVELENGTHS.items()
    ]
    names = [f"{what}_{b}" for b in WAVELENGTHS for what in ("mag", "err")]
    secure = [{"column": "secure", "values": [1]}]
    return Survey.model_validate(
        {
            "name": "toy",
            "title": "A toy",
            "id": {"column": "id"},
            "sky": {"ra": "ra", "dec": "dec"},
            "photometry": {
                "sentinels": [
                    {"value": 99, "meaning": "not_detected", "error_is_limit": True},
                    {"value": -99, "meaning": "not_observed"},
                ],
                "saturation": {"column": "flag", "values": [1]},
            },
            "bands": bands,
            "reference_band": "i",
            "morphology": ["size"],
            "labels": {
                "redshift": {"column": "z_spec", "low": 0.01, "high": 3, "where": secure},
                "star": {"column": "kind", "galaxy": [0], "star": [1]},
                "log_mass": {"column": "mass", "low": 6, "high": 13, "scale": "log10"},
                "spectral_type": {"column": "type", "low": 1, "high": 6},
                "abs_mag_b": {"column": "m_b", "low": -27, "high": -10},
            },
            "columns": [{"name": name} for name in (*OTHERS, *names)],
        }
    )


@pytest.fixture(scope="session")
def sky() -> Callable[[int, int], pa.Table]:
    def make(rows: int, seed: int) -> pa.Table:
        rng = np.random.default_rng(seed)
        star = rng.random(rows) < 0.2
        z = np.where(star, 0.0, rng.uniform(0.1, 1.2, rows))
        kind = rng.uniform(1, 6, rows)
        bright = rng.normal(1.5, 0.5, rows)
        wavelength = np.array(list(WAVELENGTHS.values()), float)
        rest = wavelength / (1 + z[:, None])
        # A break at 4000 Angstrom, the deeper the earlier the type; stars are blue and smooth.
        step = 1 / (1 + np.exp(-(rest - 4000) / 150))
        galaxy = (0.1 + 0.1 * kind)[:, None] + step
        shape = np.where(star[:, None], (wavelength / 4000) ** -1.5, galaxy)
        flux = 10 ** bright[:, None] * shape
        error = np.full_like(flux, 0.5)
        seen = flux + error * rng.normal(size=flux.shape)
        limit = 23.9 - 2.5 * np.log10(error)
        detected = seen > error
        with np.errstate(invalid="ignore", divide="ignore"):
            mag = np.where(detected, 23.9 - 2.5 * np.log10(seen), 99.0)
            err = np.where(detected, 1.0857 * error / seen, limit)
        gone = rng.random(flux.shape) < 0.02
        mag[gone], err[gone] = -99.0, 0.0
        mass = 10 ** (8.5 + bright + z - 0.1 * kind)
        unknown: NDArray[np.float64] = np.where(rng.random(rows) < 0.3, -1.0, 1.0)
        columns = {
            "id": np.arange(rows) + 1000 * seed,
            "ra": rng.uniform(10, 14, rows),
            "dec": rng.uniform(-2, 2, rows),
            "size": np.where(star, 1.0, rng.lognormal(1, 0.4, rows)),
            "flag": (rng.random(rows) < 0.02).astype(float),
            "z_spec": z,
            "kind": np.where(rng.random(rows) < 0.2, 0.5, star),
            "mass": mass,
            "type": kind,
            "m_b": -16 - 2.5 * bright - z,
            "secure": unknown,
        }
        for index, band in enumerate(WAVELENGTHS):
            columns[f"mag_{band}"], columns[f"err_{band}"] = mag[:, index], err[:, index]
        return pa.table(columns)

    return make
