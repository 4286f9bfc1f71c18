"""Whose predictions the tables of databases hold."""

from __future__ import annotations

from galbatch.models.families import optional_columns
from galbatch.sinks.base import Origin
from galbatch.sinks.open import sink_of
from galbatch.spec.job import SinkSettings
from galbatch.stages.site import Site
from galbatch.store.units import delivery_unit


def origin_of(site: Site, sink: SinkSettings, name: str, version: str) -> Origin:
    """Whose predictions a database's table is to hold: those of a version of a model."""
    survey = site.survey
    held = held_as(sink, name, version)
    return Origin(survey.name, held, survey.id.column, optional_columns())


def held_as(sink: SinkSettings, name: str, version: str) -> str:
    """A table that the user has named holds the model's current version, whichever that is."""
    return name if sink.table else version


def unit_of(sink: SinkSettings, holder: str) -> str:
    """The unit of a receipt for what a database is to have of a model, or of a version of it."""
    return delivery_unit(sink_of(sink).identity, sink.table or holder, holder)
