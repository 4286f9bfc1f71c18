"""What astropy writes beside a table in HDF5 and Parquet: units, and which values are masked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from galbatch.errors import DataError

HDF5_SUFFIX = "__table_column_meta__"
"""How the name of the dataset ends that holds them in HDF5."""

PARQUET_KEY = b"table_meta_yaml"
"""The word of a Parquet footer that holds them."""


@dataclass(frozen=True)
class Notes:
    """What is said of columns.

    Parameters
    ----------
    units : dict of str to str
    masks : dict of str to str
        For a column, the column of booleans that says where it has no value: what it holds there
        is no value, only what was in memory.
    """

    units: dict[str, str] = field(default_factory=dict)
    masks: dict[str, str] = field(default_factory=dict)


def read_notes(path: str, text: str) -> Notes:
    """Understand the YAML that astropy writes; its types make nothing here.

    Raises
    ------
    DataError
        If it is no such YAML: masked values could be taken for real ones.
    """
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except (YAMLError, RecursionError, ValueError) as error:
        raise _unreadable(path) from error
    columns = _words(root).get("datatype")
    if not isinstance(columns, SequenceNode):
        raise _unreadable(path)
    found = [_words(column) for column in columns.value]
    units = {_text(one["name"]): _text(one.get("unit")) for one in found if "name" in one}
    return Notes({name: unit for name, unit in units.items() if unit}, dict(_masks(root, set())))


def _unreadable(path: str) -> DataError:
    problem = "what astropy noted of its columns cannot be understood"
    return DataError(path, problem, "write it again")


def _words(node: Node | None) -> dict[str, Node]:
    if not isinstance(node, MappingNode):
        return {}
    return {_text(key): value for key, value in node.value}


def _text(node: Node | None) -> str:
    return str(node.value).strip() if isinstance(node, ScalarNode) else ""


def _masks(node: Node, seen: set[int]) -> Iterator[tuple[str, str]]:
    """Data and mask of every column that has both, however deep they are."""
    if id(node) in seen or isinstance(node, ScalarNode):
        return
    seen.add(id(node))
    words = _words(node)
    data, mask = (_text(_words(words.get(key)).get("name")) for key in ("data", "mask"))
    if data and mask:
        yield data, mask
    for inner in words.values() if words else node.value:
        if isinstance(inner, Node):
            yield from _masks(inner, seen)
