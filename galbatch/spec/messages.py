"""Messages for what pydantic refuses: what was expected, what arrived, where in the file."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import ValidationError

from galbatch.errors import SpecError, did_you_mean
from galbatch.spec.base import Settings

KeyPath = Sequence[str | int]
_LONGEST = 60


def describe_error(
    model: type[Settings],
    error: ValidationError,
    settings: Any,
    where: Callable[[Sequence[str | int]], str],
) -> SpecError:
    """The first thing that is wrong, as one line.

    Parameters
    ----------
    model : type
        That refused the settings.
    error : ValidationError
    settings : object
        What it refused.
    where : callable
        From a place in `settings` (keys and positions) to the file and line that it is in.

    Returns
    -------
    SpecError
    """
    # A misspelt key usually also shows up as a missing one: name the misspelling first.
    problems = sorted(
        error.errors(include_url=False),
        key=lambda problem: problem["type"] != "extra_forbidden",
    )
    problem = problems[0]
    # A tuple of fixed length that is too short lacks a key as well, to pydantic.
    location = list(problem["loc"])
    kind = problem["type"]
    if kind == "missing" and isinstance(location[-1], int):
        location, kind = location[:-1], "too_short"
    place = _placed(_schema_of(model), location)
    said, hint = _said(kind, problem, place, _readable(place.path, settings))
    return SpecError(where(place.path), said, hint)


@cache
def _schema_of(model: type[Settings]) -> _Schema:
    schema = model.model_json_schema()
    return _Schema(schema, schema.get("$defs", {}))


def _said(kind: str, problem: Any, place: _Place, name: str) -> tuple[str, str]:
    """The problem, and what to try."""
    last, arrived = str(place.path[-1]) if place.path else "", problem["input"]
    match kind:
        case "extra_forbidden":
            return f"unknown setting '{name}'", did_you_mean(last, place.siblings)
        case "missing":
            return f"'{name}' is missing", ""
        case "union_tag_not_found":
            return f"'{name}' needs a 'kind'", f"one of: {', '.join(place.schema.tags())}"
        case "union_tag_invalid":
            tags, tag = place.schema.tags(), arrived["kind"]
            hint = did_you_mean(tag, tags) if isinstance(tag, str) else ""
            return f"'{name}.kind' cannot be {shown(tag)}", hint or f"one of: {', '.join(tags)}"
        case "literal_error":
            options = place.schema.options()
            hint = did_you_mean(arrived, options) if isinstance(arrived, str) else ""
            return f"'{name}' cannot be {shown(arrived)}", hint or f"one of: {', '.join(options)}"
        case "value_error":
            said = str(problem["ctx"]["error"])
            return f"'{name}': {said}" if name else said, ""
        case "too_short" | "too_long" if isinstance(arrived, tuple):
            least = problem.get("ctx", {}).get("min_length")
            if not arrived and least == 1:
                return f"'{name}' is empty", "it needs at least one entry"
            return f"'{name}': expected {place.schema.wanted()}, got {len(arrived)}", ""
        case _:
            wanted = place.schema.wanted()
            said = f"expected {wanted}, got {shown(arrived)}"
            return f"'{name}': {said}" if name else said, _advice(wanted, arrived)


def _advice(wanted: str, arrived: Any) -> str:
    """A hint at what a value of the wrong kind usually means."""
    text = isinstance(arrived, str)
    if "number" in wanted and text and re.fullmatch(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", arrived):
        return "without quotes"
    if not text and isinstance(arrived, int | float) and not _counts(wanted):
        return "in quotes, if it is text"
    return ""


def _counts(wanted: str) -> bool:
    return any(word in wanted for word in ("number", "true", "list", "lines"))


@dataclass(frozen=True)
class _Place:
    """Where a problem is: the keys that lead there, and the schema of what belongs there."""

    path: tuple[str | int, ...]
    schema: _Schema
    siblings: tuple[str, ...]


@dataclass(frozen=True)
class _Schema:
    """A JSON Schema, with the definitions that it refers to."""

    node: Mapping[str, Any]
    definitions: Mapping[str, Any]

    def branches(self) -> Iterator[_Schema]:
        """The alternatives for this value, references followed, null left out."""
        if "$ref" in self.node:
            name = self.node["$ref"].rpartition("/")[2]
            yield from _Schema(self.definitions[name], self.definitions).branches()
        elif "anyOf" in self.node:
            for node in self.node["anyOf"]:
                yield from _Schema(node, self.definitions).branches()
        elif self.node.get("type") != "null":
            yield self

    def tags(self) -> list[str]:
        """The values of `kind`, where it says what may stand here."""
        kinds = [
            _Schema(node, self.definitions).inner("kind")
            for branch in self.branches()
            for node in branch.node.get("oneOf", [])
        ]
        return [tag for kind in kinds if kind for tag in kind.options()]

    def tagged(self, tag: str | int) -> _Schema | None:
        for branch in self.branches():
            reference = branch.node.get("discriminator", {}).get("mapping", {}).get(tag)
            if reference:
                return _Schema({"$ref": reference}, self.definitions)
        return None

    def inner(self, part: str | int) -> _Schema | None:
        """The schema of a key or a position of this value."""
        for branch in self.branches():
            node = branch.node
            if isinstance(part, int):
                several = node.get("prefixItems", [])
                found = several[part] if part < len(several) else node.get("items")
            else:
                found = node.get("properties", {}).get(part) or node.get("additionalProperties")
            if found:
                return _Schema(found, self.definitions)
        return None

    def keys(self) -> tuple[str, ...]:
        return tuple(w for branch in self.branches() for w in branch.node.get("properties", {}))

    def options(self) -> list[str]:
        found: list[str] = []
        for branch in self.branches():
            found += branch.node.get("enum", [])
            found += [branch.node["const"]] if "const" in branch.node else []
        return found

    def wanted(self) -> str:
        """What may be written here, for a message."""
        return " or ".join(dict.fromkeys(_wanted(branch) for branch in self.branches()))


def _placed(schema: _Schema, location: KeyPath) -> _Place:
    """Follow pydantic's location, which names the chosen kind of a union as well."""
    path: list[str | int] = []
    siblings: tuple[str, ...] = ()
    for number, part in enumerate(location):
        # The tag follows the union at once, and something of it follows the tag.
        chosen = schema.tagged(part) if number < len(location) - 1 else None
        if chosen is not None:
            schema = chosen
            continue
        found = schema.inner(part)
        siblings = schema.keys()
        if found is None and not siblings:
            break  # pydantic's name for one of several scalars
        path.append(part)
        if found is None:
            break
        schema = found
    return _Place(tuple(path), schema, siblings)


