"""The families of models: one entry for each, loaded when it is needed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from galbatch.errors import SpecError, did_you_mean
from galbatch.models.base import Family, Model, read_card
from galbatch.spec.messages import describe_error
from galbatch.spec.model_settings import ModelSettings


@dataclass(frozen=True)
class Entry:
    """Where a family is.

    Parameters
    ----------
    family : str
        ``module:class`` of its `galbatch.models.base.Family`; the module, or one that it imports,
        has the family's subclass of `galbatch.spec.model_settings.ModelSettings`.
    trainer : str
        ``module:class`` of its `galbatch.training.base.Trainer`.
    """

    family: str
    trainer: str


FAMILIES: dict[str, Entry] = {
    "chi2_scan": Entry(
        "galbatch.models.chi2_scan:Chi2ScanFamily", "galbatch.training.chi2_scan:Chi2ScanTrainer"
    ),
    "gasnet": Entry(
        "galbatch.models.gasnet:GasnetFamily", "galbatch.training.gasnet:GasnetTrainer"
    ),
    "infovae": Entry(
        "galbatch.models.infovae:InfoVaeFamily", "galbatch.training.infovae:InfoVaeTrainer"
    ),
    "photometric": Entry(
        "galbatch.models.photometric:PhotometricFamily",
        "galbatch.training.photometric:PhotometricTrainer",
    ),
    "sed_autoencoder": Entry(
        "galbatch.models.sed_autoencoder:SedAutoencoderFamily",
        "galbatch.training.sed_autoencoder:SedAutoencoderTrainer",
    ),
    "som": Entry("galbatch.models.som:SomFamily", "galbatch.training.som:SomTrainer"),
    "ssp_mixture": Entry(
        "galbatch.models.ssp_mixture:SspMixtureFamily",
        "galbatch.training.ssp_mixture:SspMixtureTrainer",
    ),
    "thesis": Entry(
        "galbatch.models.thesis:ThesisFamily", "galbatch.training.thesis:ThesisTrainer"
    ),
}
"""By the `kind` of a model's settings, and of its card."""


def named(place: str) -> Any:
    """The object that ``module:name`` is."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def family_of(kind: str) -> Family[Any]:
    """The family of a kind of settings.

    Parameters
    ----------
    kind : str
        A key of `FAMILIES`.

    Returns
    -------
    Family
    """
    family: Family[Any] = named(FAMILIES[kind].family)()
    return family


def needs_labels(models: Iterable[ModelSettings]) -> bool:
    """Whether any of some models needs rows with labels to learn from."""
    return any(family_of(model.kind).needs_labels for model in models)


def optional_columns() -> frozenset[str]:
    """Names of the predicted columns that models have by one setting, and lack by another."""
    return frozenset().union(*(family_of(kind).optional_columns for kind in FAMILIES))


def load_model(folder: Path, **predicting: Any) -> Model:
    """A trained model, ready to predict.

    Parameters
    ----------
    folder : Path
        What `galbatch.training.fit.train` wrote.
    **predicting
        What is asked of its predictions: settings of the family that change no network
        (`only_predict`), e.g. ``monte_carlo=100``; of `galbatch.spec.job.PhotometricModel`.

    Returns
    -------
    Model
        TensorFlow is not imported, unless this process has a GPU.

    Raises
    ------
    SpecError
        If there is no model, another version of galbatch made it, or it cannot be asked for that.
    """
    card = read_card(folder)
    if card.kind not in FAMILIES:
        raise SpecError(str(folder), f"is a model of an unknown kind, '{card.kind}'")
    family = family_of(card.kind)
    if card.version != family.version:
        raise SpecError(
            str(folder),
            f"was made by version {card.version} of the {card.kind} model, this is "
            f"{family.version}",
            "train it again",
        )
    kind = ModelSettings.of_kind[card.kind]
    where = f"model '{card.name}'"
    for setting in predicting:
        if setting not in kind.only_predict:
            raise SpecError(
                where,
                f"a {card.kind} model has no setting '{setting}' of its predictions",
                did_you_mean(setting, kind.only_predict),
            )
    settings = {**card.spec, **predicting}
    try:
        return family.load(card, folder, kind.model_validate(settings))
    except ValidationError as error:
        raise describe_error(kind, error, settings, lambda path: where) from error
