"""The page says what it was given, loads nothing, and copes with whatever is missing."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from galbatch.quality.evaluation import evaluate
from galbatch.report.data import HeldOut, ModelReport, Quarantine, ReportData, TargetLabels
from galbatch.report.page import render
from galbatch.report.words import decimals, percent, thousands
from galbatch.values import TARGETS, RejectedRow

VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """What a browser would load, and whether the tags fit together."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.images = 0
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        assert tag not in {"script", "link", "iframe", "object", "base"}
        assert not any(name.startswith("on") for name in values)
        self.loads += [
            values[name] for name in ("src", "srcset", "data", "action") if name in values
        ]
        self.images += tag == "img"
        if tag == "img":
            assert values["alt"]
        if tag == "a":
            self.links.add(values["href"])
        if "id" in values:
            assert values["id"] not in self.ids
            self.ids.add(values["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


def check(text: str) -> Page:
    page = Page(text)
    assert page.open == []
    assert all(source.startswith("data:image/svg+xml,") for source in page.loads)
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert len(text) < 3_000_000
    assert "nan" not in re.split(r"[^a-z]+", page.text)
    return page


@pytest.fixture(scope="module")
def full_page(full_report: ReportData) -> str:
    return render(full_report)


def test_full_page_is_self_contained(full_page: str) -> None:
    assert check(full_page).images == 23


def test_it_says_the_numbers(full_page: str, full_report: ReportData) -> None:
    text = Page(full_page).text
    evaluation = full_report.models[0].evaluation
    assert evaluation is not None
    redshift, star = evaluation.of("redshift"), evaluation.of("star")
    assert redshift is not None and redshift.point is not None
    assert star is not None and star.classes is not None
    for number in (
        thousands(full_report.rows_read).replace("\u202f", " "),
        decimals(redshift.point.sigma_nmad),
        decimals(redshift.point.bias),
        percent(redshift.point.outliers).replace("\u202f", " "),
        percent(star.classes.accuracy).replace("\u202f", " "),
        decimals(star.classes.auc),
        thousands(star.classes.galaxies_as_galaxies).replace("\u202f", " "),
    ):
        assert number in text
    for words in (
        "Done, with 25 rows, 1 partition in quarantine.",
        "Simulated catalogue",
        "alhambra.csv.gz:1201",
        "expected 113 fields, found 112",
        "RAdeg -> RA",
        "ALHAMBRA BPZ2, 22.5 < I < 24.5",
        "8d1f6a90c3",
        "Held out: 20 % of the sky cells",
        "11 without a prediction",
        "5 min 12 s",
    ):
        assert words in text, words


@pytest.mark.parametrize(
    ("partitions", "words"),
    [(1, "every row of 1 partition was"), (12_000, "every row of 12 000 partitions was")],
)
def test_complete_means_that_nothing_is_left(partitions: int, words: str) -> None:
    data = ReportData(job="ingest", survey="A survey", version="0.1.0", partitions=partitions)
    assert f"Complete: {words} processed." in check(render(data)).text
    left = ("scan: 1 file left: a<b>.csv: the file changed", "append: waits for predict")
    text = check(render(replace(data, left=left))).text
    assert "Complete" not in text and "Not complete: see what is left" in text
    assert all(line in text for line in left)


def test_what_is_left_and_what_is_in_quarantine_are_said_together(full_report: ReportData) -> None:
    text = check(render(replace(full_report, left=("append: 2 deliveries left: a; b",)))).text
    assert "Not complete, with 25 rows, 1 partition in quarantine: see what is left" in text


def test_a_run_without_models() -> None:
    page = check(render(ReportData(job="ingest", survey="A survey", version="0.1.0", rows_read=5)))
    assert "nothing was predicted" in page.text
    assert "Empty: no row, file or partition was set aside." in page.text
    assert page.images == 0


def test_a_model_without_held_out_rows() -> None:
    model = ModelReport("photometric", "photometric", "abc", 10)
    data = ReportData(job="j", survey="s", version="0", rows_ingested=10, models=(model,))
    page = check(render(data))
    assert "Nothing was held out" in page.text
    assert "no rows were held out" in page.text


def test_labels_of_one_target_only() -> None:
    data = _small()
    page = check(render(data))
    assert "stars are not labelled in this survey" in page.text
    assert "No held-out rows of both known classes." in page.text
    assert "No held-out rows with a known stellar mass" in page.text


def test_held_out_stars_of_one_class_only() -> None:
    truth = {"star": np.zeros(40)}
    predictions = {"prob_star": np.linspace(0, 0.7, 40)}
    page = check(render(_judged(truth, predictions)))
    assert "No held-out rows of both known classes." in page.text
    assert "no held-out rows with a known redshift" in page.text


def test_three_classes() -> None:
    random = np.random.default_rng(3)
    star = random.choice([0.0, 1.0, 2.0], 400, p=[0.7, 0.2, 0.1])
    given = random.dirichlet([1, 1, 1], 400)
    given[np.arange(400), star.astype(int)] += 1
    given /= given.sum(axis=1, keepdims=True)
    truth = {"star": star, "redshift": np.where(star == 1, np.nan, 0.5 + star)}
    predictions = {
        "prob_galaxy": given[:, 0],
        "prob_star": given[:, 1],
        "prob_qso": given[:, 2],
        "z_mode": truth["redshift"] + random.normal(0, 0.01, 400),
    }
    data = _judged(truth, predictions, random.uniform(18, 22, 400))
    page = check(render(data))
    model = data.models[0].evaluation
    assert model is not None
    classes, redshift = model.of("star"), model.of("redshift")
    assert classes is not None and classes.multiclass is not None
    assert redshift is not None and redshift.quasars is not None
    for number in (
        decimals(classes.multiclass.of("qso", "auc")),
        percent(classes.multiclass.accuracy).replace("\u202f", " "),
        decimals(redshift.quasars.sigma_nmad),
        f"{(star == 2).sum()} quasars, held out.",
    ):
        assert number in page.text, number
    for words in ("Confusion matrix of three classes", "called qso", "leave known quasars out",
                  "Quasars against the rest, by magnitude"):  # fmt: skip
        assert words in page.text, words


@pytest.mark.parametrize("rows", [1, 12])
def test_a_handful_of_held_out_rows(rows: int) -> None:
    truth = {"redshift": np.linspace(0.2, 0.4, rows), "log_mass": np.full(rows, 10.0)}
    predictions = {
        "z_mode": truth["redshift"] + 0.01,
        "odds": np.ones(rows),
        "log_mass": np.full(rows, 10.0),
    }
    assert check(render(_judged(truth, predictions, np.full(rows, 20.0)))).images >= 4


def test_only_missing_predictions() -> None:
    truth = {"redshift": np.linspace(0.2, 0.4, 20)}
    page = check(render(_judged(truth, {"z_mode": np.full(20, np.nan)})))
    assert "no held-out rows with a known redshift" in page.text


def test_hostile_names_are_only_text() -> None:
    evil = "<script>alert(1)</script>"
    dollars = r"$\frac{1$ & \" ' onload=x"
    data = replace(
        _small(),
        job=evil,
        survey=dollars,
        where=evil,
        reference_band=dollars,
        notices=(evil,),
        aliases=(evil,),
        quarantine=(Quarantine("rows", evil, 1, (RejectedRow(evil, 3, evil),)),),
    )
    model = replace(data.models[0], name=dollars, card=((evil, evil),))
    text = render(replace(data, models=(model,)))
    check(text)
    assert "<script" not in text.lower()
    assert "&lt;script&gt;" in text


def _small() -> ReportData:
    random = np.random.default_rng(0)
    truth = {"redshift": random.uniform(0.1, 1, 60)}
    data = _judged(truth, {"z_mode": truth["redshift"] + random.normal(0, 0.02, 60)})
    labels = (
        TargetLabels("redshift", 200, 30, 60),
        TargetLabels("star", 0, 0, 0, "stars are not labelled in this survey"),
    )
    return replace(data, models=(replace(data.models[0], labels=labels),))


def _judged(
    truth: dict[str, np.ndarray],
    predictions: dict[str, np.ndarray],
    magnitude: np.ndarray | None = None,
) -> ReportData:
    model = ModelReport(
        "photometric",
        "photometric",
        "abc",
        900,
        evaluation=evaluate(TARGETS, predictions, truth, magnitude),
        held_out=predictions,
    )
    return ReportData(
        job="j",
        survey="s",
        version="0",
        rows_ingested=900,
        models=(model,),
        held_out=HeldOut("rows drawn by their id", truth, magnitude),
    )
