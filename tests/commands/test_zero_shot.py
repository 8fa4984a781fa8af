import shutil

import numpy as np
import pytest
import torch

import hilum
from hilum import commands
from hilum.commands._open import write_trained_on
from hilum.commands._pretext import task_in
from hilum.commands.zero_shot import open_image_text, probabilities, similarities
from hilum.config import TrainConfig, settings_in
from hilum.data.loader import Loader
from hilum.data.views import View
from hilum.errors import ConfigError, OutputError, RecordsError, WeightsError
from hilum.find import path
from hilum.images.phantom import FINDINGS, write_phantoms
from hilum.images.store import build_store
from hilum.metrics.retrieval import retrieval
from hilum.models.weights import MODEL_FILE, to_bytes
from hilum.records.table import Records
from hilum.run import Run
from hilum.train.loop import fit
from tests import toys

METHODS = ["clip", "convirt", "gloria"]
SMALL = {"text_freeze": 0, "max_tokens": 32, "projection_dim": 32}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """64 phantoms of 32 pixels."""
    return write_phantoms(tmp_path_factory.mktemp("films") / "phantoms", count=64, seed=3, size=32)


@pytest.fixture(scope="module")
def runs(films):
    """Finished runs of each method by its name: a few seconds of training on the phantoms and their texts."""
    return {method: trained(method, films) for method in METHODS}


def opened(films):
    records = Records.read(films)
    images = records.table["image"].tolist()
    return records, build_store(images, folder=films.parent / "store" / "images", size=32)


def trained(method, films, *, steps=60):
    """What `hilum pretrain` leaves of an image-text method."""
    records, store = opened(films)
    settings = settings_in(path("hilum.methods", method))
    small = {name: value for name, value in SMALL.items() if name in settings.model_fields}
    own = settings.build(small | {"text_model": toys.bert()}, method)
    task = task_in(method)(toys.encoder(), **own.model_dump())
    loader = Loader(store, records, task.recipe(View(), View()), batch_size=32, seed=0)
    config = TrainConfig(steps=steps, batch_size=32, lr=2e-3, precision="float32", log_every=steps)

    class Whole(settings, TrainConfig):
        method: str

    whole = Whole(**config.model_dump(), **own.model_dump(), method=method)
    with Run.open(films.parent / method, whole, {}) as run:
        fit(task, loader, config, run)
        run.write(MODEL_FILE, to_bytes(task.model))
        for name, content in task.extras().items():
            run.write(name, content)
        run.finish({})
    return run.path


def zero_shot(films, run, name, **settings):
    place = {"records": films, "store": films.parent / "store", "store_size": 32, "init": run}
    settings = place | {"out": films.parent / name, "precision": "float32"} | settings
    return commands.function("zero-shot")(**settings)


@pytest.mark.parametrize("method", METHODS)
def test_films_find_their_texts_better_than_chance(runs, films, method):
    records, store = opened(films)
    texts = records.table["text"].tolist()
    same = np.unique(texts, return_inverse=True)[1]
    numbers = []
    for task in (open_image_text(runs[method]), task_of_untrained(method)):
        table = similarities(task, [[text] for text in texts], records, store, precision="float32")
        numbers.append(retrieval(table, same, at=[1]))
    after, before = numbers
    chance = np.mean((same[:, None] == same).mean(1))
    assert after["image_to_text_recall@1"] > max(3 * chance, before["image_to_text_recall@1"] + 0.1)
    assert after["text_to_image_recall@1"] > max(3 * chance, before["text_to_image_recall@1"] + 0.1)
    assert after["image_to_text_median_rank"] < before["image_to_text_median_rank"]


def task_of_untrained(method):
    settings = settings_in(path("hilum.methods", method))
    small = {name: value for name, value in SMALL.items() if name in settings.model_fields}
    own = settings.build(small | {"text_model": toys.bert()}, method)
    return task_in(method)(toys.encoder(), **own.model_dump()).eval()


@pytest.mark.parametrize("method", METHODS)
def test_a_run_alone_rebuilds_the_task(runs, method):
    again = open_image_text(runs[method])
    assert not again.training
    kept = again.extras()["text.safetensors"]
    assert kept == (runs[method] / "text.safetensors").read_bytes()


