"""A network that begins with what another has learnt: on the simulated sky, or another survey."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from galbatch.errors import SpecError
from galbatch.flux.features import FeatureRecipe
from galbatch.models.base import CARD, Card, read_card
from galbatch.models.heads import Head, head_from_json
from galbatch.models.photometric import NETWORK, VERSION
from galbatch.sample.lineage import leaks
from galbatch.spec.job import PhotometricModel
from galbatch.spec.survey import Survey
from galbatch.values import TARGETS, Target

SLOWER = 0.2
"""Share of `learning_rate` at which a trained network is taught on: faster, it would forget."""

# A filter that is shifted by more than this measures something else.
_SHIFT = 0.01
# What a band or shape that is not there looks like to the network.
_ABSENT = {"observed": -1.0, "limit": -1.0, "missing": 1.0}

_SIZES = ("inputs", "members", "width", "layers", "outputs")
_WEIGHTS = f"{NETWORK}.weights.h5"
# What Keras calls the layers in it: `models.network.StackedDense`, numbered from the second on.
_LAYER = "stacked_dense"

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
        return tuple(head_from_json(head) for head in self.card.recipe["heads"])

    def weights(self) -> Weights:
        """Kernel and bias of every layer, first to last.

        Raises
        ------
        OSError, KeyError
            If they are not there, or cannot be read.
        """
        layers = range(self.card.recipe["network"]["layers"] + 1)
        with h5py.File(self.folder / _WEIGHTS) as file:
            return [
                np.asarray(file[f"layers/{_LAYER}{f'_{layer}' if layer else ''}/vars/{part}"])
                for layer in layers
                for part in (0, 1)
            ]

    @property
    def lineage(self) -> list[dict[str, Any]]:
        """What it was trained on, first to last; the last is named as the one to begin with."""
        card = self.card
        known = card.training.get("lineage") or [
            {"survey": card.survey, "data": card.data, "rows": card.rows}
        ]
        found = [dict(one) for one in known]
        found[-1] |= {"model": card.name, "fingerprint": card.fingerprint}
        return found


def provenance(
    before: Pretrained | None,
    survey: Survey,
    bands: Sequence[str],
    data: str,
    rows: Mapping[str, Mapping[str, int]],
    warnings: Sequence[str],
    *,
    heads: Sequence[Head] = (),
    sample: Mapping[str, Any] | None = None,
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
    heads : sequence of Head
        Of the new network.
    sample : mapping, optional
        Its source and split; see `galbatch.sample.lineage.origin`.

    Returns
    -------
    dict
        ``lineage``: surveys, rows and their fingerprints, first to last; ``warnings``.
    """
    sample = dict(sample or {})
    known = {"survey": survey.name, "data": data, "rows": {t: dict(n) for t, n in rows.items()}}
    lineage = [known | sample]
    if before is None:
        return {"lineage": lineage, "warnings": list(warnings)}
    said = (
        *leaks(before.lineage, survey.name, sample),
        *_of_bands(before.card, survey, bands),
        *_of_heads(heads, before.heads, before.card.survey),
    )
    return {"lineage": [*before.lineage, *lineage], "warnings": [*said, *warnings]}


def read_pretrained(folder: Path, settings: PhotometricModel, bands: Sequence[str]) -> Pretrained:
    """A model to begin with.

    Parameters
    ----------
    folder : Path
        Of a trained model.
    settings : PhotometricModel
        What is to be trained.
    bands : sequence of str
        That it will read.

    Returns
    -------
    Pretrained

    Raises
    ------
    SpecError
        If there is none, it is damaged, of another family or size, or knows none of the bands.
    """
    where = f"models.{settings.name}"
    card = read_card(folder)
    if card.kind != settings.kind or card.version != VERSION:
        raise SpecError(
            f"{where}.pretrained",
            f"{folder} is version {card.version} of a {card.kind} model, "
            f"expected version {VERSION} of a {settings.kind} model",
            "train that one again",
        )
    found = Pretrained(card, folder)
    _check_card(found)
    for name in ("members", "width", "layers"):
        had, asked = card.recipe["network"][name], getattr(settings, name)
        if asked is not None and had != asked:
            raise SpecError(
                f"{where}.{name}", f"is {asked}, that of {folder} is {had}", f"write {name}: {had}"
            )
    if not set(bands) & set(card.bands):
        raise SpecError(
            f"{where}.pretrained",
            f"{folder} was trained on {card.survey} and knows none of the bands {', '.join(bands)}",
            f"its bands: {', '.join(card.bands)}",
        )
    _check_weights(found)
    return found


def _check_card(found: Pretrained) -> None:
    """Raise a SpecError where a card does not say what a network is begun with."""
    card = found.card
    try:
        network = card.recipe["network"]
        sizes = [int(network[name]) for name in _SIZES]
        asked = len(found.recipe.kept), sum(head.size for head in found.heads)
        {band["name"]: float(band["wavelength"]) for band in card.reading["bands"]}
        [one["survey"] for one in found.lineage]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        why = f"no '{error.args[0]}'" if isinstance(error, KeyError) else str(error)
        raise _damaged(found.folder / CARD, f"is no card of a {card.kind} model: {why}") from error
    if (sizes[0], sizes[-1]) != asked:
        raise _damaged(
            found.folder / CARD,
            f"speaks of {sizes[0]} inputs and {sizes[-1]} outputs, and describes "
            f"{asked[0]} and {asked[1]}",
        )


