"""A network that begins with what another has learnt: on the simulated sky, or another survey."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.errors import SpecError
from galbatch.flux.features import FeatureRecipe
from galbatch.models.base import Card, read_card
from galbatch.models.heads import MARGIN, Head
from galbatch.models.photometric import NETWORK, VERSION
from galbatch.spec.job import PhotometricModel
from galbatch.spec.survey import Survey

SLOWER = 0.2
"""Share of `learning_rate` at which a trained network is taught on: faster, it would forget."""

# A filter that is shifted by more than this measures something else.
_SHIFT = 0.01
# What a band or shape that is not there looks like to the network.
_ABSENT = {"observed": -1.0, "limit": -1.0, "missing": 1.0}

Weights = list[NDArray[np.float32]]


@dataclass(frozen=True)
class Pretrained:
    """A trained model to begin with.

    Parameters
    ----------
    card : Card
    folder : Path
        With its network.
    """

    card: Card
    folder: Path

    @property
    def recipe(self) -> FeatureRecipe:
        """How it reads rows."""
        return FeatureRecipe.from_json(self.card.recipe["features"])

    @property
    def heads(self) -> tuple[Head, ...]:
        """What its outputs are."""
        return tuple(Head.from_json(head) for head in self.card.recipe["heads"])

    def weights(self) -> Weights:
        """Kernel and bias of every layer, first to last. Imports TensorFlow."""
        from galbatch.models.network import Architecture, build

        model = build(Architecture(**self.card.recipe["network"]), self.heads)
        model.load_weights(self.folder / f"{NETWORK}.weights.h5")
        return [np.asarray(array) for array in model.get_weights()]


def provenance(
    before: Pretrained | None,
    survey: Survey,
    bands: Sequence[str],
    data: str,
    rows: Mapping[str, Mapping[str, int]],
    warnings: Sequence[str],
) -> dict[str, Any]:
    """What a card says of where its network comes from.

    Parameters
    ----------
    before : Pretrained or None
    survey : Survey
        What it is trained on now.
    bands : sequence of str
    data : str
        Fingerprint of the rows.
    rows : mapping
        How many of them have each label.
    warnings : sequence of str
        What else is to be warned of.

    Returns
    -------
    dict
        ``lineage``: surveys, rows and their fingerprints, first to last; ``warnings``.
    """
    lineage = [{"survey": survey.name, "data": data, "rows": {t: dict(n) for t, n in rows.items()}}]
    if before is None:
        return {"lineage": lineage, "warnings": list(warnings)}
    card = before.card
    known = card.training.get("lineage") or [
        {"survey": card.survey, "data": card.data, "rows": card.rows}
    ]
    earlier = [dict(one) for one in known]
    earlier[-1] |= {"model": card.name, "fingerprint": card.fingerprint}
    differing = differences(card, survey, bands)
    return {"lineage": [*earlier, *lineage], "warnings": [*differing, *warnings]}


def read_pretrained(folder: Path, spec: PhotometricModel, bands: Sequence[str]) -> Pretrained:
    """A model to begin with.

    Parameters
    ----------
    folder : Path
        Of a trained model.
    spec : PhotometricModel
        What is to be trained.
    bands : sequence of str
        That it will read.

    Returns
    -------
    Pretrained

    Raises
    ------
    SpecError
        If there is none, it is of another family or size, or it knows none of the bands.
    """
    where = f"models.{spec.name}"
    card = read_card(folder)
    if card.kind != spec.kind or card.version != VERSION:
        raise SpecError(
            f"{where}.pretrained",
            f"{folder} is version {card.version} of a {card.kind} model, "
            f"expected version {VERSION} of a {spec.kind} model",
            "train that one again",
        )
    for word in ("members", "width", "layers"):
        had, asked = card.recipe["network"][word], getattr(spec, word)
        if had != asked:
            raise SpecError(
                f"{where}.{word}", f"is {asked}, that of {folder} is {had}", f"write {word}: {had}"
            )
    if not set(bands) & set(card.bands):
        raise SpecError(
            f"{where}.pretrained",
            f"{folder} was trained on {card.survey} and knows none of the bands {', '.join(bands)}",
            f"its bands: {', '.join(card.bands)}",
        )
    return Pretrained(card, folder)


def differences(card: Card, survey: Survey, bands: Sequence[str]) -> tuple[str, ...]:
    """How the bands of a survey differ from those that a model was trained on.

    Parameters
    ----------
    card : Card
        Of the model.
    survey : Survey
    bands : sequence of str
        Those of its bands that are to be read.

    Returns
    -------
    tuple of str
        A sentence each; none where all bands agree by name and within 1 % in wavelength.
    """
    old = {band["name"]: float(band["wavelength"]) for band in card.reading["bands"]}
    known = {name: old[name] for name in card.bands}
    new = {band.name: band.wavelength for band in survey.bands if band.name in bands}
    said = []
    if unseen := [name for name in new if name not in known]:
        said.append(f"bands that {card.survey} has not: {', '.join(unseen)}; learnt from new")
    if gone := [name for name in known if name not in new]:
        said.append(
            f"bands of {card.survey} that {survey.name} has not: {', '.join(gone)}; "
            "read as not observed"
        )
    said += [
        f"band {name}: {known[name]:g} Angstrom in {card.survey}, {at:g} in {survey.name}"
        for name, at in new.items()
        if name in known and abs(at / known[name] - 1) > _SHIFT
    ]
    return tuple(said)


def carried_recipe(new: FeatureRecipe, old: FeatureRecipe) -> FeatureRecipe:
    """A recipe for new rows whose features mean to a network what they meant before.

    Parameters
    ----------
    new : FeatureRecipe
        Learnt from the new survey's rows.
    old : FeatureRecipe
        Of the pretrained model.

    Returns
    -------
    FeatureRecipe
        The new one, with the old softening of bands and the old centre and scale of features that
        both have, by name; and the old features too that do not vary in the new rows.
    """
    soft = dict(zip(old.bands, old.softening, strict=True))
    place = {old.names[index]: index for index in old.kept}
    both = [place.get(name) for name in new.names]
    kept = set(new.columns) | set(old.columns)
    return replace(
        new,
        softening=tuple(soft.get(b, s) for b, s in zip(new.bands, new.softening, strict=True)),
        kept=tuple(i for i, name in enumerate(new.names) if name in kept),
        centre=tuple(
            c if at is None else old.centre[at] for at, c in zip(both, new.centre, strict=True)
        ),
        scale=tuple(
            s if at is None else old.scale[at] for at, s in zip(both, new.scale, strict=True)
        ),
    )


def carried_heads(new: Sequence[Head], old: Sequence[Head]) -> tuple[Head, ...]:
    """Heads whose outputs mean what they meant before.

    Parameters
    ----------
    new : sequence of Head
        From the new labels.
    old : sequence of Head
        Of the pretrained model.

    Returns
    -------
    tuple of Head
        The new ones; of targets that both have in the same size, with the old unit.
    """
    of = _alike(new, old)
    return tuple(
        replace(
            head,
            centre=of[head.target].centre,
            scale=of[head.target].scale,
            floor=of[head.target].floor,
            low=of[head.target].low if head.bins else head.low,
            high=of[head.target].high if head.bins else head.high,
        )
        if head.target in of
        else head
        for head in new
    )


def carried_weights(
    fresh: Weights,
    old: Weights,
    columns: tuple[Sequence[str], Sequence[str]],
    heads: tuple[Sequence[Head], Sequence[Head]],
) -> Weights:
    """Weights to begin with.

    Parameters
    ----------
    fresh : list of ndarray
        Of a new network: kernel (members, inputs, units) and bias (members, 1, units) of every
        layer.
    old : list of ndarray
        Of the pretrained one.
    columns : pair of sequence of str
        Names of the features, new and old.
    heads : pair of sequence of Head
        New and old.

    Returns
    -------
    list of ndarray
        Inputs are matched by their names. A new input has no influence at first; one that is gone
        is read as a measurement that was not made, which goes into the bias. The outputs of new
        heads begin as they do in a new network.
    """
    new_names, old_names = columns
    found = [array.copy() for array in old]
    kernel, bias = np.zeros_like(fresh[0]), old[1].copy()
    place = {name: index for index, name in enumerate(new_names)}
    for index, name in enumerate(old_names):
        if name in place:
            kernel[:, place[name]] = old[0][:, index]
        else:
            bias[:, 0] += np.float32(_ABSENT.get(name.partition(" ")[0], 0.0)) * old[0][:, index]
    found[0], found[1] = kernel, bias
    found[-2], found[-1] = fresh[-2].copy(), fresh[-1].copy()
    before = _alike(heads[0], heads[1])
    for head in heads[0]:
        if head.target in before:
            was = before[head.target].start
            mine, its = (slice(at, at + head.size) for at in (head.start, was))
            for layer in (-2, -1):
                found[layer][..., mine] = old[layer][..., its]
    return found


def _alike(new: Sequence[Head], old: Sequence[Head]) -> Mapping[str, Head]:
    """Old heads, by target, that a new one can take up: of its size, with cells for its labels."""
    wanted = {head.target: head for head in new}

    def fits(head: Head) -> bool:
        asked = wanted.get(head.target)
        if asked is None or asked.size != head.size:
            return False
        spare = MARGIN * (asked.high - asked.low) / max(asked.bins, 1)
        inside = head.low <= asked.low + spare and asked.high - spare <= head.high
        return not head.bins or inside

    return {head.target: head for head in old if fits(head)}
