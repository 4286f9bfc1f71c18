"""Autoencoders of a library of SEDs beside principal components with as many numbers.

    python benchmarks/autoencoders.py [--rows 10000] [--latents 2 3 4 6 10 256] [--convolved 3]

The library is that of `sed_library`: populations of one age and metallicity, without noise or dust,
each divided by its level around 4100 Angstrom, so that three numbers are left. A tenth of the rows
ends the fits, and all that is printed is of another tenth that nothing was fitted to or chosen by:

- mean squared error of the dense network, beside scikit-learn's PCA on the same rows;
- r2 of age, metallicity and dispersion from the numbers of either, by extremely randomised trees
  that the numbers of the training rows taught; of metallicity also where the age is above 1 Gyr, as
  the light of young populations hardly tells it;
- directions that the numbers really use (participation ratio).

The convolutional network of the thesis is fitted with 256 latents for a few epochs (it takes 50 by
default). The InfoVAE with six latents has pixels of its own: it is compared there with PCA on the
same pixels. Targets: with three latents at most 1/8 of PCA's error, and every r2 at least 0.95.

A dense network reads as many principal components as it has latents, at least 32; where these are
more than its hidden layers have units (128), layers and components have twice as many.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesRegressor

from galbatch.columns import arrow_type, from_numpy
from galbatch.mock.sed_library import library_columns
from galbatch.models.base import Card
from galbatch.models.families import load_model
from galbatch.models.infovae import EXPECTED, RestReader, load_decoder
from galbatch.models.runtime import OnnxNetwork
from galbatch.models.sed_autoencoder import SedReader
from galbatch.quality.metrics import participation_ratio
from galbatch.sample.split import TEST, TRAIN, VALIDATION
from galbatch.spec.load import load_survey
from galbatch.spec.model_settings import ModelSettings
from galbatch.spec.spectral_models import InfoVaeModel, SedAutoencoderModel
from galbatch.spectra.filling import FLOOR, Expected
from galbatch.training.fit import train

SURVEY = load_survey("sed_library")
OLD = 1.0
"""Gyr."""
TRUTH = ("age", "metallicity", "dispersion")
DENSE = 128
STEP = 500
TARGET_MSE, TARGET_R2 = 1 / 8, 0.95

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class Library:
    """Rows of the library, what is known of them, and what they are for."""

    table: pa.Table
    truth: dict[str, Rows]
    roles: NDArray[np.int8]

    @property
    def taught(self) -> NDArray[np.bool_]:
        """Rows that networks and components learn from."""
        return np.asarray(self.roles == TRAIN)

    @property
    def held(self) -> NDArray[np.bool_]:
        """Rows that are judged."""
        return np.asarray(self.roles == TEST)


def library(rows: int, seed: int) -> Library:
    made = library_columns(np.array(SURVEY.wavelengths), (seed,), rows)
    kind = arrow_type("float32", (len(SURVEY.wavelengths),), ("wavelength",))
    arrays = {name: from_numpy(made[name].astype(np.float32), kind) for name in ("flux", "ivar")}
    table = pa.table({"sed_id": pa.array(np.arange(rows)), **arrays})
    roles = np.full(rows, TRAIN, np.int8)
    order = np.random.default_rng([seed, 1]).permutation(rows)
    roles[order[: rows // 10]] = TEST
    roles[order[rows // 10 : rows // 5]] = VALIDATION
    return Library(table, {name: made[name] for name in TRUTH}, roles)


def in_steps(read: Any, table: pa.Table) -> list[NDArray[Any]]:
    parts = [read(table.slice(start, STEP)) for start in range(0, table.num_rows, STEP)]
    return [np.concatenate(one) for one in zip(*parts, strict=True)]


def fitted(settings: ModelSettings, data: Library, folder: Path) -> tuple[Card, float]:
    began = time.process_time()
    kept = data.roles != TEST
    card = train(
        settings, SURVEY, data.table.filter(pa.array(kept)), data.roles[kept], folder,
        lambda *_: None,
    )  # fmt: skip
    return card, time.process_time() - began


def r2(numbers: Rows, data: Library) -> list[float]:
    """Of age, metallicity and dispersion of held-out rows, and of metallicity of old ones."""
    found, old = {}, data.held & (data.truth["age"] > OLD)
    tried = min(1.0, 64 / numbers.shape[1])
    for name in TRUTH:
        trees = ExtraTreesRegressor(100, min_samples_leaf=2, max_features=tried, random_state=0)
        trees.fit(numbers[data.taught], data.truth[name][data.taught])
        found[name] = float(trees.score(numbers[data.held], data.truth[name][data.held]))
        if name == "metallicity":
            found["old"] = float(trees.score(numbers[old], data.truth[name][old]))
    return [found[name] for name in (*TRUTH, "old")]


def show(what: str, mse: float, numbers: Rows, data: Library, seconds: float) -> list[float]:
    scores = r2(numbers, data)
    text = " ".join(f"{score:6.3f}" for score in scores)
    used = participation_ratio(numbers[data.taught])
    print(f"{what:34} {mse:9.2e}  {text}  {used:6.2f} {seconds:7.0f}", flush=True)
    return scores


def dense(latents: int) -> SedAutoencoderModel:
    many = 2 * latents if latents > DENSE else 0
    return SedAutoencoderModel(
        kind="sed_autoencoder", network="dense", latents=latents,
        components=max(32, latents, many), hidden=(max(DENSE, many),) * 2,
    )  # fmt: skip


def autoencoder(
    settings: SedAutoencoderModel, data: Library, spectra: NDArray[np.float32]
) -> tuple[Rows, float, float]:
    """Latents, the error of held-out rows, and CPU seconds."""
    with tempfile.TemporaryDirectory() as name:
        _, seconds = fitted(settings, data, Path(name))
        coded = OnnxNetwork(Path(name) / "encoder.onnx")(spectra)
        made = OnnxNetwork(Path(name) / "decoder.onnx")(coded[data.held])
    mse = float(((made - spectra[data.held]).astype(np.float64) ** 2).mean())
    return coded.astype(np.float64), mse, seconds


def components(latents: int, data: Library, spectra: Rows) -> tuple[Rows, float, float]:
    """The same of PCA."""
    began = time.process_time()
    pca = PCA(latents, random_state=0).fit(spectra[data.taught])
    coded = np.asarray(pca.transform(spectra))
    left = pca.inverse_transform(coded[data.held]) - spectra[data.held]
    return coded, float((left**2).mean()), time.process_time() - began


def seds(data: Library, words: argparse.Namespace) -> None:
    spectra, good = in_steps(SedReader(SURVEY, dense(3)).read, data.table)
    assert good.all()
    exact = spectra.astype(np.float64)
    for latents in words.latents:
        coded, pca, seconds = components(latents, data, exact)
        show(f"{latents:4} PCA", pca, coded, data, seconds)
        settings = dense(latents)
        coded, mse, seconds = autoencoder(settings, data, spectra)
        what = f"dense on {settings.components} components"
        scores = show(f"{latents:4} {what}", mse, coded, data, seconds)
        print(f"     error over PCA's: {mse / pca:.3g}")
        if latents == 3:
            small, told = mse / pca <= TARGET_MSE, min(scores[:3]) >= TARGET_R2
            print(f"     target: at most {TARGET_MSE:.3g} of it: {said(small)}; every r2 at least "
                  f"{TARGET_R2}: {said(told)}")  # fmt: skip
    if words.convolved:
        coded, pca, _ = components(256, data, exact)
        settings = SedAutoencoderModel(kind="sed_autoencoder", epochs=words.convolved)
        coded, mse, seconds = autoencoder(settings, data, spectra)
        show(f" 256 convolutional, {words.convolved} epochs", mse, coded, data, seconds)
        verdict = "WORSE" if mse > pca else "better"
        print(f"     {verdict} than PCA with 256: {mse / pca:.3g} times its error, as PCA has with "
              f"{fewer(mse, data, exact)}")  # fmt: skip


def said(met: bool) -> str:
    return "met" if met else "MISSED"


def fewer(mse: float, data: Library, spectra: Rows) -> str:
    for count in range(1, 33):
        if components(count, data, spectra)[1] <= mse:
            return f"{count} components"
    return "more than 32 components"


def infovae(data: Library, words: argparse.Namespace) -> None:
    # Where the library has light.
    settings = InfoVaeModel(
        kind="infovae", latents=6, rest=(3605.0, 7280.0), epochs=words.infovae
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        card, seconds = fitted(settings, data, folder)
        flux, ivar, _ = in_steps(RestReader(SURVEY, settings).read, data.table)
        whole = Expected.load(folder / EXPECTED).whole(flux, ivar)
        found = load_model(folder).predict(data.table)
        coded = np.array(found["latent"].to_pylist())
        made = load_decoder(folder)(coded[data.held])
    mse = float(np.nanmean((made - whole.spectra[data.held]) ** 2))
    numbers, pca, spent = components(6, data, whole.spectra)
    show("   6 PCA, 1,000 pixels", pca, numbers, data, spent)
    show("   6 infovae, 1,000 pixels", mse, coded, data, seconds)
    print(f"     error over PCA's: {mse / pca:.3g}; its weights take {FLOOR**2:.1e} for the noise "
          "of a pixel at least")  # fmt: skip
    scores = card.metrics["latents"]
    print(f"     discrepancy to a normal distribution {scores['mmd']:.4f} (of two normal samples "
          f"{scores['normal_mmd']:.4f})")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latents", type=int, nargs="*", default=[2, 3, 4, 6, 10, 256])
    parser.add_argument("--convolved", type=int, default=3, help="epochs; 0 for none")
    parser.add_argument("--infovae", type=int, default=40, help="epochs; 0 for none")
    words = parser.parse_args()
    data = library(words.rows, words.seed)
    print(f"{words.rows:,} SEDs, {int(data.held.sum()):,} of them held out")
    print(f"{'':34} {'mse':>9}  {'age':>6} {'metal.':>6} {'disp.':>6} {'old m.':>6}  "
          f"{'direc.':>6} {'CPU s':>7}")  # fmt: skip
    seds(data, words)
    if words.infovae:
        infovae(data, words)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    main()
