"""The default model beside the exact posterior of the simulated sky: the limit for any method.

    python benchmarks/mock_posterior.py [--surveys alhambra jpas] [--rows 60000] [--judged 2000]
    python benchmarks/mock_posterior.py --job JOB [--set store=STORE ...]

For each survey: `galbatch run` on a simulated catalogue with the default `photometric` model, once
as it is and once without the morphology columns; or, with `--job`, a job on a simulated catalogue
that has run already. Then, for galaxies of sky cells that no model has seen, the exact posterior
given their photometry (`limit.posterior`). All are judged by the same 15 quantiles. The
posterior knows nothing of sizes and shapes but what the stated errors tell, so a model with
morphology may come closer to it than without, or pass it.

Printed are CRPS, sigma_NMAD, outliers (> 0.15) and the KS distance of the PIT from uniform, with
ratios to the exact posterior (targets: CRPS and sigma_NMAD at most 1.10); what the posterior scores
when it is made narrower or wider about its median, which must be worse; how far a second sampler
with twice the effort and another seed differs; and sigma_NMAD by magnitude beside published figures
on real galaxies: that the simulated sky is as hard as nature is not claimed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml
from limit.posterior import CONVERGED, Effort, GalaxyPosterior, RedshiftPosterior
from numpy.typing import NDArray

from galbatch.flux.bands import photometry_and_shapes, reference_magnitude
from galbatch.flux.clean import clean
from galbatch.flux.columns import raw_photometry
from galbatch.models.pdf import QUANTILES
from galbatch.quality.distributions import crps, distribution_statistics
from galbatch.quality.evaluation import of_galaxies
from galbatch.quality.metrics import (
    bootstrap_errors,
    outlier_fraction,
    redshift_residual,
    sigma_nmad,
)
from galbatch.sample.labels import labels
from galbatch.sample.split import TEST, roles
from galbatch.spec import load_job, load_survey
from galbatch.spec.job import StandardClean
from galbatch.spec.survey import Survey
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.stages.training_rows import label_columns, split_of
from galbatch.store.layout import Layout
from galbatch.store.tables import HEALPIX, read_partition
from galbatch.values import FluxBlock

LEVELS = np.array(QUANTILES)
HALF = QUANTILES.index(0.5)
MODELS = {
    "photometric": {"kind": "photometric"},
    "no_morphology": {"kind": "photometric", "name": "no_morphology", "morphology": False},
}
EDGES = np.expm1(np.arange(0.0, np.log1p(4.1), 2e-4))
# Bins of the reference magnitude, each with what was published for real galaxies, if anything.
PUBLISHED: dict[str, tuple[tuple[float, float, str], ...]] = {
    "alhambra": (
        (17.0, 22.5, "BPZ2 0.010 (Molino et al. 2014)"),
        (22.5, 24.5, "BPZ2 0.014 (Molino et al. 2014)"),
        (24.5, 25.5, ""),
    ),
    "jpas": (
        (16.0, 20.0, ""),
        (20.0, 21.0, ""),
        (21.0, 22.0, ""),
        (22.0, 23.0, ""),
        (23.0, 24.0, ""),
        (16.0, 23.0, "LePhare about 0.013 (miniJPAS, Hernan-Caballero et al. 2021)"),
    ),
}


@dataclass(frozen=True)
class Judged:
    """Held-out galaxies."""

    survey: Survey
    block: FluxBlock
    reddening: np.ndarray | None
    true: np.ndarray
    magnitude: np.ndarray
    predictions: dict[str, pa.Table]

    def first(self, rows: int) -> tuple[FluxBlock, np.ndarray | None]:
        """Photometry and reddening of the first of them."""
        block = FluxBlock(*(array[:rows] for array in vars(self.block).values()))
        return block, None if self.reddening is None else self.reddening[:rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--surveys", nargs="+", default=["alhambra", "jpas"])
    parser.add_argument("--rows", type=int, default=60_000, help="of the simulated catalogue")
    parser.add_argument("--judged", type=int, default=2000, help="held-out galaxies")
    parser.add_argument("--checked", type=int, default=200, help="of them, sampled twice")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--job", help="judge the models of this job, which has run")
    parser.add_argument("--store", type=Path, help="where the stores go (default: temporary)")
    parser.add_argument("--set", action="append", default=[], help="changes of words of the job")
    arguments = parser.parse_args()
    if arguments.job:
        job = load_job(arguments.job, arguments.set)
        site = Site(job, load_survey(job.survey), Layout(Path(job.store)))
        judge(held_out(site, arguments.judged), arguments.checked)
        return
    with tempfile.TemporaryDirectory() as temporary:
        for name in arguments.surveys:
            folder = (arguments.store or Path(temporary)) / name
            folder.mkdir(parents=True, exist_ok=True)
            site = trained(folder, name, arguments.rows, arguments.models, arguments.set)
            judge(held_out(site, arguments.judged), arguments.checked)


def trained(folder: Path, survey: str, rows: int, models: list[str], overrides: list[str]) -> Site:
    """Run the part of the job that is not done yet."""
    job = folder / "job.yaml"
    words = {
        "name": f"mock_{survey}",
        "survey": survey,
        "source": {"kind": "mock", "rows": rows, "seed": 11},
        "store": str(folder / "store"),
        "models": [MODELS[model] for model in models],
    }
    job.write_text(yaml.safe_dump(words), encoding="utf-8")
    command = [sys.executable, "-m", "galbatch.cli", "run", str(job)]
    for override in overrides:
        command += ["--set", override]
    subprocess.run(command, check=True)
    loaded = load_job(str(job), overrides)
    return Site(loaded, load_survey(survey), Layout(folder / "store"))


def held_out(site: Site, wanted: int) -> Judged:
    """Galaxies of the split's test cells, a seeded random sample of them."""
    catalogue = Snapshot(site).catalogue
    assert catalogue is not None, "the job has not run"
    survey = site.survey
    models = [model.name for model in site.job.models if model.kind == "photometric"]
    columns = dict.fromkeys(
        (*photometry_and_shapes(survey), *label_columns(survey), survey.id.column)
    )
    split = split_of(site.job, survey)
    tables: list[pa.Table] = []
    predictions: dict[str, list[pa.Table]] = {name: [] for name in models}
    for one in catalogue.partitions:
        table = read_partition(site.layout, one)
        table = table.select([HEALPIX, *(name for name in columns if name in table.column_names)])
        role = roles(split, table[HEALPIX].to_numpy(), table[survey.id.column].to_numpy())
        true = of_galaxies("redshift", labels(survey, table))
        known = np.isfinite(true) & (role == TEST)
        tables.append(table.filter(known))
        for name in models:
            predicted = read_partition(site.layout, one, ["z_mode", "z_quantiles"], model=name)
            predictions[name].append(predicted.filter(known))
    table = pa.concat_tables(tables)
    raw = raw_photometry(table, survey, survey.band_names)
    block = clean(
        raw.value, raw.error, survey.photometry, survey.bands, StandardClean(extinction=False),
        mask=raw.mask, saturated=raw.saturated,
    )  # fmt: skip
    rows = np.random.default_rng(0).permutation(np.flatnonzero(~block.saturated))[:wanted]
    return Judged(
        survey,
        FluxBlock(*(array[rows] for array in vars(block).values())),
        None if raw.reddening is None else raw.reddening[rows],
        labels(survey, table)["redshift"][rows],
        reference_magnitude(survey, table)[rows],
        {name: pa.concat_tables(parts).take(rows) for name, parts in predictions.items()},
    )


