"""Jobs and surveys: what is understood, and what is said when it is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small import REPOSITORY

from galbatch.errors import SpecError
from galbatch.spec import load_job, load_survey
from galbatch.spec.job import MockSource, PhotometricModel
from galbatch.spec.jsonschema import SCHEMAS, schema_text
from galbatch.spec.resolve import resolve_columns

JOBS = sorted((REPOSITORY / "jobs").glob("*.yaml"))
SURVEYS = sorted((REPOSITORY / "schemas").glob("*.yaml"))


@pytest.mark.parametrize("file", JOBS, ids=lambda file: file.stem)
def test_shipped_jobs_name_shipped_surveys(file: Path) -> None:
    job = load_job(str(file))
    assert load_survey(job.survey).name == job.survey
    assert job.name == file.stem


def test_a_shipped_job_is_found_by_name() -> None:
    assert load_job("quickstart") == load_job(str(REPOSITORY / "jobs" / "quickstart.yaml"))


def test_set_reaches_any_word() -> None:
    job = load_job(
        "quickstart",
        ["source.rows=7", "models.photometric.members=3", "models.1.sample=0.5", "store=a/b"],
    )
    assert isinstance(job.source, MockSource)
    assert job.source.rows == 7
    assert isinstance(job.models[0], PhotometricModel)
    assert job.models[0].members == 3
    assert job.store == "a/b"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("source.row=3", "unknown setting 'source.row' (did you mean 'rows'?)"),
        ("modls=[]", "unknown setting 'modls' (did you mean 'models'?)"),
        ("source.kind=mok", "'source.kind' cannot be 'mok' (did you mean 'mock'?)"),
        ("cluster={workers: 2}", "'cluster' needs a 'kind' (one of: serial, local"),
        ("cluster.kind=slrm", "(did you mean 'slurm'?)"),
        ("split={kind: sky, ordr: 3}", "unknown setting 'split.ordr' (did you mean 'order'?)"),
        ("models.0.targets=[redshft]", "(did you mean 'redshift'?)"),
        ("models.thesi.x=3", "(did you mean 'thesis'?)"),
        ("source.rows=many", "'source.rows'"),
        ("partition.rows=0", "expected a whole number from 1 to 100000000, got 0"),
        ("nonsense", "expected key.path=value"),
        ("store: [", "expected key.path=value"),
        ("store=[", "--set store=[: is not YAML"),
        ("store.x=1", "'store' holds a value, not keys"),
    ],
)
def test_a_misspelt_word_is_explained(override: str, said: str) -> None:
    with pytest.raises(SpecError) as error:
        load_job("quickstart", [override])
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("quikstart", "is no known job (did you mean 'quickstart'?"),
        ("jobs/nothing.yaml", "there is no such job file"),
    ],
)
def test_a_missing_job_is_explained(name: str, said: str) -> None:
    with pytest.raises(SpecError, match=said.replace("(", r"\(").replace("?", r"\?")):
        load_job(name)


def test_an_unknown_survey_is_explained() -> None:
    with pytest.raises(SpecError, match="did you mean 'alhambra'"):
        load_survey("alhamba")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected 'key: value' lines"),
        ("a: [1,", "is not YAML"),
        ("- 1", "expected 'key: value' lines"),
        (
            "store: !!python/object/apply:os.system [ls]",
            "line 1: the tag .*os.system' is not known",
        ),
        ("store: ${GALBATCH_UNSET_VARIABLE}/x", "GALBATCH_UNSET_VARIABLE is not set"),
    ],
)
def test_bad_yaml_is_explained(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(text)
    with pytest.raises(SpecError, match=said):
        load_job(str(file))


def test_environment_variables_have_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (REPOSITORY / "jobs" / "quickstart.yaml").read_text()
    file = tmp_path / "job.yaml"
    file.write_text(text)
    monkeypatch.delenv("GALBATCH_STORES", raising=False)
    assert load_job(str(file)).store == "stores/quickstart"
    monkeypatch.setenv("GALBATCH_STORES", "elsewhere")
    assert load_job(str(file)).store == "elsewhere/quickstart"


def test_json_schemas_are_up_to_date() -> None:
    for name, model in SCHEMAS.items():
        text = (REPOSITORY / "schemas" / name).read_text(encoding="utf-8")
        assert json.loads(text) == json.loads(schema_text(model)), "run `make schemas`"


def test_columns_are_found_by_case_and_alias() -> None:
    survey = load_survey("alhambra")
    wanted = {name: name for name in survey.required}
    wanted |= {"ID": "objid", "RA": "RAdeg", "F365W": "f365w"}
    resolution = resolve_columns(survey, [*wanted.values(), "my_own"], "x.csv")
    assert resolution.names["objid"] == "ID"
    assert resolution.names["RAdeg"] == "RA"
    assert resolution.names["f365w"] == "F365W"
    assert resolution.names["my_own"] == "my_own"
    assert "RAdeg -> RA" in resolution.aliases
    assert "zb_1" in resolution.absent


def test_a_missing_band_column_is_named_with_a_suggestion() -> None:
    survey = load_survey("alhambra")
    names = [name if name != "F365W" else "F365W_a" for name in survey.required]
    with pytest.raises(SpecError) as error:
        resolve_columns(survey, names, "data/alh.csv")
    assert "data/alh.csv: column 'F365W' of band F365W is not in the file" in str(error.value)
    assert "did you mean 'F365W_a'?" in str(error.value)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("store=~nobody9/store", "there is no home folder of ~nobody9"),
        ("store=s3://", "names no bucket and no folder"),
        (f"scratch={'x' * 300}", "a name in a path has at most 255 bytes"),
    ],
)
def test_paths_that_nothing_can_use(word: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        load_job("quickstart", [word])
