"""The header that lets astropy and TOPCAT see units in a Parquet file (IVOA VOParquet 1.0)."""

from __future__ import annotations

from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.compute as pc

_NAMESPACE = "http://www.ivoa.net/xml/VOTable/v1.3"
_DATATYPES = {
    pa.bool_(): "boolean", pa.uint8(): "unsignedByte", pa.int8(): "short", pa.int16(): "short",
    pa.uint16(): "int", pa.int32(): "int", pa.uint32(): "long", pa.int64(): "long",
    pa.uint64(): "long", pa.float32(): "float", pa.float64(): "double",
}  # fmt: skip


def votable_metadata(table: pa.Table) -> dict[str, str]:
    """File metadata that describes the columns as a VOTable.

    Parameters
    ----------
    table : pyarrow.Table
        With unit, ucd and description in the fields' metadata.

    Returns
    -------
    dict of str to str
    """
    root = ElementTree.Element("VOTABLE", version="1.4", xmlns=_NAMESPACE)
    page = ElementTree.SubElement(ElementTree.SubElement(root, "RESOURCE"), "TABLE")
    for column in table.schema:
        meaning = {key.decode(): text.decode() for key, text in (column.metadata or {}).items()}
        marks = {"name": column.name, **_datatype(column.type)}
        if pa.types.is_string(column.type):
            # astropy needs to know how long it may be.
            longest = pc.max(pc.utf8_length(table[column.name])).as_py()
            marks["arraysize"] = f"{longest or 1}*"
        marks |= {key: meaning[key] for key in ("unit", "ucd") if key in meaning}
        field = ElementTree.SubElement(page, "FIELD", marks)
        if "description" in meaning:
            ElementTree.SubElement(field, "DESCRIPTION").text = meaning["description"]
    ElementTree.SubElement(page, "PARQUET", type="Parquet-local-XML")
    text = ElementTree.tostring(root, encoding="unicode", xml_declaration=False)
    return {
        "IVOA.VOTable-Parquet.content": f'<?xml version="1.0" encoding="UTF-8"?>\n{text}',
        "IVOA.VOTable-Parquet.version": "1.0",
    }


def _datatype(kind: pa.DataType) -> dict[str, str]:
    if pa.types.is_fixed_size_list(kind):
        return {**_datatype(kind.value_type), "arraysize": str(kind.list_size)}
    if pa.types.is_list(kind):
        return {**_datatype(kind.value_type), "arraysize": "*"}
    if kind in _DATATYPES:
        return {"datatype": _DATATYPES[kind]}
    return {"datatype": "unicodeChar", "arraysize": "*"}
