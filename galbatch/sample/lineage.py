"""Which rows a network was trained on: its own, and those of the networks it began with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from galbatch.spec.job import MockSource, Source, Split


def origin(source: Source, split: Split) -> dict[str, Any]:
    """Where a training sample comes from, and which rows were held out of it.

    Parameters
    ----------
    source : FilesSource or MockSource
    split : SkySplit or IdSplit

    Returns
    -------
    dict
        ``source`` and ``split``, JSON values. Files go by their names: their folders are the
        user's own, and the same rows give the same card wherever they lie.
    """
    if isinstance(source, MockSource):
        named: dict[str, Any] = {"kind": "mock", "rows": source.rows, "seed": source.seed}
    else:
        named = {"kind": "files", "files": [_name(path) for path in source.paths]}
    return {"source": named, "split": split.model_dump(mode="json")}


def leaks(
    earlier: Sequence[Mapping[str, Any]], survey: str, sample: Mapping[str, Any]
) -> tuple[str, ...]:
    """Earlier samples that may hold rows that are held out now.

    Parameters
    ----------
    earlier : sequence of mapping
        The lineage of the pretrained model.
    survey : str
        Name of the one that is trained on now.
    sample : mapping
        From `origin`; empty where that is not known, and nothing can be said.

    Returns
    -------
    tuple of str
        A sentence each.
    """
    if not sample:
        return ()
    said = []
    for one in earlier:
        if one["survey"] != survey or not _may_share(one.get("source"), sample["source"]):
            continue
        if _held_out_before(sample["split"], one.get("split")):
            continue
        how = "with another split" if one.get("split") else "with a split that is not known"
        said.append(
            f"the pretrained model was trained on {survey}{_in_brackets(one.get('source'))} {how}: "
            "rows held out here may have taught it"
        )
    return tuple(dict.fromkeys(said))


def _may_share(then: Mapping[str, Any] | None, now: Mapping[str, Any]) -> bool:
    """Whether two sources of a survey may have rows in common: not two simulated skies."""
    if then is None:
        return True
    if "mock" in (then["kind"], now["kind"]):
        return (then["kind"], then.get("seed")) == (now["kind"], now.get("seed"))
    return True


def _held_out_before(now: Mapping[str, Any], then: Mapping[str, Any] | None) -> bool:
    """Whether what is held out or validates now did not train then: shares begin at 0."""
    if then is None:
        return False
    same = all(now.get(key) == then.get(key) for key in ("kind", "order", "seed"))
    ends = [(split["test"], split["test"] + split["validation"]) for split in (now, then)]
    return same and all(one <= other for one, other in zip(*ends, strict=True))


def _in_brackets(source: Mapping[str, Any] | None) -> str:
    if source is None:
        return ""
    if source["kind"] == "mock":
        return f" (mock, seed {source['seed']})"
    return f" ({', '.join(source['files'])})"


def _name(path: str) -> str:
    """Without its folders, and without what a URL may be signed with."""
    plain = path.partition("?")[0] if "://" in path else path
    return plain.rstrip("/").rpartition("/")[2]