@pytest.mark.parametrize("method", METHODS)
def test_predictions_are_what_evaluate_scores(runs, films, method):
    table = zero_shot(films, runs[method], f"{method}.csv")
    predictions = hilum.Predictions.read(table)
    assert predictions.findings == FINDINGS
    assert len(predictions) == 64
    assert ((predictions.scores > 0) & (predictions.scores < 1)).all()
    folder = hilum.evaluate(table, records=films, out=films.parent / f"{method}-report", replicates=20)
    report = hilum.Report.read(folder / "report.json")
    assert report.findings == FINDINGS


def test_a_probability_is_a_softmax_between_positive_and_negative_texts(runs, films):
    records, store = opened(films)
    task = open_image_text(runs["clip"])
    found = hilum.Predictions.read(
        zero_shot(
            films, runs["clip"], "pair.csv", findings=["Edema", "Lung_Mass"], temperature=0.5,
            positive=["there is {finding}", "{finding}"], negative=["no {finding}"],
        )
    )  # fmt: skip
    assert found.findings == ("Edema", "Lung_Mass")  # the second is no column of the table
    sides = [["there is lung mass", "lung mass"], ["no lung mass"]]
    table = similarities(task, sides, records, store, precision="float32")
    powers = np.exp(table / 0.5)
    assert np.allclose(found.scores[:, 1], powers[:, 0] / powers.sum(1), atol=1e-6)


def test_exclusive_findings_compete_and_sum_to_one(runs, films):
    found = hilum.Predictions.read(
        zero_shot(films, runs["clip"], "one.csv", findings=["Edema", "Mass", "Normal"], exclusive=True)
    )
    assert np.allclose(found.scores.sum(1), 1)


def test_probabilities_of_large_similarities_do_not_overflow():
    assert probabilities(np.array([[1000.0, 999.0]]), exclusive=True)[0, 0] == pytest.approx(
        1 / (1 + np.exp(-1))
    )
    assert probabilities(np.array([[5.0, 4.0]]), exclusive=False)[0, 0] == pytest.approx(1 / (1 + np.exp(-1)))


def test_texts_from_a_file_replace_those_of_single_findings(runs, films, tmp_path):
    file = tmp_path / "prompts.yaml"
    file.write_text("Pleural-Effusion: [small effusion, large effusion]\nEdema: {negative: [clear lungs]}\n")
    names = ["Pleural-Effusion", "Edema", "Mass"]
    prompted = zero_shot(films, runs["clip"], "prompted.csv", findings=names, prompts=file)
    plain = zero_shot(films, runs["clip"], "plain.csv", findings=names)
    first, second = (hilum.Predictions.read(table).scores for table in (prompted, plain))
    assert not np.allclose(first[:, 0], second[:, 0])
    assert not np.allclose(first[:, 1], second[:, 1])
    assert np.array_equal(first[:, 2], second[:, 2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Edma: [oedema]", "'Edma' is none of the findings; did you mean 'Edema'"),
        ("Edema: oedema", "Edema: expected a list of texts"),
        ("Edema: []", "Edema: expected a list of texts"),
        ("Edema: {positiv: [oedema]}", "Edema: expected a list of texts"),
        ("Edema: [1]", "Edema: expected a list of texts"),
    ],
)
def test_a_file_of_other_things_is_refused(films, tmp_path, content, message):
    file = tmp_path / "prompts.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        zero_shot(films, tmp_path, "refused.csv", findings=["Edema"], prompts=file)


def test_a_run_without_texts_is_refused(films, tmp_path):
    (tmp_path / MODEL_FILE).write_bytes(to_bytes(toys.encoder()))
    with pytest.raises(WeightsError, match="expected the run of an image-text method"):
        zero_shot(films, tmp_path, "refused.csv", findings=["Edema"])


def test_what_is_there_already_is_not_overwritten(films, runs):
    before = films.read_bytes()
    with pytest.raises(OutputError, match="is there already"):
        zero_shot(films, runs["clip"], films.name)
    assert films.read_bytes() == before


def test_films_that_it_was_trained_on_are_refused(films, runs, tmp_path):
    copy = shutil.copytree(runs["clip"], tmp_path / "run")
    records, store = opened(films)
    write_trained_on(Run(copy), records, store, "random")
    with pytest.raises(RecordsError, match="was trained on"):
        zero_shot(films, copy, "overlap.csv", findings=["Edema"])
    allowed = zero_shot(films, copy, "overlap.csv", findings=["Edema"], allow_overlap=True)
    assert torch.tensor(hilum.Predictions.read(allowed).scores).isfinite().all()
