"""Mixtures of stellar populations: networks of three kinds, beside non-negative least squares.

    python benchmarks/ssp_mixture.py [--mixtures 40000] [--epochs 20] [--held 5000] [--fitted 100]

On the library that is shipped, and on MILES's 156 populations if GALBATCH_DATA has `ssp_miles`.

A. One network for each kind of parameter beside one for all, with as many weights, the same rows
   and the same epochs: mean absolute error of the medians, over mixtures held out, in units of the
   range of each number. Goal: the separate ones win on every kind.
B. Share of true values within the predicted 68 and 95 %, S/N drawn as in the fit. Goal: within two
   points. A weight may be exactly 0, and then counts as within an interval that ends there.
C. Light-weighted age and metallicity at S/N 10, 30 and 100. Least squares is given the true
   velocity and dispersion (in steps), tries 11 values of E(B-V), and has lines of gas as three
   templates more; the networks are given noise and spectrum alone.
D. How age and metallicity go together: the correlation of the invertible network's draws, and that
   of true values about its medians, in thirds of the rows by the former.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from galbatch.mock.attenuation import dust_transmission
from galbatch.mock.gas import HIGH, NAMES, OXYGEN, RATIO
from galbatch.mock.kinematics import broadened
from galbatch.mock.mixtures import Mixer, drawn_mixtures
from galbatch.models.device import prepare_tensorflow
from galbatch.models.ssp_mixture import parameters_of
from galbatch.quality.intervals import QuantileScale
from galbatch.spec.population_models import SspMixtureModel
from galbatch.spectra.components import LIGHT
from galbatch.spectra.mixture_parameters import LIGHT_WEIGHTED, MixtureParameters, Mixtures
from galbatch.spectra.nonnegative import nonnegative_weights
from galbatch.training.mixture_rows import (
    NoiseOfScores,
    NoisePatterns,
    SimulatedMixtures,
    in_chunks,
    learned_components,
    simulated_mixtures,
)
from galbatch.training.ssp_mixture import (
    bare_quantiles,
    calibrated,
    fitted,
    library_of,
    limits_of,
    rest_grid,
)

Array = NDArray[np.float64]

NETWORKS = ("separate", "single", "invertible")
NOISE = (8.0, 120.0)
LEVELS = (10.0, 30.0, 100.0)
DUST = np.linspace(0.0, 0.5, 11)
DISPERSIONS = np.arange(20.0, 351.0, 30.0)


@dataclass(frozen=True)
class Taught:
    """A fitted model, ready to be asked."""

    settings: SspMixtureModel
    parameters: MixtureParameters
    folder: Path
    scale: QuantileScale

    def __call__(self, features: NDArray[np.float32], signal: Array) -> tuple[Array, Array, Array]:
        """Quantiles, those before calibration, and covariance and correlation."""
        bare, together = bare_quantiles(self.settings, self.parameters, self.folder, features)
        return self.scale.apply(bare, np.log10(signal)), bare, together


def main() -> None:
    """Print the tables for each library."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--mixtures", type=int, default=40_000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--held", type=int, default=5000)
    parser.add_argument("--fitted", type=int, default=100)
    parser.add_argument("--only", choices=("shipped", "miles"))
    words = parser.parse_args()
    prepare_tensorflow()
    libraries: dict[str, dict[str, str] | None] = {"shipped": None}
    data = os.environ.get("GALBATCH_DATA")
    miles = Path(data or "") / "ssp_miles" / "ssp_miles_156.parquet"
    if data is not None and miles.is_file():
        libraries["miles"] = {"file": str(miles)}
    for name, templates in libraries.items():
        if words.only in (None, name):
            print(f"\n=== library: {name}", flush=True)
            settings = SspMixtureModel.model_validate({
                "kind": "ssp_mixture", "mixtures": words.mixtures, "epochs": words.epochs,
                "signal_to_noise": NOISE, "templates": templates,
            })  # fmt: skip
            judge(settings, words.held, words.fitted)


def judge(settings: SspMixtureModel, held_out: int, by_least_squares: int) -> None:
    """Print the tables for one library."""
    library = library_of(settings)
    parameters = parameters_of(settings, limits_of(settings, library))
    mixer, grid = Mixer(library), rest_grid(settings, library)
    start = time.monotonic(), time.process_time()
    components = learned_components(parameters, mixer, grid, settings.spectral_components, 4000, 0)
    noise = NoiseOfScores.of(components, NoisePatterns.flat(components, NOISE))
    make = partial(simulated_mixtures, parameters, mixer, grid, noise)
    mocks = make(settings.mixtures, (0,), quiet)
    print(f"{settings.mixtures} mixtures: {spent(*start)}", flush=True)
    held = make(held_out, (1,), quiet)
    rng = np.random.default_rng(5)
    signal = noise.patterns.drawn(held_out, rng)
    features = held.features(np.arange(held_out), rng, signal)
    known = parameters.quantities(held.mixtures)
    with tempfile.TemporaryDirectory() as folder:
        models = {
            name: taught(settings.model_copy(update={"network": name}), parameters, mocks,
                         Path(folder) / name)
            for name in NETWORKS
        }  # fmt: skip
        found = {name: model(features, signal) for name, model in models.items()}
        by_kind(parameters, known, {name: one[0] for name, one in found.items()})
        coverage(parameters, known, found, signal)
        with threadpool_limits(limits=1, user_api="blas"):
            beside_least_squares(parameters, mixer, noise, models, by_least_squares)
        together(parameters, known, *found["invertible"][::2])


