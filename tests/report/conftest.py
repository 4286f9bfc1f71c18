"""A made-up run, for the page."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, ndtri

from galbatch.quality.evaluation import evaluate
from galbatch.quality.metrics import count
from galbatch.report.data import (
    HeldOut,
    LossCurve,
    ModelReport,
    Quarantine,
    Reference,
    ReportData,
    SinkSummary,
    SkyPartition,
    StageSummary,
    TargetLabels,
)
from galbatch.values import TARGETS, RejectedRow

LEVELS = np.array(
    [0.005, 0.025, 0.05, 0.1, 0.16, 0.25, 0.375, 0.5, 0.625, 0.75, 0.84, 0.9, 0.95, 0.975, 0.995]
)
SOURCE = "ALHAMBRA BPZ2, 22.5 < I < 24.5"


def make_report(rows: int = 3000, seed: int = 1) -> ReportData:
    """A run with two models, held-out rows, a quarantine and references."""
    random = np.random.default_rng(seed)
    magnitude = 24.3 - random.exponential(1.3, rows)
    z = np.clip(random.gamma(3.0, 0.25, rows) * (1 + 0.12 * (magnitude - 22)), 0.02, 2.2)
    star = (random.random(rows) < 0.15).astype(float)
    galaxy = star == 0
    truth = {
        "redshift": np.where(galaxy, z, np.nan),
        "star": star,
        "log_mass": np.where(galaxy, random.normal(10.2, 0.7, rows), np.nan),
        "spectral_type": np.where(galaxy, random.uniform(1, 11, rows), np.nan),
        "abs_mag_b": np.where(galaxy, random.normal(-20, 1.4, rows), np.nan),
    }

    def predictions(scale: float, full: bool) -> dict[str, np.ndarray]:
        width = scale * 0.011 * (1 + np.exp(magnitude - 23.2)) * (1 + z)
        mode = z + width * random.normal(size=rows)
        lost = random.random(rows) < 0.02 * scale
        mode[lost] = random.uniform(0.02, 1.8, lost.sum())
        columns = {
            "z_mode": mode,
            "prob_star": expit(4 / scale * (2 * star - 1) + 2.2 * random.normal(size=rows)),
            "log_mass": truth["log_mass"] + random.normal(0, 0.15 * scale, rows),
            "spectral_type": 0.8 * truth["spectral_type"] + 1.2 + random.normal(0, 0.6, rows),
            "abs_mag_b": truth["abs_mag_b"] + random.normal(0, 0.2 * scale, rows),
        }
        if full:
            columns |= {
                "odds": np.clip(np.exp(-width * 25), 0, 1),
                "z_quantiles": mode[:, None] + width[:, None] * ndtri(LEVELS),
                "z_err68_low": mode - width,
                "z_err68_high": mode + width,
                "z_err95_low": mode - 1.96 * width,
                "z_err95_high": mode + 1.96 * width,
                "log_mass_low68": columns["log_mass"] - 0.15,
                "log_mass_high68": columns["log_mass"] + 0.15,
            }
        return columns

    good, poor = predictions(1.0, True), predictions(4.0, False)
    poor["z_mode"][:12] = np.nan
    labels = tuple(TargetLabels(target, 9800, 1400, 2800) for target in TARGETS)
    epochs = np.arange(40)

    def curve(name: str, shift: float) -> LossCurve:
        fall = np.exp(-epochs / 9)
        return LossCurve(
            name, tuple(0.4 + shift + fall), tuple(0.46 + shift + fall + 0.002 * epochs)
        )

    catalogue = 14 * rows
    return ReportData(
        job="alhambra",
        survey="ALHAMBRA, 20 + 3 bands",
        version="0.1.0",
        when="20 November 2026, 23:26 UTC",
        where="2 workers on node07",
        reference_band="F814W",
        rows_read=catalogue + 25,
        rows_rejected=25,
        rows_ingested=catalogue,
        partitions=24,
        stages=(
            StageSummary("scan", 1, catalogue + 25, 3.1),
            StageSummary("ingest", 24, catalogue, 9.2, reused=3),
            StageSummary("train photometric", 1, 0, 312.0),
            StageSummary("predict photometric", 24, catalogue, 4.4),
        ),
        sinks=(SinkSummary("duckdb: alhambra.duckdb", "photometric", "photometric", catalogue),),
        quarantine=(
            Quarantine(
                "rows",
                "expected 113 fields, found 112",
                25,
                (RejectedRow("alhambra.csv.gz", 1201, "expected 113 fields, found 112"),),
            ),
            Quarantine(
                "partition",
                "checksum of the Parquet file is wrong",
                1,
                (RejectedRow("o5-p4123", 0, "checksum of the Parquet file is wrong"),),
            ),
        ),
        notices=("Simulated catalogue: the labels are the truth of the simulation.",),
        aliases=("RAdeg -> RA", "zb_min_1 -> zb_Min_1"),
        notes=("113 columns of the survey were found.",),
        models=(
            ModelReport(
                name="photometric",
                kind="photometric",
                fingerprint="8d1f6a90c3",
                predicted=catalogue,
                labels=labels,
                card=(("features", "74"), ("redshift widths scaled by", "1.08")),
                history=tuple(curve(f"member {n}", 0.01 * n) for n in (1, 2, 3, 4)),
                evaluation=evaluate(TARGETS, good, truth, magnitude, quantile_levels=LEVELS),
                held_out=good,
                redshifts=count(np.tile(good["z_mode"], 14), np.linspace(0, 2.4, 49)),
                ood=count(random.gamma(2, 1, catalogue), np.linspace(0, 15, 40)),
                quality={"ok": catalogue - 2300, "few_bands": 1800, "out_of_distribution": 700},
            ),
            ModelReport(
                name="thesis",
                kind="thesis",
                fingerprint="11c09f72aa",
                predicted=catalogue,
                labels=labels,
                evaluation=evaluate(TARGETS, poor, truth, magnitude),
                held_out=poor,
                redshifts=count(np.tile(poor["z_mode"], 14), np.linspace(0, 2.4, 49)),
            ),
        ),
        held_out=HeldOut(
            "20 % of the sky cells (HEALPix order 9), never trained, tuned or calibrated on.",
            truth,
            magnitude,
        ),
        references=(
            Reference("redshift", "sigma_nmad", 0.014, SOURCE),
            Reference("star", "accuracy", 0.9905, "Cacho (2020), validation"),
            Reference("redshift", "r2", 0.376, "Cacho (2020), validation"),
        ),
        magnitudes=count(24.8 - random.exponential(1.1, catalogue), np.arange(16, 25.01, 0.25)),
        sky=tuple(
            SkyPartition(f"o5-p{n}", 35 + (n % 6) * 0.9, (n // 6) * 0.9, 400 * (n + 1), n == 7)
            for n in range(24)
        ),
    )


@pytest.fixture(scope="session")
def full_report() -> ReportData:
    """Two models, everything there."""
    return make_report()
