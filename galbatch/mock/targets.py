"""What a spectrograph is pointed at: objects of the simulated sky, or as many of every subclass.

`of_the_sky` takes the sky's own objects, with their fluxes. `of_every_subclass` draws from the same
libraries what SDSS has spectra of, as much of each of GaSNet-II's 13 subclasses: to train and judge
classifiers, not to count anything.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache

import numpy as np
from numpy.typing import NDArray

from galbatch.mock.galaxies import PASSIVE_LOG_SSFR
from galbatch.mock.library import GalaxyLibrary, load_galaxies, load_stars
from galbatch.mock.objects import Array, Objects
from galbatch.mock.optical import REST, galaxy_spectra

GALAXY, QSO, STAR = "GALAXY", "QSO", "STAR"
THIRTEEN = (
    *((QSO, name) for name in ("", "BROADLINE")),
    *((GALAXY, name) for name in ("", "AGN", "STARFORMING", "STARBURST")),
    *((STAR, name) for name in ("A0", "F5", "F9", "G2", "K1", "K3", "K5")),
)
"""Class and subclass of those that GaSNet-II learns."""

# Subclasses of SDSS's stellar templates by position in the sequence: 10 per letter from O, and
# fractions of a letter.
_STELLAR = {
    "O": 5.0, "OB": 10.0, "B6": 16.0, "B9": 19.0, "A0": 20.0, "F2": 32.0, "F5": 35.0, "F9": 39.0,
    "G0": 40.0, "G2": 42.0, "G5": 45.0, "K1": 51.0, "K3": 53.0, "K5": 55.0, "K7": 57.0,
    **{f"M{n}": 60.0 + n for n in range(10)}, "L0": 70.0, "L5": 75.0, "T2": 82.0,
}  # fmt: skip
# Pairs of the star library that stand for a subclass, the range of the second's share, and which
# subclass: between neighbours in type, and from solar metals to poor ones, which is followed
# beyond the atlas's -0.5 dex for the halo stars that SDSS has most of (Yanny et al. 2009, AJ 137,
# 4377).
_STARS = (
    ("A0", "A0V", "A2V", (-0.1, 0.6)), ("A0", "A0V", "A0III", (0.0, 1.0)),
    ("A0", "A0IV", "B9V", (0.0, 0.4)), ("A0", "A0III", "A3III", (0.0, 0.4)),
    ("F5", "F5V", "wF5V", (-0.2, 2.2)), ("F5", "F5V", "F6V", (-0.5, 0.5)),
    ("F5", "wF5V", "F2V", (0.0, 0.4)),
    ("F9", "F8V", "wF8V", (-0.2, 2.2)), ("F9", "F8V", "G0V", (0.1, 0.7)),
    ("F9", "wF8V", "wG0V", (0.1, 0.7)),
    ("G2", "G2V", "G0V", (-0.2, 0.4)), ("G2", "wG0V", "wG5V", (0.25, 0.65)),
    ("G2", "G2V", "wG5V", (0.0, 0.45)), ("G2", "G2V", "rG0V", (0.0, 0.3)),
    ("K1", "K0V", "K2V", (0.2, 0.8)), ("K1", "K1III", "wK1III", (-0.2, 1.5)),
    ("K1", "K1IV", "K1III", (0.0, 1.0)), ("K1", "K0III", "K2III", (0.3, 0.7)),
    ("K3", "K3V", "K2V", (-0.2, 0.4)), ("K3", "K3V", "K4V", (-0.2, 0.4)),
    ("K3", "K3III", "wK3III", (-0.2, 1.2)), ("K3", "K3III", "K3V", (0.0, 1.0)),
    ("K5", "K5V", "K4V", (-0.2, 0.4)), ("K5", "K5V", "K7V", (-0.2, 0.4)),
    ("K5", "K5V", "K5III", (0.0, 0.5)),
)  # fmt: skip

EXTINCTION = 0.04
"""Mean E(B-V) of the Milky Way before the stars of `of_every_subclass`, exponential."""


@dataclass(frozen=True)
class Targets:
    """Objects to take spectra of, and how well.

    Parameters
    ----------
    kind : array, shape (n,), str
        GALAXY, QSO or STAR.
    redshift : array, shape (n,)
        Of stars too: their radial velocity.
    pair, share, ebv, lines, tilt
        As in `galbatch.mock.objects.Objects`; `ebv` of stars is the Milky Way's.
    nucleus : array, shape (n,)
        log10 of the equivalent width in Angstrom of the H alpha that a galaxy's active nucleus, or
        its old stars, add; for quasars of the host's share of the light at 5100 Angstrom, log10.
    dispersion : array, shape (n,)
        Velocity dispersion of stars and gas in km/s; of a quasar's broad lines.
    microjansky : array, shape (n,)
        Flux density at `Settings.wavelength`; NaN: what gives the wanted signal to noise.
    signal_to_noise : array, shape (n,)
        Median over the pixels that is wanted.
    """

    kind: NDArray[np.str_]
    redshift: Array
    pair: NDArray[np.int32]
    share: NDArray[np.float32]
    ebv: NDArray[np.float32]
    lines: NDArray[np.float32]
    tilt: NDArray[np.float32]
    nucleus: Array
    dispersion: Array
    microjansky: Array
    signal_to_noise: Array

    def __len__(self) -> int:
        return len(self.kind)

    def taken(self, rows: NDArray[np.intp]) -> Targets:
        """Those of these rows, in their order."""
        return Targets(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def of_the_sky(
    objects: Objects, reference: int, rng: np.random.Generator, best: float = 40.0
) -> Targets:
    """Objects of the simulated sky as targets.

    Parameters
    ----------
    objects : Objects
    reference : int
        Position of the reference band.
    rng : numpy.random.Generator
        Draws what the sky does not say: nuclei, velocities and signal to noise.
    best : float
        Highest signal to noise; the lowest is 1.

    Returns
    -------
    Targets
    """
    rows = len(objects)
    kind = np.where(objects.is_star, STAR, np.where(objects.is_qso, QSO, GALAXY))
    velocity = np.clip(80.0 * rng.standard_normal(rows), -500.0, 500.0)
    redshift = np.where(objects.is_star, velocity / 299_792.458, objects.redshift)
    quasar = np.where(objects.is_qso, 1.0, 0.0)
    nucleus = _nuclei(rng, load_galaxies(), objects.pair[:, 0])
    nucleus = np.where(quasar > 0, _hosts(rng, redshift), nucleus)
    mass = np.nan_to_num(objects.log_mass, nan=10.5)
    # Faber & Jackson's relation in mass, with its scatter.
    dispersion = 10.0 ** (2.2 + 0.25 * (mass - 10.7) + 0.1 * rng.standard_normal(rows))
    dispersion = np.where(quasar > 0, _broad(rng, rows), np.clip(dispersion, 50.0, 450.0))
    return Targets(
        kind=kind,
        redshift=redshift,
        pair=objects.pair,
        share=objects.share,
        ebv=objects.ebv,
        lines=objects.lines,
        tilt=objects.tilt,
        nucleus=nucleus,
        dispersion=dispersion,
        microjansky=objects.flux[:, reference].astype(np.float64),
        signal_to_noise=np.clip(10.0 ** (0.85 + 0.35 * rng.standard_normal(rows)), 1.0, best),
    )


def _nuclei(rng: np.random.Generator, library: GalaxyLibrary, sed: NDArray[np.int32]) -> Array:
    """log10 of the H alpha width in Angstrom that is not from young stars.

    Old stars ionise what gas there is to some 1 Angstrom (Cid Fernandes et al. 2011, MNRAS 413,
    1687, who put retired galaxies below 3); a tenth have a nucleus that stands out.
    """
    rows = len(sed)
    passive = library.log_ssfr[sed] < PASSIVE_LOG_SSFR
    weak = np.where(passive, -0.2, -0.5) + 0.35 * rng.standard_normal(rows)
    active = rng.random(rows) < 0.1
    return np.where(active, 0.8 + 0.35 * rng.standard_normal(rows), weak)


def _hosts(rng: np.random.Generator, redshift: Array) -> Array:
    """log10 of the host's share at 5100 A: 0.4 at redshift 0.3, hardly any beyond 1 (Shen et al.
    2011, ApJS 194, 45, fig. 2, for the decline with luminosity)."""
    typical = -0.35 - 1.0 * np.maximum(redshift - 0.2, 0.0)
    drawn = typical + 0.25 * rng.standard_normal(len(redshift))
    return np.asarray(np.clip(drawn, -3.0, np.log10(0.7)))


def _broad(rng: np.random.Generator, rows: int) -> Array:
    """Gaussian width of broad lines in km/s: FWHM 4,500, 0.18 dex (Shen et al. 2011, fig. 5)."""
    width = 10.0 ** (np.log10(4500.0) + 0.18 * rng.standard_normal(rows))
    return np.asarray(np.clip(width, 1000.0, 15_000.0) / 2.3548)


@cache
def _widths() -> Array:
    """Equivalent width of H alpha of each library spectrum, Angstrom."""
    library = load_galaxies()
    line = int(np.abs(library.line_wavelength - 6562.8).argmin())
    at = int(np.searchsorted(REST.wavelengths, 6564.6))
    continuum = np.median(galaxy_spectra()[:, at - 60 : at + 60], axis=1)
    return np.asarray(library.line_luminosity[:, line] / continuum, np.float64)


def of_every_subclass(
    rng: np.random.Generator, rows: int, median: float | None = None, longest: float = 9200.0
) -> Targets:
    """As many targets of each of the 13 subclasses, in random order.

    What a target turns out to be is decided by its lines and the noise (`subclass`): a few of each
    kind become another. Redshifts are such that H alpha is seen where the subclass needs it.

    Parameters
    ----------
    rng : numpy.random.Generator
    rows : int
    median : float, optional
        Median signal to noise of all; without it each kind has SDSS's: 20 for stars, 10 for
        galaxies with lines and for those near, 5 for luminous red galaxies and quasars.
    longest : float
        Longest wavelength of the spectrograph, Angstrom.

    Returns
    -------
    Targets
    """
    kinds = rng.permutation(np.arange(rows) % len(THIRTEEN))
    kind = np.array([THIRTEEN[index][0] for index in kinds])
    subclass = np.array([THIRTEEN[index][1] for index in kinds])
    drawn = {
        GALAXY: _galaxies(rng, subclass, longest),
        QSO: _quasars(rng, subclass),
        STAR: _stars(rng, subclass),
    }
    merged = {field.name: np.array(getattr(drawn[STAR], field.name)) for field in fields(Targets)}
    for name in (GALAXY, QSO):
        for key, column in merged.items():
            column[kind == name] = getattr(drawn[name], key)[kind == name]
    merged["kind"] = kind
    if median is not None:
        scatter = 10.0 ** (0.3 * rng.standard_normal(rows))
        merged["signal_to_noise"] = np.clip(median * scatter, 0.3, 100.0)
    return Targets(**merged)


def _signal(rng: np.random.Generator, median: Array, scatter: float) -> Array:
    drawn = median * 10.0 ** (scatter * rng.standard_normal(len(median)))
    return np.asarray(np.clip(drawn, 1.0, 40.0))


def _galaxies(rng: np.random.Generator, subclass: NDArray[np.str_], longest: float) -> Targets:
    library = load_galaxies()
    rows = len(subclass)
    width = _widths()
    passive = np.flatnonzero((library.log_ssfr < PASSIVE_LOG_SSFR) & (library.age > 2.0))
    old = np.flatnonzero((library.log_ssfr < -11.0) & (library.age > 1.0))
    forming = np.flatnonzero((width > 12.0) & (width < 60.0) & (library.age > 0.3))
    burst = np.flatnonzero((width > 80.0) & (width < 1500.0))
    pools = {"": passive, "AGN": old, "STARFORMING": forming, "STARBURST": burst}
    sed, partner = np.zeros(rows, np.int32), np.zeros(rows, np.int32)
    for name, pool in pools.items():
        chosen = np.where(subclass == name, 1, 0) > 0
        for column in (sed, partner):
            column[chosen] = rng.choice(pool, rows)[chosen]
    share = 0.5 * rng.random(rows, np.float32)
    active = np.isin(subclass, ("STARFORMING", "STARBURST"))
    normal = rng.standard_normal((4, rows))
    ebv = np.where(active, np.clip(0.2 + 0.1 * normal[0], 0.0, 0.6), 0.04 * rng.random(rows))
    ebv = np.where(subclass == "AGN", np.clip(0.12 + 0.1 * normal[0], 0.0, 0.5), ebv)
    far = np.where(active | (subclass == "AGN"), longest / 6700.0 - 1.0, 0.75)
    near = 10.0 ** (-0.95 + 0.25 * normal[1])
    luminous = (subclass == "") & (rng.random(rows) < 0.5)
    redshift = np.where(luminous, 0.5 + 0.1 * normal[1], near)
    # A share up to the end of what the spectrograph sees, so that a classifier meets all of it.
    uniform = 0.02 + (far - 0.02) * rng.random(rows)
    redshift = np.where(rng.random(rows) < 0.3, uniform, redshift)
    redshift = np.clip(redshift, 0.01, far)
    nucleus = np.where(active, -0.7, -0.2) + 0.3 * normal[2]
    nucleus = np.where(subclass == "AGN", 1.2 + 0.3 * normal[2], nucleus)
    dispersion = 10.0 ** (np.where(active, 1.95, 2.28) + 0.12 * normal[3])
    return Targets(
        kind=np.full(rows, "GALAXY"),
        redshift=redshift,
        pair=np.stack([sed, partner], axis=1),
        share=share,
        ebv=ebv.astype(np.float32),
        lines=(10.0 ** (0.2 * rng.standard_normal((rows, 3)))).astype(np.float32),
        tilt=(np.array([0.05, 0.03]) * rng.standard_normal((rows, 2))).astype(np.float32),
        nucleus=nucleus,
        dispersion=np.clip(dispersion, 50.0, 450.0),
        microjansky=np.full(rows, np.nan),
        signal_to_noise=_signal(rng, np.where(luminous, 5.0, 10.0), 0.3),
    )


def _quasars(rng: np.random.Generator, subclass: NDArray[np.str_]) -> Targets:
    rows = len(subclass)
    bright = rng.random(rows) < 0.5
    normal = rng.standard_normal((2, rows))
    # SDSS's broad distribution up to 2.2, BOSS's peak behind it (Paris et al. 2018, A&A 613, A51).
    redshift = np.where(bright, 1.3 + 0.6 * normal[0], 2.45 + 0.45 * normal[0])
    uniform = 0.1 + 4.2 * rng.random(rows)
    redshift = np.where((rng.random(rows) < 0.15) | (redshift < 0.1), uniform, redshift)
    weak = subclass == ""
    return Targets(
        kind=np.full(rows, "QSO"),
        redshift=redshift,
        pair=np.zeros((rows, 2), np.int32),
        share=np.zeros(rows, np.float32),
        ebv=np.minimum(0.025 * rng.standard_exponential(rows), 0.3).astype(np.float32),
        lines=(10.0 ** (0.2 * rng.standard_normal((rows, 3)))).astype(np.float32),
        tilt=(np.array([0.33, 0.02]) * rng.standard_normal((rows, 2))).astype(np.float32),
        nucleus=_hosts(rng, redshift),
        dispersion=_broad(rng, rows),
        microjansky=np.full(rows, np.nan),
        # What has no line at 10 sigma is faint.
        signal_to_noise=_signal(rng, np.where(weak, 1.6, 6.0), 0.25) * np.where(weak, 0.8, 1.0),
    )


def _stars(rng: np.random.Generator, subclass: NDArray[np.str_]) -> Targets:
    rows = len(subclass)
    names = [str(name) for name in load_stars().name]
    row = {name: names.index(name) for _, *pair, _ in _STARS for name in pair}
    pick, uniform = rng.random(rows), rng.random(rows)
    first, second = np.zeros(rows, np.int32), np.zeros(rows, np.int32)
    share = np.zeros(rows, np.float32)
    for name in {name for name, *_ in _STARS}:
        recipes = [recipe for recipe in _STARS if recipe[0] == name]
        for index, (_, one, other, (low, high)) in enumerate(recipes):
            here = (subclass == name) & (np.floor(pick * len(recipes)) == index)
            first[here], second[here] = row[one], row[other]
            share[here] = (low + (high - low) * uniform[here]).astype(np.float32)
    normal = rng.standard_normal(rows)
    # Discs and halo: 60 km/s, and 130 for a third.
    speed = np.where(rng.random(rows) < 0.33, 130.0, 60.0) * normal
    return Targets(
        kind=np.full(rows, "STAR" + 2 * " ").astype("U6"),
        redshift=np.clip(speed, -500.0, 500.0) / 299_792.458,
        pair=np.stack([first, second], axis=1),
        share=share,
        ebv=(EXTINCTION * rng.standard_exponential(rows)).astype(np.float32),
        lines=np.zeros((rows, 3), np.float32),
        tilt=(np.array([0.04, 0.02]) * rng.standard_normal((rows, 2))).astype(np.float32),
        nucleus=np.zeros(rows),
        dispersion=np.full(rows, 15.0),
        microjansky=np.full(rows, np.nan),
        signal_to_noise=_signal(rng, np.full(rows, 20.0), 0.3),
    )


def stellar_subclasses(pair: NDArray[np.int32], share: NDArray[np.float32]) -> NDArray[np.str_]:
    """SDSS's subclass of mixtures of two library stars: the nearest type it has a template of.

    Parameters
    ----------
    pair : array, shape (n, 2), int
    share : array, shape (n,)
        Of the second; only what is within [0, 1] moves the type.

    Returns
    -------
    array, shape (n,), str
        ``WD`` for white dwarfs.
    """
    library = load_stars()
    position = np.array([_position(str(name)) for name in library.name])
    bounded = np.clip(share, 0.0, 1.0)
    where = (1.0 - bounded) * position[pair[:, 0]] + bounded * position[pair[:, 1]]
    names, places = np.array(list(_STELLAR)), np.array(list(_STELLAR.values()))
    found = names[np.abs(where[:, None] - places).argmin(axis=1)]
    white = library.luminosity_class[pair[:, 0]] == "WD"
    return np.where(white, "WD", found)


def _position(name: str) -> float:
    """Place of a library star in the sequence of types; its F8 and G0 stand around F9."""
    bare = name.lstrip("wr")
    if bare.startswith("D"):
        return 20.0
    letter, digits = bare[0], bare[1:].rstrip("VI")
    between = len(digits) == 2 and digits != "10"
    subtype = (int(digits[0]) + int(digits[1])) / 2.0 if between else float(digits)
    return 10.0 * "OBAFGKMLT".index(letter) + subtype