def quiet(done: int, total: int, text: str) -> None:
    """Tell nothing."""


def spent(wall: float, cpu: float) -> str:
    """Time since then."""
    return f"{time.monotonic() - wall:.0f} s, {time.process_time() - cpu:.0f} CPU-s"


def taught(
    settings: SspMixtureModel,
    parameters: MixtureParameters,
    mocks: SimulatedMixtures,
    folder: Path,
) -> Taught:
    """Fit a model and calibrate it."""
    start = time.monotonic(), time.process_time()
    weights, history = fitted(settings, parameters, mocks, folder, quiet)
    size = sum(one.size for one in weights)
    epochs = len(history["loss"])
    print(f"{settings.network}: {size} weights, {epochs} epochs, {spent(*start)}", flush=True)
    return Taught(settings, parameters, folder, calibrated(settings, parameters, mocks, folder)[0])


def by_kind(parameters: MixtureParameters, known: Array, found: dict[str, Array]) -> None:
    """Print table A."""
    print("\nA. mean absolute error, in units of the range")
    print(f"  {'':18} " + " ".join(f"{name:>10}" for name in found) + "   separate wins")
    size = np.ptp(parameters.ranges, axis=1)
    for kind, names in parameters.kinds.items():
        groups = {kind: [one for one in names if one not in LIGHT_WEIGHTED]}
        groups |= {one: [one] for one in names if one in LIGHT_WEIGHTED}
        for group, members in groups.items():
            errors = {}
            for name, quantiles in found.items():
                at = [parameters.names.index(one) for one in members]
                off = np.abs(quantiles[:, at, 2] - known[:, at]) / size[at]
                errors[name] = float(off[np.isfinite(off)].mean())
            line = " ".join(f"{one:10.4f}" for one in errors.values())
            print(f"  {group:18} {line}   {errors['separate'] < errors['single']}")


def coverage(
    parameters: MixtureParameters,
    known: Array,
    found: dict[str, tuple[Array, Array, Array]],
    signal: Array,
) -> None:
    """Print table B."""
    print("\nB. share within 68 and 95 %, calibrated (and before)")
    low = signal < np.sqrt(NOISE[0] * NOISE[1])
    for name, (quantiles, bare, _) in found.items():
        worst, of_weights = np.zeros(2), np.zeros(2)
        print(f"  {name}")
        for place, quantity in enumerate(parameters.names):
            rows = np.isfinite(known[:, place]) & np.isfinite(quantiles[:, place, 2])
            shares = [
                np.mean(inside(known[some, place], one[some, place], ends))
                for one, some in (
                    (quantiles, rows), (bare, rows), (quantiles, rows & low),
                    (quantiles, rows & ~low),
                )
                for ends in ((1, 3), (0, 4))
            ]  # fmt: skip
            off = np.abs(np.subtract(shares[:2], (0.6826, 0.95)))
            if quantity.startswith("weight"):
                of_weights = np.maximum(of_weights, off)
            else:
                worst = np.maximum(worst, off)
            text = "{:.3f} {:.3f} ({:.3f} {:.3f})  noisier half {:.3f} {:.3f}, other {:.3f} {:.3f}"
            print(f"    {quantity:18} " + text.format(*shares))
        every = np.maximum(worst, of_weights)
        print(f"    furthest off: {every[0]:.3f} and {every[1]:.3f} (goal 0.02)")
        print(f"    but for weights: {worst[0]:.3f} and {worst[1]:.3f} (goal 0.02)")


def inside(known: Array, quantiles: Array, ends: tuple[int, int]) -> NDArray[np.bool_]:
    """Which values lie within an interval, its ends included."""
    low, high = quantiles[:, ends[0]], quantiles[:, ends[1]]
    return np.asarray((known >= low) & (known <= high))


