"""Classes and redshifts of 110 real spectra by the scan of templates, and what it costs.

    GALBATCH_DATA=... python benchmarks/spectra_scan.py [--quick] [--redrock]

The spectra (`sdss_spectra_110`) are examples that the authors of GaSNet-III kept: a third at
random, the rest because their chi-square was the largest or their D the least. Labels are those of
SDSS's pipeline, which was made with templates such as these (`spectral_templates`): agreement is
not independent. They are judges, and nothing is tuned on them. Noise of their own errors is added
until it is four and eight times as large (median S/N 2.3 and 1.2), with several seeds; goals stand
beside the figures. CPU time is that of one core, and the plain loop is a weighted least squares at
each shift for a few spectra. `--redrock` runs redrock too, on the same spectra, in an environment
of its own (uv); its galaxies are the same eigenspectra, its quasars and stars its own.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1"))

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from galbatch.spectra.clean import cleaned
from galbatch.spectra.grids import LogGrid
from galbatch.spectra.scan import ScanResult, ScanSettings, scan
from galbatch.spectra.templates import Basis, read_sdss, star_bases
from galbatch.spectra.weighted import polynomials

Array = NDArray[np.float64]
GRID = LogGrid(3.5563, 1e-4, 4076)
FAST, FULL = ScanSettings(), ScanSettings(fast=False)
LIMITS = {"GALAXY": 0.001, "QSO": 0.01, "STAR": 0.001}
# Class, then good redshifts of galaxies, quasars (within 0.003 without added noise, else 0.01) and
# stars.
GOALS = {
    1: (0.98, 0.97, 0.90, 0.97),
    4: (0.94, 0.93, 0.77, 0.95),
    8: (0.84, 0.74, 0.50, 0.88),
}
FIRST = {
    1: (1.0, 1.0, 0.88, 1.0),
    4: (0.916, 0.937, 0.746, 0.900),
    8: (0.833, 0.743, 0.459, 0.853),
}
SCRIPT = Path(__file__).parent / "peers" / "redshifts.py"
TOOLS = str(Path(__file__).parents[1] / ".tools" / "bin")
LOOPED = 2
EACH = 40
"""Of the loop's shifts one in so many is timed."""


@dataclass(frozen=True)
class Sample:
    """The spectra, and what SDSS says of them."""

    flux: Array
    ivar: Array
    kind: NDArray[np.str_]
    z: Array

    def noisier(self, factor: int, seed: int) -> tuple[Array, Array]:
        """Flux and inverse variance with so many times the noise."""
        good = self.ivar > 0
        sigma = np.where(good, 1 / np.sqrt(np.where(good, self.ivar, 1)), 0)
        noise = np.random.default_rng(seed).standard_normal(self.flux.shape)
        return self.flux + np.sqrt(factor**2 - 1) * sigma * noise, self.ivar / factor**2


def load_sample(folder: Path) -> Sample:
    table = pq.read_table(folder / "sdss_spectra_110" / "sdss_spectra_110.parquet")
    flux, ivar = (np.stack(table[name].to_numpy()).astype(np.float64) for name in ("flux", "ivar"))
    kind = np.array(table["cls"].to_pylist())
    return Sample(flux, cleaned(flux, ivar, GRID), kind, table["z"].to_numpy())


def load_bases(folder: Path) -> tuple[Basis, ...]:
    """Four galaxies' and four quasars' eigenspectra, and 123 stars."""
    here = folder / "spectral_templates"
    table = pq.read_table(here / "sdss_star_templates_123.parquet")
    vectors = np.stack(table["flux"].to_numpy())
    first = np.load(here / "sdss_star_templates_wavelength.npy")[0]
    grid = LogGrid(round(float(np.log10(first)), 4), 1e-4, vectors.shape[1])
    return (
        *read_sdss(here / "spEigenGal-56436.fits", "GALAXY"),
        *read_sdss(here / "spEigenQSO-58596.fits", "QSO", most=4),
        *star_bases(table["name"].to_pylist(), vectors, grid),
    )


def auc(score: Array, wrong: NDArray[np.bool_]) -> float:
    """How often a wrong one has a lower score than a right one."""
    if not wrong.any() or wrong.all():
        return float("nan")
    low, high = score[wrong][:, None], score[~wrong][None]
    return float(((low < high) + 0.5 * (low == high)).mean())


def judged(found: ScanResult | Peer, sample: Sample) -> dict[str, float]:
    off = (found.z - sample.z) / (1 + sample.z)
    made = {"class": float((found.kind == sample.kind).mean())}
    for kind, limits in (("GALAXY", (0.001,)), ("QSO", (0.001, 0.003, 0.01)), ("STAR", (0.001,))):
        own = off[sample.kind == kind]
        made |= {f"{kind} {limit}": float((abs(own) < limit).mean()) for limit in limits}
        near = own[abs(own) < LIMITS[kind]]
        made |= {
            f"{kind} MAD": float(np.median(abs(near))),
            f"{kind} offset": float(np.median(near)),
        }
    limit = np.array([LIMITS[kind] for kind in sample.kind])
    wrong = ~(abs(off) < limit)
    made |= {"AUC of D": auc(found.d_score, wrong), "AUC of delta": auc(found.delta_chi2, wrong)}
    made["AUC of chi2"] = auc(-found.chi2 / found.dof, wrong)
    return made


def same(one: ScanResult, other: ScanResult) -> NDArray[np.bool_]:
    """Class and redshift."""
    return np.asarray((one.kind == other.kind) & (one.shift == other.shift))


