"""Versions of models: which the job's settings call for, which the store holds.

Versions are `<name>`, `<name>_v2`, `<name>_v3`, ...: a changed setting that trains makes another
one, and the settings of an earlier one bring that back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from galbatch.errors import SpecError
from galbatch.models.base import read_card
from galbatch.models.families import family_of
from galbatch.spec.job import AnyModel
from galbatch.stages import code
from galbatch.stages.site import Site
from galbatch.stages.training_rows import split_of
from galbatch.store.commit import digest_file
from galbatch.store.locations import local_copy, location
from galbatch.store.model_facts import PublishedFacts, TrainFacts
from galbatch.store.receipts import Need, Receipts, json_digest
from galbatch.store.units import version_number, version_unit, versions_of
from galbatch.values import Receipt

NOT_TAUGHT: Any = {
    **dict.fromkeys(("columns", "mock", "published", "references", "title"), True),
    "spectra": {"known_class", "known_subclass"},
}
"""What a survey says that no model learns anything of."""


@dataclass(frozen=True)
class HeldVersion:
    """A version of a model that the store holds.

    Parameters
    ----------
    name : str
    fingerprint : str
    rows : int
        Predicted and published.
    current : bool
        Whether the job's settings call for it.
    earlier_catalogue : bool
        Whether its predictions are of one.
    """

    name: str
    fingerprint: str
    rows: int
    current: bool
    earlier_catalogue: bool


class Versions:
    """The versions of models in a store, as its receipts are.

    Parameters
    ----------
    site : Site
    receipts : Receipts
    """

    def __init__(self, site: Site, receipts: Receipts) -> None:
        self._site, self._receipts = site, receipts
        self._current: dict[str, str] = {}

    def current(self, model: AnyModel) -> str:
        """The version that the job's settings call for: there already, or to be trained."""
        if model.name not in self._current:
            self._current[model.name] = self._called_for(model)
        return self._current[model.name]

    @property
    def all_current(self) -> tuple[str, ...]:
        """The current version of each of the job's models, in its order."""
        return tuple(map(self.current, self._site.job.models))

    def need(self, model: AnyModel, version: str) -> Need:
        """What a version of a model depends on, whatever the rows it was trained on."""
        site = self._site
        survey = site.survey.model_dump(mode="json", exclude=NOT_TAUGHT)
        depends = {
            "code": code.TRAIN,
            "family": family_of(model.kind).version,
            "model": model.training_settings(),
            "split": split_of(site.job, site.survey).model_dump(mode="json"),
            "survey": json_digest(survey),
        }
        if model.begins_with is not None:
            receipt = self._receipts.get("train", version)
            depends["pretrained"] = _fingerprint(model.begins_with, receipt)
        if model.files:
            receipt = self._receipts.get("train", version)
            depends["files"] = _digests(model.files, receipt)
        return Need("train", version, depends)

    def is_trained(self, model: AnyModel) -> bool:
        """Whether a model is there as the job calls for it, and nothing of it is left to do."""
        return self._receipts.valid(self.need(model, self.current(model))) is not None

    def trained(self) -> dict[str, str]:
        """Fingerprints of the versions of models that the job's settings call for."""
        fingerprints = {}
        for model in self._site.job.models:
            version = self.current(model)
            receipt = self._receipts.valid(self.need(model, version))
            if receipt is not None:
                fingerprints[version] = TrainFacts.from_json(receipt.facts).fingerprint
        return fingerprints

    def next(self, model: AnyModel) -> str:
        """The version that a fit makes."""
        last = self._last(model.name)
        # What was never published need not be kept; a receipt that cannot be read speaks for it.
        published = self._site.layout.receipt("predict", version_unit(model.name, last))
        if last and not published.exists():
            return version_unit(model.name, last)
        return version_unit(model.name, last + 1)

    def named(self, model: AnyModel, version: str, fingerprint: str) -> str:
        """The version that a trained network is.

        A version with predictions keeps its network: another one, be it of the same settings, is
        a new version. It comes to that where the network was lost and the catalogue has changed
        since.
        """
        published = self._receipts.get("predict", version)
        if published is None:
            return version
        if PublishedFacts.from_json(published.facts).fingerprint == fingerprint:
            return version
        return version_unit(model.name, self._last(model.name) + 1)

    def held(self, catalogue: str) -> tuple[HeldVersion, ...]:
        """What versions of models the store holds.

        Parameters
        ----------
        catalogue : str
            Digest of the published catalogue; empty where there is none.
        """
        held = []
        current = set(self.all_current)
        for version, receipt in self._receipts.all("train").items():
            published = self._receipts.get("predict", version)
            earlier = published and catalogue and published.depends["catalogue"] != catalogue
            held.append(
                HeldVersion(
                    name=version,
                    fingerprint=TrainFacts.from_json(receipt.facts).fingerprint,
                    rows=published.rows if published else 0,
                    current=version in current,
                    earlier_catalogue=bool(earlier),
                )
            )
        return tuple(held)

    def known(self) -> tuple[str, ...]:
        """The versions that anything is left of, also of models the job no longer names."""
        predicted = versions_of(self._receipts.all("predict"))
        return tuple(sorted({*predicted, *self._receipts.all("train")}))

    def _called_for(self, model: AnyModel) -> str:
        trained = self._trained_versions(model.name)
        for number in range(self._last(model.name), 0, -1):
            version = version_unit(model.name, number)
            if number in trained:
                meant = trained[number].key == self.need(model, version).key
            else:
                card = _settings(self._site.layout.model(version))
                meant = card == model.training_settings()
            if meant:
                return version
        return self.next(model)

    def _trained_versions(self, name: str) -> dict[int, Receipt]:
        """The receipts of the trained versions of a model, by their number."""
        numbered = (
            (version_number(unit, name), receipt)
            for unit, receipt in self._receipts.all("train").items()
        )
        return {number: receipt for number, receipt in numbered if number is not None}

    def _last(self, name: str) -> int:
        """The highest version that the store knows of: by a receipt, be it damaged, or a folder."""
        last = max(self._trained_versions(name), default=0)
        while _is_there(self._site, version_unit(name, last + 1)):
            last += 1
        return last


def _fingerprint(folder: str, receipt: Receipt | None) -> str | None:
    """Of the model to begin with; where it is gone, what the version's receipt remembers."""
    try:
        return read_card(location(folder)).fingerprint
    except SpecError:
        return receipt.depends.get("pretrained") if receipt else None


def _digests(files: Sequence[str], receipt: Receipt | None) -> dict[str, str]:
    """Of what a fit reads besides the catalogue; of what is gone, as the receipt remembers it."""
    known = receipt.depends.get("files", {}) if receipt else {}
    found = {}
    for file in files:
        try:
            found[file] = digest_file(Path(file))
        except OSError:
            found[file] = known.get(file, "")
    return found


def _is_there(site: Site, version: str) -> bool:
    layout = site.layout
    receipts = (layout.receipt(stage, version) for stage in ("train", "predict"))
    return any(path.exists() for path in (*receipts, layout.model(version)))


def _settings(folder: Path) -> Any:
    """The settings that a network was trained by, where its receipt is lost."""
    try:
        with local_copy(folder) as copy:
            return dict(read_card(copy).spec)
    except SpecError:
        return None
