"""Settings of maps of a catalogue's rows."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from galbatch.spec.base import Name, Slug
from galbatch.spec.model_settings import ModelSettings

SomWidth = Annotated[float, Field(ge=0.01, le=200)]
"""Of the neighbourhood, in cells."""
Cells = Annotated[int, Field(ge=2, le=200)]
PropertyNames = Annotated[tuple[Name, ...], Field(max_length=1000)]
"""Columns of the catalogue whose median and spread are told for each cell and cluster."""


class SomModel(ModelSettings):
    """A self-organising map of columns of the catalogue, and clusters of its cells.

    It reads the catalogue a part at a time, as often as it has passes: memory does not grow with
    the rows.
    """

    kind: Literal["som"]
    name: Slug = "som"
    columns: Annotated[tuple[Name, ...], Field(min_length=1, max_length=1000)]
    """Numbers, lists and arrays of the catalogue that a row lies on the map by, all together. Their
    directions are scaled to one spread. A row without one of the numbers is not on the map."""
    directions: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """How many directions of the rows are looked at, those with the largest spread; by default all
    that have any."""
    cells: tuple[Cells, Cells] = (10, 10)
    """Along x and y."""
    passes: int = Field(default=20, ge=1, le=1000)
    width: tuple[SomWidth, SomWidth] = (4.0, 0.35)
    """Of the neighbourhood in cells, in the first and in the last pass. A smaller last one has a
    smaller error of quantisation, and a larger one of topology."""
    clusters: int = Field(default=6, ge=2, le=1000)
    """k of k-means, on the cells, each with the weight of its rows."""
    properties: PropertyNames | None = None
    """By default the labels that the survey has."""
    max_rows: int = Field(default=100_000_000, ge=100, le=100_000_000)

    @model_validator(mode="after")
    def _narrows(self) -> Self:
        if self.width[0] < self.width[1]:
            raise ValueError("width: the first must not be smaller than the last")
        cells = self.cells[0] * self.cells[1]
        if self.clusters >= cells:
            raise ValueError(f"clusters: expected fewer than the {cells} cells")
        return self
