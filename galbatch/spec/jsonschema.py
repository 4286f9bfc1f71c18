"""JSON Schemas of jobs and surveys, so that an editor completes and checks the YAML.

``python -m galbatch.spec.jsonschema FOLDER`` writes them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from galbatch.spec.base import Settings
from galbatch.spec.job import Job
from galbatch.spec.survey import Survey

SCHEMAS: dict[str, type[Settings]] = {"job.schema.json": Job, "survey.schema.json": Survey}


def schema_text(model: type[Settings]) -> str:
    """The JSON Schema of a spec model, as text."""
    schema = model.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=1) + "\n"


def write_schemas(folder: Path) -> None:
    """Write `job.schema.json` and `survey.schema.json` into `folder`."""
    for name, model in SCHEMAS.items():
        (folder / name).write_text(schema_text(model), encoding="utf-8")


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]))
