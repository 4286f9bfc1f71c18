"""Simulated spectra: how fast, of what subclasses, and what noise leaves undecided.

    python benchmarks/mock_spectra.py [--rows 6500] [--seed 1]

Prints spectra per second of one core (CPU time, this process alone; the first chunk, which loads
the libraries, apart), the subclasses that come out for targets of each of the 13, and by signal to
noise the share whose subclass from the measured lines is not that from the noise-free ones: no
classifier can do better than these. Stars have no part in it: their subclass is that of their
light.

With SDSS's templates at hand (GALBATCH_DATA), a scan with them says how like SDSS's the mocks are,
to something that knows nothing of them: class, redshift, zero point, and what is left of the fit.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from galbatch.mock.spectra import CHUNK, MockSpectra, Observing, spectra_in_chunks
from galbatch.mock.spectrograph import BRIGHT_SKY
from galbatch.mock.targets import THIRTEEN, of_every_subclass
from galbatch.spectra.grids import LogGrid
from galbatch.spectra.scan import ScanSettings, scan
from galbatch.spectra.templates import Basis, read_sdss, star_bases

GRID = LogGrid(3.5563, 1e-4, 4076)
LEVELS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
SCANNED = 520


def main() -> None:
    """Make spectra, and print what they are."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=6500)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with threadpool_limits(limits=1):
        speed(arguments.rows, arguments.seed)
        shares(arguments.rows, arguments.seed)
        undecided(arguments.rows // 2, arguments.seed)
        data = os.environ.get("GALBATCH_DATA")
        folder = Path(data) / "spectral_templates" if data else None
        if folder is None or not folder.is_dir():
            print("\nno SDSS templates (GALBATCH_DATA): no scan with them")
        else:
            scanned(folder, arguments.seed)


def _spectra(rows: int, seed: int, median: float | None = None) -> Iterator[MockSpectra]:
    targets = of_every_subclass(np.random.default_rng(seed), rows, median)
    return spectra_in_chunks(targets, GRID, (seed,), Observing())


def speed(rows: int, seed: int) -> None:
    """Print spectra per second of a core, and the memory."""
    chunks = _spectra(rows, seed)
    start = time.process_time()
    next(chunks)
    first = time.process_time() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    left = sum(len(chunk) for chunk in chunks)
    each = (time.process_time() - start) / left
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    print(f"{GRID.points} pixels: {1.0 / each:,.0f} spectra/s of a core, {1e3 * each:.2f} ms each")
    print(f"first {CHUNK} with the libraries {first:.1f} s; memory grew by {grown / 1024:.0f} MiB")


def _decided(kind: NDArray[np.str_], one: NDArray[np.str_], two: NDArray[np.str_]) -> float:
    lines = kind != "STAR"
    return float(np.mean(one[lines] != two[lines]))


def shares(rows: int, seed: int) -> None:
    """Print what comes out of as many targets of each of the 13."""
    found: Counter[tuple[str, str]] = Counter()
    squares, pixels, bright, lost = 0.0, 0, 0.0, 0
    for part in _spectra(rows, seed):
        found.update(zip(part.kind.tolist(), part.subclass.tolist(), strict=True))
        good = (part.ivar > 0) & ~part.flawed
        squares += float(np.sum(((part.flux - part.model) ** 2 * part.ivar)[good]))
        pixels += int(good.sum())
        lost += int((part.ivar == 0).sum())
        bright += float((part.mask & BRIGHT_SKY > 0).mean()) * len(part)
    print(f"\nchi-square per good pixel {squares / pixels:.4f}; {lost / rows / GRID.points:.1%} ")
    print(f"of the pixels without data, {bright / rows:.1%} in bright lines of the sky")
    print("\nclass   subclass      share (wanted: 7.7 % each)")
    for kind, subclass in THIRTEEN:
        print(f"{kind:7} {subclass or '-':12} {found.pop((kind, subclass), 0) / rows:6.1%}")
    print(f"{'others':20} {sum(found.values()) / rows:6.1%}", dict(found.most_common(4)))


def undecided(rows: int, seed: int) -> None:
    """Print the share whose subclass the noise alone makes another."""
    print("\nsubclass from measured lines is not that from noise-free ones (stars apart)")
    print("median S/N   GALAXY    QSO   both   of all 13")
    for median in (None, *LEVELS):
        parts = list(_spectra(rows, seed, median))
        kind, one, two = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("kind", "subclass", "subclass_measured")
        )
        off = [float(np.mean((one != two)[kind == name])) for name in ("GALAXY", "QSO")]
        name = "SDSS's mix" if median is None else f"{median:g}"
        both = _decided(kind, one, two)
        print(f"{name:11} {off[0]:7.1%} {off[1]:6.1%} {both:6.1%} {np.mean(one != two):8.1%}")


def _bases(folder: Path) -> list[Basis]:
    table = pq.read_table(folder / "sdss_star_templates_123.parquet")
    wave = np.load(folder / "sdss_star_templates_wavelength.npy")
    vectors = np.array(table.column("flux").to_pylist())
    grid = LogGrid(float(np.log10(wave[0])), 1e-4, len(wave))
    return [
        *read_sdss(folder / "spEigenGal-56436.fits", "GALAXY"),
        *read_sdss(folder / "spEigenQSO-58596.fits", "QSO", most=4),
        *star_bases(table.column("name").to_pylist(), vectors, grid),
    ]


def scanned(folder: Path, seed: int) -> None:
    """Print what a scan with SDSS's own templates makes of the mocks."""
    parts = list(_spectra(SCANNED, seed + 1))
    flux, ivar, kind, subclass, redshift = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("flux", "ivar", "kind", "subclass", "redshift")
    )
    found = scan(flux.astype(float), ivar.astype(float), GRID, _bases(folder), ScanSettings())
    off = (found.z - redshift) / (1.0 + redshift)
    print(f"\nscan with SDSS's templates (4 + 4 + 123), {SCANNED} mocks")
    print("kind            n  class  <0.001 <0.003  <0.01  median off   NMAD  chi2/dof")
    groups = [(name, kind == name) for name in ("GALAXY", "QSO", "STAR")]
    groups += [
        (name or "none", (kind == "GALAXY") & (subclass == name))
        for name in ("", "AGN", "STARFORMING", "STARBURST")
    ]
    for name, rows in groups:
        right = rows & (found.kind == kind) & (np.abs(off) < 0.02)
        near = [float(np.mean(np.abs(off[rows]) < limit)) for limit in (0.001, 0.003, 0.01)]
        middle = float(np.median(off[right]))
        spread = 1.4826 * float(np.median(np.abs(off[right] - middle)))
        fit = float(np.median((found.chi2 / found.dof)[rows]))
        print(
            f"{name:12} {rows.sum():4} {np.mean(found.kind[rows] == kind[rows]):6.3f}  "
            f"{near[0]:6.3f} {near[1]:6.3f} {near[2]:6.3f} {middle:11.1e} {spread:7.1e} {fit:6.2f}"
        )


if __name__ == "__main__":
    main()