def beside_least_squares(
    parameters: MixtureParameters,
    mixer: Mixer,
    noise: NoiseOfScores,
    models: dict[str, Taught],
    rows: int,
) -> None:
    """Print table C."""
    print(f"\nC. light-weighted, {rows} mixtures: mean absolute error and bias, dex")
    print(f"  {'S/N':>4} {'':14} {'log age':>16} {'metallicity':>18}")
    components, rng = noise.components, np.random.default_rng(11)
    mixtures = drawn_mixtures(parameters, rows, rng)
    flux = np.concatenate(
        [mixer.observed(one, components.grid, rng)[0] for one in in_chunks(mixtures)]
    ).astype(np.float64)
    flux /= components.level(flux, flux > 0)[:, None]
    known = [mixtures.light_weighted[name] for name in LIGHT_WEIGHTED]
    places = [parameters.names.index(name) for name in LIGHT_WEIGHTED]
    for level in LEVELS:
        sigma = float(np.median(components.mean)) / level
        noisy = flux + sigma * rng.standard_normal(flux.shape)
        ivar = np.full(flux.shape, sigma**-2)
        start = time.process_time()
        found = {"least squares": by_nnls(mixer, noise, mixtures, noisy, ivar)}
        cpu = (time.process_time() - start) / rows
        seen = components(noisy, ivar)
        features = components.features(seen.scores, seen.noise, seen.signal_to_noise, seen.seen)
        for name, model in models.items():
            quantiles = model(features, seen.signal_to_noise)[0]
            found[name] = [quantiles[:, place, 2] for place in places]
        for name, values in found.items():
            pairs = [
                (np.abs(one - truth).mean(), (one - truth).mean())
                for one, truth in zip(values, known, strict=True)
            ]
            text = "    ".join(f"{mae:7.3f} {bias:+7.3f}" for mae, bias in pairs)
            print(f"  {level:4.0f} {name:14} {text}")
        print(f"       least squares: {1e3 * cpu:.0f} ms CPU a spectrum", flush=True)


def by_nnls(
    mixer: Mixer, noise: NoiseOfScores, mixtures: Mixtures, flux: Array, ivar: Array
) -> list[Array]:
    """Light-weighted log age and metallicity by least squares, with the true motions."""
    grid, library = noise.components.grid, mixer.library
    pixel = LIGHT * np.log(10.0) * grid.step
    moves = -np.log10(1.0 + mixtures.velocity[:, 0] / LIGHT) / grid.step
    still = broadened(flux, np.zeros(len(flux)), moves)
    spectra = np.exp(library.logarithms).reshape(-1, library.grid.points)
    spectra /= spectra.mean(axis=1, keepdims=True)
    forbidden = np.array([name.startswith("[") for name in NAMES])
    high = np.isin(np.arange(len(NAMES)), [*HIGH, *OXYGEN])
    groups = np.stack([~forbidden, forbidden & high, forbidden & ~high])
    lines = (groups * RATIO[0]) @ mixer.line_profiles
    dust = dust_transmission(library.grid.wavelengths, DUST)
    start = round((grid.first - library.grid.first) / grid.step)
    kept = slice(start, start + grid.points)
    nearest = np.abs(mixtures.dispersion - DISPERSIONS).argmin(axis=1)
    weights, least = np.zeros((len(flux), len(spectra))), np.full(len(flux), np.inf)
    for place in np.unique(nearest):
        rows = np.flatnonzero(nearest == place)
        # Dust is smooth: it makes no difference whether light is dimmed before it is broadened.
        width = np.full(len(spectra) + len(lines), DISPERSIONS[place] / pixel)
        wide = broadened(np.concatenate([spectra, lines]), width)[:, kept]
        for dimmed in dust[:, kept]:
            templates = wide.copy()
            templates[: len(spectra)] *= dimmed
            found, chi2 = nonnegative_weights(still[rows], ivar[rows], templates)
            better = chi2 < least[rows]
            weights[rows[better]] = found[better, : len(spectra)]
            least[rows] = np.minimum(least[rows], chi2)
    weights /= weights.sum(axis=1, keepdims=True)
    ages = np.tile(library.ages, len(library.metallicities))
    metals = np.repeat(library.metallicities, len(library.ages))
    return [weights @ ages, weights @ metals]


def together(parameters: MixtureParameters, known: Array, quantiles: Array, pairs: Array) -> None:
    """Print table D."""
    print("\nD. correlation of light-weighted log age and metallicity")
    at = [parameters.names.index(name) for name in LIGHT_WEIGHTED]
    wide = quantiles[:, at, 3] - quantiles[:, at, 1]
    pull = (known[:, at] - quantiles[:, at, 2]) / np.maximum(wide, 1e-9)
    order = np.argsort(pairs[:, 1])
    for name, rows in zip(("least", "middle", "most"), np.array_split(order, 3), strict=True):
        near = rows[(np.abs(pull[rows]) < 3).all(axis=1)]
        true = np.corrcoef(pull[near, 0], pull[near, 1])[0, 1]
        print(f"  {name:7} third: draws {pairs[rows, 1].mean():+.2f}, true values {true:+.2f}")


if __name__ == "__main__":
    main()
