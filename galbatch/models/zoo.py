"""From a folder to a model."""

from __future__ import annotations

from pathlib import Path

from galbatch.errors import SpecError
from galbatch.models import photometric, thesis
from galbatch.models.base import Model, read_card


def load_model(folder: Path, *, monte_carlo: int = 0) -> Model:
    """A trained model, ready to predict.

    Parameters
    ----------
    folder : Path
        What `galbatch.training.fit.train` wrote.
    monte_carlo : int
        Times that the fluxes are drawn anew within their errors, for the columns of scatter; 0 for
        none. See `galbatch.spec.job.PhotometricModel`.

    Returns
    -------
    Model
        TensorFlow is not imported, unless this process has a GPU.

    Raises
    ------
    SpecError
        If there is no model, another version of galbatch made it, or it cannot be asked with
        so many draws.
    """
    card = read_card(folder)
    versions = {"photometric": photometric.VERSION, "thesis": thesis.VERSION}
    if card.kind not in versions:
        raise SpecError(str(folder), f"is a model of an unknown kind, '{card.kind}'")
    version = versions[card.kind]
    if card.version != version:
        raise SpecError(
            str(folder),
            f"was made by version {card.version} of the {card.kind} model, this is {version}",
            "train it again",
        )
    if card.kind == "photometric":
        return photometric.Photometric(card, folder, monte_carlo)
    if monte_carlo:
        raise SpecError(str(folder), f"a {card.kind} model draws no fluxes", "monte_carlo: 0")
    return thesis.Thesis(card, folder)