def loop_seconds(sample: Sample, bases: Sequence[Basis]) -> float:
    """CPU seconds of a spectrum by weighted least squares at each shift, from a part of them."""
    table = polynomials(GRID.points, FAST.degree)
    start = time.process_time()
    for flux, ivar in zip(sample.flux[:LOOPED], sample.ivar[:LOOPED], strict=True):
        for basis in bases:
            low, high = (round(GRID.pixels(z)) for z in basis.redshifts)
            for shift in range(low, high + 1, EACH):
                first = round((GRID.first - basis.grid.first) / GRID.step) - shift
                model = np.concatenate([basis.vectors[:, first : first + GRID.points], table])
                weighted = model * ivar
                found = np.linalg.solve(weighted @ model.T, weighted @ flux)
                _ = (ivar * (flux - found @ model) ** 2).sum()
    shifts = [len(range(round(GRID.pixels(b.redshifts[0])), round(GRID.pixels(b.redshifts[1])) + 1))
              for b in bases]  # fmt: skip
    timed = sum(-(-count // EACH) for count in shifts)
    return (time.process_time() - start) / LOOPED * sum(shifts) / timed


def timed(
    sample: tuple[Array, Array], bases: tuple[Basis, ...], settings: ScanSettings
) -> tuple[ScanResult, float]:
    """The result, and CPU milliseconds of a spectrum."""
    start = time.process_time()
    found = scan(*sample, GRID, bases, settings)
    return found, (time.process_time() - start) / len(found.z) * 1e3


@dataclass(frozen=True)
class Peer:
    """What redrock says of the spectra, in the words of `judged`."""

    kind: NDArray[np.str_]
    z: Array
    d_score: Array
    delta_chi2: Array
    chi2: Array
    dof: Array


def by_redrock(spectra: tuple[Array, Array], folder: Path) -> tuple[Peer, float]:
    """The result, and CPU milliseconds of a spectrum."""
    uv = shutil.which("uv") or shutil.which("uv", path=TOOLS)
    if uv is None:
        sys.exit("uv, which makes redrock's environment, is not installed")
    flux, ivar = spectra
    with tempfile.TemporaryDirectory() as place:
        given, out = Path(place, "spectra.npz"), Path(place, "out.npz")
        wavelength = 10.0 ** (GRID.first + GRID.step * np.arange(GRID.points))
        np.savez(given, allow_pickle=False, flux=flux, ivar=ivar, wavelength=wavelength)
        eigenspectra = folder / "spectral_templates" / "spEigenGal-56436.fits"
        environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
        subprocess.run(
            [uv, "run", "--quiet", "--no-project", "--script", str(SCRIPT), str(given),
             str(folder / "redrock_templates"), str(eigenspectra), str(out)],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
        with np.load(out) as found:
            dof = (ivar > 0).sum(axis=1).astype(np.float64)
            peer = Peer(found["kind"], found["z"], found["delta_chi2"] / found["chi2"],
                        found["delta_chi2"], found["chi2"], dof)  # fmt: skip
            return peer, float(found["seconds"]) / len(flux) * 1e3


def line(name: str, values: Sequence[float], extra: str = "") -> str:
    scatter = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"  {name:<14} {np.nanmean(values):9.3f}{scatter}{extra}"


def show(factor: int, results: list[dict[str, float]]) -> None:
    names = ("class", "GALAXY 0.001", f"QSO {0.003 if factor == 1 else 0.01}", "STAR 0.001")
    beside = dict(zip(names, zip(GOALS[factor], FIRST[factor], strict=True), strict=True))
    if factor > 1:
        beside["AUC of D"] = (0.96, 0.963)
    for name in results[0]:
        values = [result[name] for result in results]
        if name.endswith(("MAD", "offset")):
            print(f"  {name:<14} {np.mean(values):9.1e}")
            continue
        goal = "   goal {}, first scan {}".format(*beside[name]) if name in beside else ""
        print(line(name, values, goal))


def main() -> None:
    quick = "--quick" in sys.argv
    folder = Path(os.environ.get("GALBATCH_DATA", "data"))
    if not (folder / "sdss_spectra_110").is_dir():
        print(f"skipped: {folder / 'sdss_spectra_110'} is not a folder (set GALBATCH_DATA)")
        return
    sample, bases = load_sample(folder), load_bases(folder)
    for settings in (FAST, FULL):
        scan(sample.flux[:4], sample.ivar[:4], GRID, bases, settings)
    cost: dict[int, tuple[float, float]] = {}
    for factor, seeds in ((1, 1), (4, 2 if quick else 5), (8, 2 if quick else 5)):
        results, alike, spent = [], [], []
        for seed in range(seeds):
            noisy = sample.noisier(factor, seed)
            found, fast = timed(noisy, bases, FAST)
            results.append(judged(found, sample))
            if not quick or seed == 0:
                whole, full = timed(noisy, bases, FULL)
                alike.append(float(same(found, whole).mean()))
                spent.append((fast, full))
        print(f"noise x {factor}, {seeds} seed(s), {len(sample.z)} spectra")
        show(factor, results)
        print(line("same as full", alike, "   goal 0.995"))
        if "--redrock" in sys.argv and factor < 8:
            peer, spent_by_it = by_redrock(sample.noisier(factor, 0), folder)
            print(f"redrock, one seed, {spent_by_it:.0f} CPU ms a spectrum")
            show(factor, [judged(peer, sample)])
        cost[factor] = (
            float(np.median([one for one, _ in spent])),
            float(np.median([two for _, two in spent])),
        )
    looped = loop_seconds(sample, bases) * 1e3
    print("CPU milliseconds of a spectrum on one core (goal 2; moonshot 1)")
    for factor, (fast, full) in cost.items():
        print(f"  noise x {factor}: fast {fast:.2f}, full {full:.1f} ({full / fast:.1f} times), "
              f"loop {looped:.0f} ({looped / fast:.0f} times)")  # fmt: skip


if __name__ == "__main__":
    main()