def judge(judged: Judged, checked: int) -> None:
    """Print the tables."""
    print(f"\n{judged.survey.title}: {len(judged.true)} held-out galaxies")
    began = time.process_time()
    sampler = GalaxyPosterior(judged.survey)
    ready = time.process_time()
    exact = sampler.redshift(judged.block, EDGES, judged.reddening)
    spent = time.process_time() - ready
    print(
        f"exact posterior: {ready - began:.1f} s once, {1e3 * spent / len(judged.true):.0f} ms per "
        f"galaxy (CPU); {(~exact.converged).sum()} galaxies where the two halves of the sampler "
        f"still differ by more than {CONVERGED} in their cumulative distributions\n"
    )
    limit = score("exact posterior", judged, exact.quantiles(LEVELS), exact.mode)
    for name, table in judged.predictions.items():
        quantiles = np.array(table["z_quantiles"].to_pylist(), np.float64)
        mode = table["z_mode"].to_numpy().astype(np.float64)
        found = score(f"galbatch {name}", judged, quantiles, mode)
        ratio, error = ratios(found, limit)
        print(f"{'  ratio (target <= 1.10)':28}" + "".join(f"{value:10.3f}" for value in ratio))
        print(f"{'  +-':28}" + "".join(f"{value:10.3f}" for value in error))
    stretched(judged, exact)
    if checked:
        again(judged, exact, checked)
    by_magnitude(judged, exact)


