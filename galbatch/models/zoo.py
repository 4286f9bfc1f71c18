"""From a folder to a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from galbatch.errors import SpecError
from galbatch.models import photometric, thesis
from galbatch.models.base import Card, Model, read_card


def load_model(folder: Path) -> Model:
    """A trained model, ready to predict.

    Parameters
    ----------
    folder : Path
        What `galbatch.training.fit.train` wrote.

    Returns
    -------
    Model
        TensorFlow is not imported, unless this process has a GPU.

    Raises
    ------
    SpecError
        If there is no model, or another version of galbatch made it.
    """
    card = read_card(folder)
    families: dict[str, tuple[Callable[[Card, Path], Model], int]] = {
        "photometric": (photometric.Photometric, photometric.VERSION),
        "thesis": (thesis.Thesis, thesis.VERSION),
    }
    if card.kind not in families:
        raise SpecError(str(folder), f"is a model of an unknown kind, '{card.kind}'")
    family, version = families[card.kind]
    if card.version != version:
        raise SpecError(
            str(folder),
            f"was made by version {card.version} of the {card.kind} model, this is {version}",
            "train it again",
        )
    return family(card, folder)
