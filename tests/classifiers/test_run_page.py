"""The page of a run: what it shows, of each kind of label, and that it holds no foreign markup or addresses."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from classifiers import TrainConfig, create_model, train
from classifiers.evaluation.metrics import ClassScores, compute_metrics, metrics_of_classes
from classifiers.evaluation.multilabel import metrics_of_labels
from classifiers.evaluation.predictions import Answers, Predictions
from classifiers.evaluation.reading import Reading
from classifiers.evaluation.regression import metrics_of_targets
from classifiers.report.mistakes import worst_mistakes
from classifiers.report.page import Evaluation, figure_text, run_page
from classifiers.report.pictures import sample_pictures
from tests.support.small_sets import write_small_set
from tests.support.tiny_datasets import identity_layer, make_spec, striped_split
from walloc_cdl.data import open_latents
from walloc_cdl.training import EpochFigures

EVIL = '<script>alert("1")</script>$\\frac{1}$&'
HISTORY = [
    EpochFigures(2 - 0.1 * number, 0.001, 100.0, {"accuracy": 0.1 * number, "log_loss": 2.0}) for number in range(3)
]


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(dataset, metrics, outcome, history=HISTORY, title="run", **changes):
    model = create_model("test_resnet", dataset)
    evaluation = Evaluation(metrics, outcome, dataset, Reading())
    return run_page(title, model.config, {"train": {"lr": 0.1, **changes}}, history, {}, evaluation)


def answers_of(dataset, seed=0):
    rng, count = np.random.default_rng(seed), dataset.num_classes
    probabilities = rng.dirichlet(np.ones(count), len(dataset))
    labels = dataset.labels
    of_label = np.where(labels >= 0, probabilities[np.arange(len(labels)), labels], np.nan)
    scores = ClassScores(probabilities.max(1), of_label, np.zeros(len(labels)), probabilities)
    return compute_metrics(probabilities, labels), Answers(probabilities.argmax(1), labels, scores)


def test_a_run_has_a_page_with_everything(striped, tmp_path):
    config = TrainConfig(epochs=2, batch_size=64)
    data, test_set = striped["train"][:64], striped["validation"]
    train(lambda: create_model("test_resnet", data), data, test_set, config, tmp_path / "my run")
    page = Elements((tmp_path / "my run" / "index.html").read_text())
    for part in ("my run", "Training", "Worst mistakes", "Confusion matrix", "Calibration", "train.lr", "AUC"):
        assert part in page.text, part
    assert "2 epochs" in page.text
    assert "96 labeled samples of the split validation" in page.text
    assert len(page.named("svg")) == 5
    assert 1 <= len(page.named("img")) <= 24
    train(lambda: create_model("test_resnet", data), data, None, config, tmp_path / "other")
    page = Elements((tmp_path / "other" / "index.html").read_text())
    assert len(page.named("svg")) == 2  # loss and learning rate
    assert "Worst mistakes" not in page.text


def test_foreign_names_are_text_and_nothing_is_loaded(write):
    spec = make_spec(latent_channels=3, stride=2, companding="none")
    names = (EVIL, "b" * 300)
    data = write("evil", spec, {"train": striped_split(spec, 24, 16, 1)}, class_names=names, bank={1: identity_layer()})
    metrics, answers = answers_of(data["train"])
    text = page_of(data["train"], metrics, answers, title=EVIL, note=EVIL)
    page = Elements(text)
    assert not page.named("script")
    assert EVIL in page.text
    assert "<script" not in text
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href", "data"):
                assert value.startswith(("data:image/", "#")), (tag, value[:50])
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text
    assert any("default-src 'none'" in each.get("content", "") for each in page.named("meta"))
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    drawn = [
        each for each in identifiers if not re.fullmatch(r"[\w.]+_\d+", each)
    ]  # of groups, to which nothing refers
    assert len(set(drawn)) == len(drawn)


def test_the_page_of_the_same_run_is_the_same(striped):
    metrics, answers = answers_of(striped["validation"])
    assert page_of(striped["validation"], metrics, answers) == page_of(striped["validation"], metrics, answers)


def test_many_classes_have_the_worst_ones_and_no_matrix(striped):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 300, 96)
    predicted = np.where(rng.random(96) < 0.5, labels, rng.integers(0, 300, 96))
    scores = ClassScores(np.full(96, 0.5), rng.random(96), np.zeros(96))
    metrics = metrics_of_classes(predicted, labels, 300, scores=scores)
    page = Elements(page_of(striped["validation"], metrics, Answers(predicted, labels, scores)))
    assert "Confusion matrix" not in page.text
    assert "Most frequent confusions" in page.text
    assert "The 100 worst of 300; classes.csv has all." in page.text
    assert len(page.named("tr")) < 140


def test_several_classes_and_regression_have_their_own_parts(patterned, graded):
    rng, labels = np.random.default_rng(0), patterned["train"].labels
    predictions = Predictions(rng.normal(0, 2, labels.shape).astype(np.float32), labels, "multilabel")
    metrics = metrics_of_labels(predictions.probabilities, labels)
    page = Elements(page_of(patterned["train"], metrics, predictions))
    for part in (
        "mAP",
        "average precision",
        "How often a class applies",
        "missing",
        "wrong",
        "classes, several a sample",
    ):
        assert part in page.text, part
    assert len(page.named("img")) == 24
    labels = graded["train"].labels
    predictions = Predictions(
        np.nan_to_num(labels) + rng.normal(0, 1, labels.shape).astype(np.float32), labels, "regression"
    )
    metrics = metrics_of_targets(predictions.logits, labels)
    page = Elements(page_of(graded["train"], metrics, predictions))
    for part in ("MAE", "R²", "Predictions", "brightness", "2 regression targets"):
        assert part in page.text, part
    assert "Calibration" not in page.text


def test_the_worst_mistakes_of_classes():
    scores = ClassScores(np.array([0.9, 0.6, 0.8, 0.7]), np.array([0.1, 0.6, 0.02, np.nan]), np.zeros(4))
    answers = Answers(np.array([1, 0, 0, 1]), np.array([0, 0, 1, -1]), scores)
    worst = worst_mistakes(answers, ["cat", "dog"])
    assert [(mistake.row, mistake.truth, mistake.answer) for mistake in worst] == [
        (2, "dog (2%)", "cat (80%)"),
        (0, "cat (10%)", "dog (90%)"),
    ]
    assert [mistake.row for mistake in worst_mistakes(answers, None, 1)] == [2]


def test_the_worst_mistakes_of_other_kinds():
    labels = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1]], np.uint8)
    logits = np.float32([[-3, 2, 3], [-1, 1, -2], [1, 1, 1]])
    first, second = worst_mistakes(Predictions(logits, labels, "multilabel"), ["a", "b", "c"])
    assert (first.row, first.truth, first.answer) == (0, "a, c", "missing a (5%); wrong b (88%)")
    assert (second.row, second.truth, second.answer) == (1, "none", "wrong b (73%)")
    targets = np.array([[1, 100], [3, np.nan], [5, 300]], np.float32)
    predictions = Predictions(np.float32([[1, 100], [3, 5000], [9, 310]]), targets, "regression")
    (only,) = worst_mistakes(predictions, ["x", "y"])[:1]
    assert (only.row, only.truth, only.answer) == (2, "x 5", "9")
    exact = Predictions(np.float32([[1], [2]]), np.float32([1, 2]), "regression")
    assert worst_mistakes(exact, None) == []


def test_pictures_are_those_of_the_pixels(patterned, tmp_path):
    addresses = sample_pictures(patterned["train"], [3, 0])
    codes = patterned["train"].gather([3, 0]).codes.numpy()
    for address, expected in zip(addresses, codes, strict=True):
        picture = Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/jpeg;base64,"))))
        assert picture.mode == "RGB"
        found = np.asarray(picture)
        assert np.corrcoef(found.mean(2).ravel(), expected.mean(0).ravel())[0, 1] > 0.9
    write_small_set(tmp_path, {"train": [3]})  # which has no synthesis
    assert sample_pictures(open_latents(tmp_path), [0]) is None
    assert sample_pictures(patterned["train"], []) is None


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [("accuracy", 0.9345, "93.5 %"), ("ECE", 0.0412, "0.041"), ("MAE", 1234.5, "1.23e+03"), ("R²", -2.5, "-2.5")],
)
def test_figures_as_text(name, value, text):
    assert figure_text(name, value) == text