def _check_weights(found: Pretrained) -> None:
    """Raise a SpecError where a network is not there, or is not the one of its card."""
    file = found.folder / _WEIGHTS
    try:
        weights = found.weights()
    except FileNotFoundError as error:
        raise _damaged(file, "there is no such file") from error
    except (OSError, KeyError) as error:
        raise _damaged(file, f"cannot be read: {error}") from error
    inputs, members, width, layers, outputs = (found.card.recipe["network"][w] for w in _SIZES)
    units = [inputs, *[width] * layers, outputs]
    wanted = [
        shape
        for above, below in pairwise(units)
        for shape in ((members, above, below), (members, 1, below))
    ]
    if [array.shape for array in weights] != wanted:
        raise _damaged(file, "has layers of other sizes than its card says")
    if found.card.sealed(weights).fingerprint != found.card.fingerprint:
        raise _damaged(file, f"or {CARD} beside it is not what was trained (another SHA-256)")


def _damaged(file: Path, what: str) -> SpecError:
    return SpecError(str(file), what, "train it again, or copy its folder again")


def differences(
    before: Pretrained,
    survey: Survey,
    bands: Sequence[str],
    settings: PhotometricModel,
    sample: Mapping[str, Any] | None = None,
) -> tuple[str, ...]:
    """What a fit will have otherwise than the model that it begins with, as far as is known before.

    Parameters
    ----------
    before : Pretrained
    survey : Survey
    bands : sequence of str
        Those of its bands that are to be read.
    settings : PhotometricModel
    sample : mapping, optional
        Source and split; see `galbatch.sample.lineage.origin`.

    Returns
    -------
    tuple of str
        A sentence each: rows held out that may have taught it; bands that do not agree by name and
        within 1 % in wavelength; targets that begin with random weights.
        Whether labels reach beyond its redshifts, and whether there are quasars enough, is known
        when it is trained.
    """
    return (
        *leaks(before.lineage, survey.name, sample or {}),
        *_of_bands(before.card, survey, bands),
        *_of_expected_heads(before, survey, settings),
    )


def _of_expected_heads(
    before: Pretrained, survey: Survey, settings: PhotometricModel
) -> tuple[str, ...]:
    """As `_of_heads`, of the heads that a survey's and a model's settings call for."""
    known = {head.target: head for head in before.heads}
    said: list[str] = []
    for target in settings.targets or [one for one in TARGETS if survey.labels.of(one)]:
        if target in known:
            new = known[target].expected(settings.bins, survey)
            said += _of_heads((new,), before.heads, before.card.survey)
        else:
            said.append(_from_random(target, _untaught(before.card.survey)))
    return tuple(said)


def _of_heads(new: Sequence[Head], old: Sequence[Head], survey: str) -> tuple[str, ...]:
    """Targets that take up nothing of the old network's last layer, and why."""
    known = {head.target: head for head in old}
    return tuple(
        _from_random(head.target, why)
        for head in new
        if (why := _unlike(head, known.get(head.target), survey))
    )


def _from_random(target: Target, why: str) -> str:
    return f"{target} begins with random weights: {why}"


def _untaught(survey: str) -> str:
    return f"{survey} did not teach it"


def _of_bands(card: Card, survey: Survey, bands: Sequence[str]) -> tuple[str, ...]:
    """Bands that do not agree by name and within 1 % in wavelength."""
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
    return tuple(head.carried(of[head.target]) if head.target in of else head for head in new)


def carried_weights(
    random: Weights,
    old: Weights,
    columns: tuple[Sequence[str], Sequence[str]],
    heads: tuple[Sequence[Head], Sequence[Head]],
) -> Weights:
    """Weights to begin with.

    Parameters
    ----------
    random : list of ndarray
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
    kernel, bias = np.zeros_like(random[0]), old[1].copy()
    place = {name: index for index, name in enumerate(new_names)}
    for index, name in enumerate(old_names):
        if name in place:
            kernel[:, place[name]] = old[0][:, index]
        else:
            bias[:, 0] += np.float32(_ABSENT.get(name.partition(" ")[0], 0.0)) * old[0][:, index]
    found[0], found[1] = kernel, bias
    found[-2], found[-1] = random[-2].copy(), random[-1].copy()
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
    return {
        head.target: head
        for head in old
        if head.target in wanted and not _unlike(wanted[head.target], head, "")
    }


def _unlike(new: Head, old: Head | None, survey: str) -> str:
    """Why a head cannot take up the old one of its target; empty where it can.

    `survey` is the old one's.
    """
    return _untaught(survey) if old is None else new.unlike(old, survey)
