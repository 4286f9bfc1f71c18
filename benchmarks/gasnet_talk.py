"""The three tables of GaSNet-III's talk, redshifts by networks (GaSNet-II), and strange spectra.

    GALBATCH_DATA=... python benchmarks/gasnet_talk.py [--only NAME ...] [--mocks 26000]

comparison: redshifts of galaxies and quasars by learned templates, with coefficients solved at
every shift and with those of the encoder, and by SDSS's templates where they are, on simulated
spectra that were held out, and on 110 real ones, which judge and choose nothing (`spectra_scan.py`
says what they are).
MAD is the median of |z - z_true| / (1 + z_true); GF the share within 0.001 (1 + z) of galaxies and
0.003 of quasars, whatever the class that is found. Time is CPU time of one core for class and
redshift together. The published figures stand first, as they are published: of other spectra.

training-spectra: GF against how many simulated spectra at rest a basis is learned from.
eigenspectra: GF against how many vectors it has, and with its signs free or nowhere below 0.
networks: redshifts by ten sub-networks for each subclass of galaxies and quasars.
anomalies: how small `anomaly` is of spectra that are not like the simulated ones.
embedding: t-SNE (scikit-learn) of the coefficients of galaxies that were held out: how well two
numbers keep who is next to whom, and how often the next one is of the same subclass, in two numbers
and by the coefficients themselves. `--picture FILE` draws it.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.manifold import TSNE, trustworthiness
from sklearn.neighbors import NearestNeighbors
from spectra_scan import GRID, load_bases, load_sample
from threadpoolctl import threadpool_limits

from galbatch.mock.at_rest import galaxies_at_rest, quasars_at_rest
from galbatch.mock.spectra import Observing, observed_spectra
from galbatch.mock.targets import GALAXY, QSO, of_every_subclass
from galbatch.models.gasnet_encoder import Encoder
from galbatch.models.gasnet_redshifts import NETWORK, calibrated, extragalactic, redshifts, shown
from galbatch.models.runtime import OnnxNetwork
from galbatch.spec.spectral_models import GasnetModel
from galbatch.spectra.anomalies import learn_strangeness, numbers_of, strangeness
from galbatch.spectra.clean import cleaned, signal_to_noise
from galbatch.spectra.learn import learned_basis, non_negative_basis
from galbatch.spectra.network_input import NetworkInput
from galbatch.spectra.scan import ScanResult, ScanSettings, scan
from galbatch.spectra.templates import Basis
from galbatch.training.gasnet import SUBCLASSES, Simulated, learned_bases, simulated
from galbatch.training.gasnet_encoder import fitted_encoder
from galbatch.training.gasnet_redshifts import answers_of, fitted_redshifts, redshift_errors

Array = NDArray[np.float64]
Scanning = Callable[[Array, Array], ScanResult]

HELD_OUT = 2600
ASKED = ScanSettings()
GOOD = {GALAXY: 0.001, QSO: 0.003}
# MAD and GF of galaxies and of quasars, and seconds for a spectrum and core.
PUBLISHED = {
    "QXP++": "0.00037  0.980   1.15      0.055   0.4",
    "Redmonster": "0.000027 0.999   0.000452  0.977   < 0.4",
    "pPXF": "0.07723  0.854   -         -       0.03",
    "GaSNet-III": "0.000040 0.993   0.000282  0.919   0.001",
}
# Share within 0.001 and 0.01, and width of (z - z_true) / error.
GASNET_II = {
    "QSO": (0.10, 0.67, 0.86), "QSO BROADLINE": (0.29, 0.89, 0.68), "GALAXY": (0.50, 0.91, 0.73),
    "GALAXY AGN": (0.77, 0.98, 0.56), "GALAXY STARFORMING": (0.89, 0.98, 0.55),
    "GALAXY STARBURST": (0.90, 0.99, 0.64),
}  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """Spectra whose class and redshift are known."""

    name: str
    flux: Array
    ivar: Array
    kind: NDArray[np.str_]
    z: Array
    subclass: NDArray[np.str_] | None = None


def main() -> None:
    """Print the tables."""
    tables = {
        "comparison": comparison,
        "training-spectra": training_spectra,
        "eigenspectra": eigenspectra,
        "networks": networks,
        "anomalies": anomalies,
        "embedding": embedding,
    }
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=tables, default=list(tables))
    parser.add_argument("--mocks", type=int, default=26_000, help="that teach networks")
    parser.add_argument("--picture", type=Path, help="of the embedding, a PNG or SVG file")
    arguments = parser.parse_args()
    tables["embedding"] = partial(embedding, picture=arguments.picture)
    held = held_out(HELD_OUT)
    for name in arguments.only:
        began = time.process_time()
        tables[name](held, arguments.mocks)
        print(f"({name}: {time.process_time() - began:.0f} CPU-s)", flush=True)


def held_out(rows: int) -> Judged:
    """Simulated spectra of every subclass that teach nothing here."""
    targets = of_every_subclass(np.random.default_rng([1, 4, 1]), rows, longest=9200.0)
    mocks = observed_spectra(targets, GRID, (1, 4, 2), Observing())
    flux = mocks.flux.astype(np.float64)
    ivar = cleaned(flux, mocks.ivar.astype(np.float64), GRID)
    return Judged(
        f"{rows} simulated, held out", flux, ivar, mocks.kind, mocks.redshift, mocks.subclass
    )


def real() -> Judged | None:
    """The 110 spectra of SDSS, where they are."""
    data = os.environ.get("GALBATCH_DATA")
    if data is None or not (Path(data) / "sdss_spectra_110").is_dir():
        print("no real spectra (GALBATCH_DATA)")
        return None
    sample = load_sample(Path(data))
    return Judged("110 real", sample.flux, sample.ivar, sample.kind, sample.z)


def quiet(done: int, total: int, text: str) -> None:
    """Tell nothing."""


def far(found: ScanResult, judged: Judged, kind: str) -> Array:
    """How far the redshifts of a true class are off, of 1 + z."""
    rows = judged.kind == kind
    off = np.abs(found.z - judged.z)[rows] / (1.0 + judged.z[rows])
    return np.asarray(np.nan_to_num(off, nan=1.0), np.float64)


def good(found: ScanResult, judged: Judged, kind: str) -> float:
    """GF."""
    return float(np.mean(far(found, judged, kind) < GOOD[kind]))


def comparison(held: Judged, mocks: int) -> None:
    """Print the first table."""
    bases = learned_bases(GasnetModel(kind="gasnet"), GRID)
    ways: dict[str, Scanning] = {
        "learned, solved": partial(scan, grid=GRID, bases=bases, settings=ASKED)
    }
    settings = GasnetModel(kind="gasnet", mocks=mocks, coefficients="encoder")
    shared = learned_bases(settings, GRID)
    ways["not below 0, solved"] = partial(scan, grid=GRID, bases=shared, settings=ASKED)
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        fitted_encoder(settings, GRID, shared, (settings.seed, 5), Path(folder), quiet)
        print(f"\nencoder: {mocks} mocks and fit in {time.process_time() - began:.0f} CPU-s")
        ways["not below 0, encoder"] = Encoder(Path(folder), GRID, shared, ASKED, np).scan
    samples, data = [held], os.environ.get("GALBATCH_DATA")
    if (more := real()) is not None and data is not None:
        samples.append(more)
        ways["SDSS's, solved"] = partial(
            scan, grid=GRID, bases=load_bases(Path(data)), settings=ASKED
        )
    print("\ncomparison    galaxies: MAD, GF   quasars: MAD, GF   s per spectrum and core")
    for name, line in PUBLISHED.items():
        print(f"  {name:20}  {line}  (published)")
    for judged in samples:
        print(f"  -- {judged.name}: MAD, GF; MAD, GF; s; class")
        for name, way in ways.items():
            compared(name, way, judged)


def compared(name: str, way: Scanning, judged: Judged) -> None:
    """Print a line of the comparison."""
    with threadpool_limits(limits=1, user_api="blas"):
        way(judged.flux[:64], judged.ivar[:64])
        began = time.process_time()
        found = way(judged.flux, judged.ivar)
        spent = (time.process_time() - began) / len(judged.z)
    each = [
        f"{np.median(far(found, judged, kind)):.6f} {good(found, judged, kind):.3f}  "
        for kind in (GALAXY, QSO)
    ]
    right = np.mean(found.kind == judged.kind)
    print(f"  {name:20}  {' '.join(each)} {spent:.5f}  {right:.3f}", flush=True)


def training_spectra(held: Judged, mocks: int) -> None:
    """Print the second table."""
    print("\ntraining spectra: GF   (published: 5k, 10k, 20k real spectra; quasars 0.9165, 0.9228, "
          "0.9229; galaxies 0.9679, 0.9750, 0.9793)")  # fmt: skip
    both = extragalactic_part(held)
    for rows in (50, 150, 500, 1500, 3000):
        bases = learned_bases(GasnetModel(kind="gasnet", at_rest=rows), GRID)
        told(f"{rows} at rest", bases, both)


def eigenspectra(held: Judged, mocks: int) -> None:
    """Print the third table."""
    print("\neigenspectra: GF   (published: 3, 5, 10; quasars 0.9151, 0.9097, 0.9229; galaxies "
          "0.9806, 0.9779, 0.9793)")  # fmt: skip
    both = extragalactic_part(held)
    taught = {GALAXY: galaxies_at_rest(1500, (0, 1)), QSO: quasars_at_rest(1500, (0, 2))}
    stars = learned_bases(GasnetModel(kind="gasnet", at_rest=50), GRID)[2:]
    for name, learn in (("free signs", learned_basis), ("not below 0", non_negative_basis)):
        for size in (3, 5, 10):
            bases = [
                learn(f"learned {kind}", kind, one.flux, one.seen, one.grid, size)
                for kind, one in taught.items()
            ]
            moved = tuple(base.at_phase(GRID) for base in bases)
            told(f"{size} {name}", (*moved, *stars), both)


def extragalactic_part(held: Judged) -> Judged:
    """Without stars."""
    rows = held.kind != "STAR"
    return Judged(held.name, held.flux[rows], held.ivar[rows], held.kind[rows], held.z[rows])


def told(name: str, bases: tuple[Basis, ...], judged: Judged) -> None:
    """Print GF of galaxies and quasars, and of the real ones."""
    samples = [judged]
    if (more := real()) is not None:
        samples.append(more)
    line = []
    for one in samples:
        with threadpool_limits(limits=1, user_api="blas"):
            found = scan(one.flux, one.ivar, GRID, bases, ASKED)
        each = ", ".join(f"{kind} {good(found, one, kind):.4f}" for kind in (GALAXY, QSO))
        line.append(f"{one.name}: {each}")
    print(f"  {name:15} {'   '.join(line)}", flush=True)


def networks(held: Judged, mocks: int) -> None:
    """Print redshifts by networks."""
    settings, maker = GasnetModel(kind="gasnet", mocks=mocks), NetworkInput(GRID)
    scanning: Scanning = partial(
        scan, grid=GRID, bases=learned_bases(settings, GRID), settings=ASKED
    )
    taught = simulated(mocks, (settings.seed, 4), GRID, scanning, quiet)
    names = extragalactic(list(SUBCLASSES))
    answers = answers_of(taught.label, taught.z, taught.truth, maker, len(names))
    ends = np.arange(len(taught.label)) % 10 == 0
    new = simulated(len(held.z), (1, 4), GRID, scanning, quiet)
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        fitted_redshifts(settings, maker, taught.inputs, answers, ends, Path(folder), quiet)
        print(f"\nnetworks of redshifts: fit in {time.process_time() - began:.0f} CPU-s")
        own = taught.part(ends)
        known = own.z, own.truth, own.seen
        errors = redshift_errors(
            Path(folder), maker, own.inputs, np.array(SUBCLASSES)[own.label], own.label, known,
            names,
        )  # fmt: skip
        network = OnnxNetwork(Path(folder) / f"{NETWORK}.onnx")
        told_ = network(shown(new.inputs, maker, np.zeros(len(new.label), np.intp)))
    z, error = redshifts(told_, new.label, new.z, maker)
    wide = calibrated(error, z, new.seen, np.array(SUBCLASSES)[new.label], errors)
    print("within 0.001 and 0.01, width of (z - z_true) / error (goal 0.9 to 1.1); the scan's "
          "shares; GaSNet-II's as published, of real spectra")  # fmt: skip
    for place, name in enumerate(names):
        line = [within(z, new, place), within(new.z, new, place)]
        rows = (new.label == place) & (np.abs(z - new.truth) < 0.01 * (1.0 + new.truth))
        width = float(np.quantile(np.abs((z - new.truth) / wide)[rows], 0.6827))
        theirs = "{:.2f} {:.2f}  {:.2f}".format(*GASNET_II[name])
        print(f"  {name:20} {line[0]}  {width:.2f}   {line[1]}   {theirs}")


def within(z: Array, mocks: Simulated, place: int) -> str:
    """Shares of a subclass that are within 0.001 and 0.01."""
    rows = mocks.label == place
    off = np.abs(z - mocks.truth)[rows] / (1.0 + mocks.truth[rows])
    return " ".join(f"{np.mean(off < limit):.3f}" for limit in (0.001, 0.01))


def anomalies(held: Judged, mocks: int) -> None:
    """Print how often spectra are taken for strange."""
    scanning = partial(
        scan, grid=GRID, bases=learned_bases(GasnetModel(kind="gasnet"), GRID), settings=ASKED
    )
    taught = simulated(min(mocks, 13_000), (0, 4), GRID, scanning, quiet)
    usual = learn_strangeness(taught.kind, taught.seen, taught.strange.T)
    print("\nanomaly below 0.01, and its median")
    samples = [held, *changed(held)]
    if (more := real()) is not None:
        samples.append(more)
    for one in samples:
        with threadpool_limits(limits=1, user_api="blas"):
            found = scanning(one.flux, one.ivar)
        seen = signal_to_noise(one.flux, one.ivar)
        share = strangeness(usual, found.kind, seen, numbers_of(found))
        print(f"  {one.name:45} {np.mean(share < 0.01):.3f}  {np.nanmedian(share):.3f}")
        if one is held:
            wrong = np.abs(found.z - one.z) > 0.01 * (1.0 + one.z)
            print(f"  {'of them with a wrong redshift':45} {np.mean(share[wrong] < 0.01):.3f}  "
                  f"{np.nanmedian(share[wrong]):.3f}")  # fmt: skip


def embedding(held: Judged, mocks: int, picture: Path | None = None) -> None:
    """Print what two numbers keep of the coefficients of galaxies."""
    bases = learned_bases(GasnetModel(kind="gasnet"), GRID)
    with threadpool_limits(limits=1, user_api="blas"):
        found = scan(held.flux, held.ivar, GRID, bases, ASKED)
    assert held.subclass is not None
    rows = (found.kind == GALAXY) & (held.kind == GALAXY)
    rows &= np.isin(held.subclass, ("AGN", "STARFORMING", "STARBURST", ""))
    size = max(len(base.vectors) for base in bases if base.kind == GALAXY)
    known = found.coefficients[rows, :size]
    known = known / np.linalg.norm(known, axis=1, keepdims=True)
    names = np.where(held.subclass[rows] == "", "none", held.subclass[rows])
    flat = TSNE(2, init="pca", random_state=0).fit_transform(known)
    kept = trustworthiness(known, flat, n_neighbors=10)
    print(f"\nembedding: {len(flat)} galaxies, {size} coefficients; trustworthiness {kept:.3f} "
          "(1 keeps every neighbour)")  # fmt: skip
    for name, points in (("coefficients", known), ("t-SNE", flat)):
        near = NearestNeighbors(n_neighbors=2).fit(points).kneighbors(return_distance=True)[1]
        same = names[near[:, 0]] == names
        chance = sum(np.mean(names == one) ** 2 for one in np.unique(names))
        print(f"  {name:13} next one of the same subclass {same.mean():.3f} (chance {chance:.3f})")
    if picture is not None:
        figure = Figure(figsize=(6, 5))
        axes = figure.subplots()
        for one in np.unique(names):
            axes.scatter(flat[names == one, 0], flat[names == one, 1], s=5, label=one)
        axes.legend(frameon=False)
        axes.set(xlabel="t-SNE 1", ylabel="t-SNE 2")
        figure.savefig(picture)


def changed(held: Judged) -> list[Judged]:
    """Of 1,000 held-out spectra, those with something that no simulated one has."""
    flux, ivar = held.flux[:1000], held.ivar[:1000]
    kind, z = held.kind[:1000], held.z[:1000]
    level = np.abs(np.median(flux, axis=1, keepdims=True))
    bump = np.exp(-0.5 * ((np.arange(GRID.points) - 1500) / 30.0) ** 2)
    other = np.roll(flux, 1, axis=0)
    return [
        Judged("with a band 70 pixels wide, of half its level", flux + 0.5 * level * bump, ivar,
               kind, z),
        Judged("with another in the same fibre", flux + other, ivar / 2, kind, z),
        Judged("upside down", -flux, ivar, kind, z),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