def _readable(path: KeyPath, settings: Any) -> str:
    """`models.photometric.seed`, as `--set` takes it: an entry by its name where it has one."""
    parts: list[str] = []
    for part in path:
        inner = settings[part] if _holds(settings, part) else None
        parts.append(_entry(settings, part) if isinstance(part, int) else _shortened(part))
        settings = inner
    return ".".join(parts)


def _entry(entries: Any, position: int) -> str:
    names = name_entries(entries) if isinstance(entries, list) else []
    name = names[position] if position < len(names) else None
    return _shortened(name) if name and names.count(name) == 1 else str(position)


def name_entries(entries: Sequence[Any]) -> list[str | None]:
    """The names (or kinds) of the entries of a list; None for those that have neither."""
    named = [
        entry.get("name", entry.get("kind")) if isinstance(entry, dict) else None
        for entry in entries
    ]
    return [name if isinstance(name, str) else None for name in named]


def _holds(settings: Any, part: str | int) -> bool:
    if isinstance(part, int):
        return isinstance(settings, list) and part < len(settings)
    return isinstance(settings, dict) and part in settings


def _wanted(schema: _Schema) -> str:
    node = schema.node
    if "enum" in node or "const" in node:
        return "one of: " + ", ".join(schema.options())
    match node.get("type"):
        case "integer" | "number":
            return _number(node)
        case "boolean":
            return "true or false"
        case "string":
            return str(node.get("patternErrorMessage", "text"))
        case "array":
            return _list(node)
        case _:
            return "'key: value' lines"


def _number(node: Mapping[str, Any]) -> str:
    kind = "a whole number" if node["type"] == "integer" else "a number"
    low, high = node.get("minimum"), node.get("maximum")
    if low is not None and high is not None:
        return f"{kind} from {_figure(low)} to {_figure(high)}"
    limits = [
        f"{word} {_figure(node[key])}"
        for key, word in (
            ("minimum", "at least"),
            ("exclusiveMinimum", "above"),
            ("maximum", "at most"),
            ("exclusiveMaximum", "below"),
        )
        if key in node
    ]
    return f"{kind}, {' and '.join(limits)}" if limits else f"{kind} (finite)"


def _list(node: Mapping[str, Any]) -> str:
    least, most = node.get("minItems"), node.get("maxItems")
    if least is not None and least == most:
        return f"a list of {least} entries"
    if least is not None and least > 1:
        return f"a list of at least {least} entries"
    return "a list"


def _figure(number: float) -> str:
    """A limit as a person writes it."""
    return f"{number:g}" if abs(number) >= 1e15 or number != int(number) else str(int(number))


def shown(value: Any) -> str:
    """A value of any kind and size, as part of a line."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        long = abs(value) >= 10**25
        return f"a number of {int(math.log10(abs(value))) + 1} digits" if long else str(value)
    if isinstance(value, str):
        return f"'{_shortened(value)}'"
    return "'key: value' lines" if isinstance(value, Mapping) else "a list"


def _shortened(text: str) -> str:
    """Text without what would end or break a line."""
    cut = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in cut)