def score(label: str, judged: Judged, quantiles: np.ndarray, mode: np.ndarray) -> np.ndarray:
    """Print a line of the table; of each row its CRPS, and the residuals of median and mode."""
    if label == "exact posterior":
        heads = ("CRPS", "nmad med", "nmad mode", "+-", "outl %", "KS", "KS 5 %", "68 %", "95 %")
        print(f"{'':28}" + "".join(f"{head:>10}" for head in heads))
    by_median, by_mode = (
        redshift_residual(point, judged.true) for point in (quantiles[:, HALF], mode)
    )
    low68, high68, low95, high95 = (
        quantiles[:, QUANTILES.index(level)] for level in (0.16, 0.84, 0.025, 0.975)
    )
    found = distribution_statistics(
        quantiles[:, HALF],
        judged.true,
        interval68=(low68, high68),
        interval95=(low95, high95),
        quantiles=quantiles,
        levels=LEVELS,
    )
    widths = sigma_nmad(by_median), sigma_nmad(by_mode), bootstrap_errors(by_mode)[1]
    print(
        f"{label:28}{found.crps:10.5f}"
        + "".join(f"{value:10.5f}" for value in widths)
        + f"{100 * outlier_fraction(by_mode):10.2f}{found.pit_ks:10.4f}"
        + f"{found.pit_ks_5percent:10.4f}{found.coverage68:10.3f}{found.coverage95:10.3f}"
    )
    return np.stack([crps(judged.true, quantiles, LEVELS), by_median, by_mode])


def ratios(ours: np.ndarray, limit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """CRPS and both sigma_NMAD over the limit's; errors by a bootstrap of the rows."""
    rng = np.random.default_rng(0)
    rows = ours.shape[1]

    def ratio(part: NDArray[np.int64]) -> np.ndarray:
        above, below = (
            np.array([np.nanmean(of[0, part]), sigma_nmad(of[1, part]), sigma_nmad(of[2, part])])
            for of in (ours, limit)
        )
        return np.asarray(above / below)

    drawn = [ratio(rng.integers(0, rows, size=(rows,))) for _ in range(200)]
    return ratio(np.arange(rows)), np.std(drawn, axis=0)


def stretched(judged: Judged, exact: RedshiftPosterior) -> None:
    """The posterior made narrower or wider about its median must score worse."""
    quantiles = exact.quantiles(LEVELS)
    median = quantiles[:, HALF, None]
    best = crps(judged.true, quantiles, LEVELS)
    print("\nCRPS of the exact posterior stretched about its median, over its own: ", end="")
    for factor in (0.7, 0.85, 1.15, 1.3):
        other = crps(judged.true, median + factor * (quantiles - median), LEVELS)
        error = np.nanstd(other - best) / np.sqrt(len(best)) / np.nanmean(best)
        print(f"x{factor} {np.nanmean(other) / np.nanmean(best):.4f}+-{error:.4f}  ", end="")
    print()


def again(judged: Judged, exact: RedshiftPosterior, rows: int) -> None:
    """Repeat the posterior with another seed and twice the effort."""
    usual = Effort()
    effort = replace(usual.more(2), bank=2 * usual.bank)
    block, reddening = judged.first(rows)
    other = GalaxyPosterior(judged.survey, seed=1, effort=effort).redshift(block, EDGES, reddening)
    scores = [
        crps(judged.true[:rows], one[:rows], LEVELS)
        for one in (exact.quantiles(LEVELS), other.quantiles(LEVELS))
    ]
    apart = np.abs(exact.cumulative[:rows] - other.cumulative).max(axis=1)
    usual_score = np.nanmean(scores[0])
    error = np.nanstd(scores[1] - scores[0]) / np.sqrt(rows) / usual_score
    print(
        f"twice the effort on {rows} of them: CRPS {np.nanmean(scores[1]) / usual_score:.4f} x "
        f"(+-{error:.4f}), cumulative distributions differ by "
        f"{np.nanmedian(apart):.3f} in the median, {np.nanpercentile(apart, 95):.3f} for 5 %"
    )


def by_magnitude(judged: Judged, exact: RedshiftPosterior) -> None:
    """sigma_NMAD in bins of the reference magnitude."""
    points = {"exact": exact.mode}
    for name, table in judged.predictions.items():
        points[name] = table["z_mode"].to_numpy().astype(np.float64)
    print(f"\nsigma_NMAD (outliers %) by {judged.survey.reference_band}")
    print(f"{'':16}{'rows':>6}" + "".join(f"{name:>20}" for name in points) + "   published")
    for low, high, published in PUBLISHED.get(judged.survey.name, ()):
        inside = (judged.magnitude >= low) & (judged.magnitude < high)
        print(f"{low:6.1f} to {high:5.1f}{inside.sum():8}", end="")
        for point in points.values():
            residual = redshift_residual(point[inside], judged.true[inside])
            print(f"{sigma_nmad(residual):12.4f} ({100 * outlier_fraction(residual):5.2f})", end="")
        print(f"   {published}")


if __name__ == "__main__":
    main()
