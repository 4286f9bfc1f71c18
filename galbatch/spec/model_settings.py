"""What the settings of all families of models share."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, get_args

from pydantic import Field

from galbatch.spec.base import Seed, Settings, Slug
from galbatch.values import Target

Epochs = Annotated[int, Field(ge=1, le=10_000)]


class ModelSettings(Settings):
    """What the families of models share.

    A subclass is the settings of the family that its `kind` names, and a job may have them from
    then on.
    """

    only_predict: ClassVar[frozenset[str]] = frozenset()
    """Settings that change what is predicted with a trained model, and nothing of the model."""
    of_kind: ClassVar[dict[str, type[ModelSettings]]] = {}
    """The subclasses, by their kind."""

    kind: str
    name: Slug
    targets: Annotated[tuple[Target, ...], Field(min_length=1)] | None = None
    """By default all that the catalogue has labels for."""
    epochs: Epochs | None = None
    max_rows: int = Field(default=1_000_000, ge=100, le=100_000_000)
    """Rows to train on, at most (a random sample of them)."""
    seed: Seed = 0

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        for kind in get_args(cls.model_fields["kind"].annotation):
            ModelSettings.of_kind[kind] = cls

    @property
    def begins_with(self) -> str | None:
        """Folder of the trained model that a fit begins with, if any."""
        return None

    @property
    def files(self) -> tuple[str, ...]:
        """Files that a fit reads besides the catalogue: other content makes another model."""
        return ()

    def training_settings(self) -> dict[str, Any]:
        """What a fit depends on, as JSON values: all settings but those of `only_predict`."""
        return self.model_dump(mode="json", exclude=set(self.only_predict))

    def predict_settings(self) -> dict[str, Any]:
        """Those of `only_predict`, as JSON values."""
        return self.model_dump(mode="json", include=set(self.only_predict))
