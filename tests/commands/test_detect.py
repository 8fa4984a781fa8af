"""hilum detect on phantoms, from films to a page, and what it refuses."""

import importlib
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

import hilum
from hilum.cli import main
from hilum.commands import _sweep_scores
from hilum.commands._detection_films import _warn_of_mixed_classes, trained_on
from hilum.errors import ConfigError, RecordsError, WeightsError
from hilum.images.phantom import write_phantoms
from hilum.metrics.boxes import overlap
from hilum.models.detector import Detector
from hilum.records.boxes import boxes_of
from hilum.records.detections import CORNERS, Detections
from hilum.records.predictions import Predictions
from hilum.records.table import Records
from hilum.report.detection import DetectionReport
from hilum.report.summary import detection_headline
from hilum.run import Run

SMALL = {
    "arch": "resnet18", "image_size": 128, "store_size": 128, "width": 32, "head_depth": 1, "batch_size": 8,
    "steps": 6, "replicates": 40, "device": "cpu", "threads": 1, "workers": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    place = tmp_path_factory.mktemp("detect")
    path = write_phantoms(place / "films", count=80, size=128, seed=7)
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table["image"] = [str(path.parent / image) for image in table["image"]]
    table["group"] = np.where(table["Cardiomegaly"] == "1", "large heart", "other")
    table.loc[:4, ["boxes", "Cardiomegaly"]] = ""
    patients = {p: i for i, p in enumerate(sorted(set(table["patient"])))}
    table["split"] = [("train", "train", "val", "test")[patients[p] % 4] for p in table["patient"]]
    table.to_csv(place / "films.csv", index=False)
    return place / "films.csv"


@pytest.fixture(scope="module")
def run(films):
    words = [
        "detect",
        "retinanet",
        "--records",
        str(films),
        "--boxes",
        "Cardiomegaly",
        "--film-column",
        "group",
    ]
    words += [
        "--gate",
        "large heart=1",
        "--store",
        str(films.parent / "store"),
        "--out",
        str(films.parent / "run"),
    ]
    words += [w for name, value in SMALL.items() for w in (f"--{name.replace('_', '-')}", str(value))]
    assert main(words) == 0
    return films.parent / "run"


def test_a_run_holds_a_detector_its_boxes_and_its_report(films, run):
    assert {"detections.csv", "predictions.csv", "detection.json", "report.html", "model.safetensors"} <= {
        path.name for path in run.iterdir()
    }
    model = hilum.load(run)
    assert isinstance(model, Detector)
    assert (model.findings, model.classes) == (("Cardiomegaly",), ("large heart", "other"))
    report = DetectionReport.read(run / "detection.json")
    records = Records.read(films)
    asked = records.table["boxes"] != ""
    test = records.table["split"] == "test"
    assert report.films == int((asked & test).sum())
    assert report.never_asked == int((~asked & test).sum())
    (one,) = report.findings
    true = sum(map(len, boxes_of(records.take((asked & test).to_numpy()), "Cardiomegaly")))
    assert one.estimate("rsna_score").positives == true
    assert set(one.floors) == {"no box", "the mean box everywhere"}
    assert {e.metric: e.value for e in one.floors["no box"]}["rsna_score"] == 0
    mean = {e.metric: e.value for e in one.floors["the mean box everywhere"]}
    assert mean["box_precision"] > 0.1  # hearts lie where hearts lie
    detections, predictions = (
        Detections.read(run / "detections.csv"),
        Predictions.read(run / "predictions.csv"),
    )
    assert set(detections.table["image"]) <= set(predictions.table["image"])
    assert set(predictions.table["split"]) == {"val", "test"}
    best = detections.table.groupby("image")["score"].max()
    shown = predictions.table.set_index("image")["Cardiomegaly"]
    np.testing.assert_allclose(shown.loc[best.index], best)
    assert detections.table[list(CORNERS)].to_numpy().max() <= 128
    assert [one.finding for one in report.classes] == ["large heart", "other", "macro"]
    heads = [one.value for one in report.classes]
    assert heads[0] == pytest.approx(heads[1])  # two classes: one is the other's complement
    page = (run / "report.html").read_text()
    assert "Whole films" in page
    assert "With the mean box everywhere the score is" in page
    assert "http" not in page.replace("http-equiv", "")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert any("val_box_precision" in row for row in rows)


def test_boxes_are_in_pixels_of_the_file_whatever_the_store_did(tmp_path):
    """Films of odd shapes, kept smaller: a detector that is told the truth finds it again."""
    import torch

    from hilum.data.boxes import BoxSource
    from hilum.data.loader import in_order
    from hilum.detecting import detect
    from hilum.images.spec import InputSpec
    from hilum.images.store import build_store
    from hilum.models.encoder import Encoder

    random = np.random.default_rng(1)
    rows = []
    for number in range(6):
        h, w = int(random.integers(300, 700)), int(random.integers(300, 700))
        x, y = w * 0.4, h * 0.42
        cv2.imwrite(str(tmp_path / f"{number}.png"), random.integers(0, 255, (h, w)).astype(np.uint8))
        box = ["Mass", x, y, x + 61.5, y + 80]
        rows.append(
            {
                "image": str(tmp_path / f"{number}.png"),
                "patient": str(number),
                "split": "test",
                "boxes": json.dumps([box]),
            }
        )
    records = Records(pd.DataFrame(rows), ())

    class Told(Detector):
        def __init__(self, fit):
            super().__init__("told", Encoder("resnet18", InputSpec(side=96, fit=fit)), ("Mass",), (), {})
            self.seen = 0

        def forward(self, images):
            part = self.truth[self.seen : self.seen + len(images)]
            self.seen += len(images)
            return {"boxes": part}

        def candidates(self, raw, side):
            return raw["boxes"], torch.ones(*raw["boxes"].shape[:2], 1)

    for fit in ("crop", "pad", "squash"):
        store = build_store(records.table["image"].tolist(), folder=tmp_path / "store", size=128, quiet=True)
        model = Told(fit)
        from hilum.data.views import PLAIN, matrices

        sizes = np.array([store[int(r)].shape for r in store.rows(records.table["image"].tolist())])
        warps = matrices(PLAIN.at(model.encoder.input), sizes, rows=np.arange(6), epochs=0, seed=0)[0]
        source = BoxSource(records, store, ["Mass"])
        views = np.stack([source.on_view(row, warps[row], 96)[:, :4] for row in range(6)])
        model.truth = torch.from_numpy(views).float()
        assert len(list(in_order(store, records, PLAIN.at(model.encoder.input), batch_size=4))) == 2
        found = detect([model], records, store, overlaps=[0.5], floor=0.5, device="cpu", batch_size=4)
        table = found.boxes[0.5].table
        for (image, *corners), row in zip(
            table[["image", *CORNERS]].itertuples(index=False), rows, strict=True
        ):
            assert image == row["image"]
            true = np.array(json.loads(row["boxes"])[0][1:])
            assert overlap(np.array([corners]), true[None])[0] > 0.98


def test_the_same_command_goes_on_and_a_finished_run_is_left(films, run, caplog):
    before = (run / "detection.json").stat().st_mtime_ns
    again = hilum.detect(
        "retinanet", records=films, boxes=["Cardiomegaly"], film_column="group", gate={"large heart": 1},
        store=films.parent / "store", out=run, **SMALL,
    )  # fmt: skip
    assert again == run
    assert (run / "detection.json").stat().st_mtime_ns == before


def test_fractions_and_seeds_make_cells_of_one_run(films):
    out = hilum.detect(
        "fcos", records=films, boxes=["Cardiomegaly"], label_fraction=[0.5, 1], negatives=1, freeze=1,
        store=films.parent / "store", out=films.parent / "cells", monitor="", **SMALL | {"steps": 2},
    )  # fmt: skip
    names = {path.name for path in (out / "cells").iterdir()}
    assert names == {"fraction-0.5-seed-0", "fraction-1-seed-0"}
    assert all((out / "cells" / name / "detection.json").exists() for name in names)


def test_what_cannot_be_is_said_before_a_run_is_begun(films, tmp_path):
    given = {"records": films, "store": films.parent / "store", "out": tmp_path / "run", **SMALL}
    with pytest.raises(
        RecordsError, match=r"no film has a box of 'Cardiomegali'.*did you mean 'Cardiomegaly'"
    ):
        hilum.detect("retinanet", boxes=["Cardiomegali"], **given)
    with pytest.raises(ConfigError, match="--gate names 'x'; it takes values of --film-column: large heart"):
        hilum.detect("retinanet", boxes=["Cardiomegaly"], film_column="group", gate={"x": 1}, **given)
    with pytest.raises(ConfigError, match=r"'retinanett' is not one of fcos, retinanet, yolo_v3"):
        hilum.detect("retinanett", boxes=["Cardiomegaly"], **given)
    with pytest.raises(ConfigError, match="a detector needs"):
        hilum.detect("retinanet", boxes=["Cardiomegaly"], **given | {"arch": "torchvision/squeezenet1_0"})
    with pytest.raises(ConfigError, match="numbers between 0 and 1"):
        hilum.detect("retinanet", boxes=["Cardiomegaly"], overlaps=[1.5], **given)
    with pytest.raises(ConfigError, match=r"a score below 0\.0001 is no box here"):
        hilum.detect("retinanet", boxes=["Cardiomegaly"], thresholds=[0.00001, 0.5], **given)
    with pytest.raises(ConfigError, match="--findings leaves out 'Cardiomegaly', the column that says which"):
        hilum.detect("retinanet", boxes=["Cardiomegaly"], findings=["Nodule"], **given)
    with pytest.raises(ConfigError, match="expected 2 or more, or 0"):
        hilum.detect("retinanet", boxes=["Cardiomegaly"], folds=1, **given)
    with pytest.raises(
        RecordsError, match=r"none of the \d+ films of 0\.04 of the training patients has a box"
    ):
        hilum.detect("retinanet", boxes=["Nodule"], label_fraction=[1, 0.04], **given)
    vit = {"arch": "vit_tiny_patch16_224", "image_size": 64}
    with pytest.raises(ConfigError, match="sees films of one size only; give --scales 1"):
        hilum.detect("retinanet", boxes=["Cardiomegaly"], scales=[1, 2], **given | vit)
    bare = tmp_path / "bare.csv"
    pd.read_csv(films, dtype=str).drop(columns="boxes").to_csv(bare, index=False)
    with pytest.raises(RecordsError, match="no cell of the column boxes has a box"):
        hilum.detect("retinanet", **given | {"records": bare})
    assert not (tmp_path / "run").exists()


def test_boxes_that_something_contradicts_are_listed_together(films, tmp_path):
    table = pd.read_csv(films, dtype=str, keep_default_na=False)
    boxed = table.index[table["boxes"].str.contains("Cardiomegaly")].tolist()[:3]
    first, second, third = (table.at[row, "image"].rsplit("/", 1)[1] for row in boxed)
    table.loc[boxed[0], "boxes"] = '[["Cardiomegaly", 10, 20, 900, 40]]'
    table.loc[boxed[1], "Cardiomegaly"] = "0"
    table.loc[boxed[2], "group"] = "other"
    table.to_csv(tmp_path / "films.csv", index=False)
    with pytest.raises(RecordsError) as told:
        hilum.detect(
            "retinanet", records=tmp_path / "films.csv", store=films.parent / "store", out=tmp_path / "run",
            boxes=["Cardiomegaly"], film_column="group", gate={"large heart": 1}, **SMALL,
        )  # fmt: skip
    message = str(told.value)
    assert "3 defects" in message
    assert f"{first}: Cardiomegaly: 10, 20, 900, 40 reaches beyond the 128 x 128 pixels" in message
    assert f"{second}: Cardiomegaly: 1 box, but its label is 0" in message
    assert f"{third}: Cardiomegaly: 1 box, but the film is 'other', which --gate leaves out" in message


def test_a_class_that_its_boxes_contradict_is_refused_in_both_directions_or_warned_of(
    films, tmp_path, caplog
):
    table = pd.read_csv(films, dtype=str, keep_default_na=False)
    boxed = table["boxes"].str.contains("Cardiomegaly")
    table["group"] = np.where(boxed, "large heart", "other")
    yes, no = table.index[boxed][0], table.index[~boxed & (table["Cardiomegaly"] == "0")][0]
    table.loc[yes, "group"], table.loc[no, "group"] = "other", "large heart"
    table.to_csv(tmp_path / "films.csv", index=False)
    given = {
        "records": tmp_path / "films.csv", "store": films.parent / "store", "boxes": ["Cardiomegaly"],
        "film_column": "group", "out": tmp_path / "run", **SMALL,
    }  # fmt: skip
    with pytest.raises(RecordsError, match="2 defects") as told:
        hilum.detect("retinanet", boxed_classes=["large heart"], **given)
    names = {row: table.at[row, "image"].rsplit("/", 1)[1] for row in (yes, no)}
    assert f"{names[yes]}: is 'other' and has a box, but --boxed-classes leaves it out" in str(told.value)
    assert f"{names[no]}: is 'large heart' and has no box" in str(told.value)
    with pytest.raises(ConfigError, match="--boxed-classes names 'none'"):
        hilum.detect("retinanet", boxed_classes=["none"], **given)
    records = Records.read(tmp_path / "films.csv")
    told = dict(zip(records.table["image"], table["group"], strict=True))
    _warn_of_mixed_classes(records, ("Cardiomegaly",), told)
    assert f"large heart: {boxed.sum() - 1} films with boxes and 1 without" in caplog.text
    assert f"other: 1 films with boxes and {(~boxed).sum() - 1} without" in caplog.text


def test_boxes_that_the_crop_cuts_off_are_refused(tmp_path):
    random = np.random.default_rng(0)
    rows = []
    for number, split in enumerate(["train", "val", "test"] * 2):
        path = tmp_path / f"{number}.png"
        assert cv2.imwrite(str(path), random.integers(0, 256, (60, 120), np.uint8))
        box = [["Mass", 2, 10, 20, 30]] if number < 3 else [["Mass", 50, 10, 70, 30]]
        rows.append({"image": path.name, "patient": number, "split": split, "boxes": json.dumps(box)})
    pd.DataFrame(rows).to_csv(tmp_path / "films.csv", index=False)
    given = {
        "records": tmp_path / "films.csv", "store": tmp_path / "store", "out": tmp_path / "run", **SMALL,
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"middles of 3 boxes on 3 films, as 0\.png, are beyond the square"):
        hilum.detect("retinanet", **given | {"image_fit": "crop"})
    assert not (tmp_path / "run").exists()


def test_folds_hold_every_film_out_once_and_speak_together_on_test(films, tmp_path):
    given = {"records": films, "store": films.parent / "store"}
    small = SMALL | {"steps": 4, "log_every": 1}
    out = hilum.detect(
        "retinanet", boxes=["Cardiomegaly"], folds=3, late_epochs=2, monitor="", flips=True, scales=[1, 1.5],
        of_surest=0.5,
        out=tmp_path / "run", **given, **small,
    )  # fmt: skip
    records = Records.read(films)
    asked = records.take((records.table["boxes"] != "").to_numpy())
    folds = pd.read_csv(out / "folds.csv", dtype=str)
    rest = asked.table[asked.table["split"] != "test"]
    assert set(folds["image"]) == set(rest["image"])
    assert (folds.groupby("patient")["fold"].nunique() == 1).all()
    assert set(folds["fold"]) == {"0", "1", "2"}
    predictions = Predictions.read(out / "predictions.csv").table
    assert set(predictions.loc[predictions["split"] == "val", "image"]) == set(rest["image"])
    for fold in range(3):
        assert len(list((out / "folds" / str(fold) / "late").glob("*.safetensors"))) <= 2
    report = DetectionReport.read(out / "detection.json")
    assert report.look == {"flip": True, "scales": [1, 1.5], "gate": {}, "of_surest": 0.5}
    assert any("out-of-fold" in note for note in report.notes)
    assert "Of the first of 3 folds alone" in (out / "report.html").read_text()
    # What predict finds is what was scored: all folds and late epochs, the same views, the same threshold.
    (one,) = report.findings
    path = hilum.predict(out, out=tmp_path / "boxes.csv", split="test", store_size=128, device="cpu", **given)
    found = Detections.read(path).table
    scored = Detections.read(out / "detections.csv").where("test").above(one.threshold).table
    assert len(found) == len(scored)
    np.testing.assert_allclose(
        found[["score", *CORNERS]].to_numpy(), scored[["score", *CORNERS]].to_numpy(), rtol=1e-4, atol=1e-3
    )


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({}, "the epoch"),
        ({"late_epochs": 1}, ""),
        (
            {"late_epochs": 1, "schedule": "plateau", "patience": 2},
            "the learning rate and the end of the run",
        ),
    ],
)
def test_a_fold_is_tested_on_nothing_that_it_came_from(films, tmp_path, changes, part):
    """Its training films, and those held out from it if they had a say in its weights."""
    out = hilum.detect(
        "fcos", records=films, boxes=["Cardiomegaly"], folds=2, out=tmp_path / "run",
        store=films.parent / "store", **changes, **SMALL | {"steps": 1},
    )  # fmt: skip
    notes = DetectionReport.read(out / "detection.json").notes
    assert any(f"A held-out part chose {part}:" in note for note in notes) == bool(part)
    fold = pd.read_csv(out / "folds.csv", dtype=str)
    table = pd.read_csv(films, dtype=str, keep_default_na=False)
    given = {"store": films.parent / "store", "store_size": 128, "threshold": 0.01, "overlap": 0.3}
    given |= {"split": "test", "device": "cpu"}
    first = out / "folds" / "0"
    for number, refused in (("1", True), ("0", bool(part)), (None, False)):
        images = fold.loc[fold["fold"] == number, "image"]
        part = table["image"].isin(images) if number else table["split"] == "test"
        path = tmp_path / f"{number}.csv"
        table[part].assign(split="test").to_csv(path, index=False)
        for place in (first, first / "model.safetensors", *first.glob("late/*.safetensors")):
            written = tmp_path / f"{number}-{place.name}.csv"
            if refused:
                with pytest.raises(RecordsError, match=r"was trained on \d+ patients"):
                    hilum.predict(place, records=path, out=written, **given)
            else:
                hilum.predict(place, records=path, out=written, **given)
    assert len(list(first.glob("late/*.safetensors"))) == changes.get("late_epochs", 0)


def test_runs_are_compared_with_intervals(films, run, tmp_path):
    other = films.parent / "other"
    hilum.detect(
        "retinanet", records=films, boxes=["Cardiomegaly"], seeds=[0, 1], store=films.parent / "store",
        out=other, **SMALL | {"steps": 3},
    )  # fmt: skip
    out = hilum.compare([run, other], out=tmp_path / "compared", replicates=60)
    found = json.loads((out / "comparison.json").read_text())
    assert found["metrics"] == ["rsna_score", "box_precision"]
    one = next(m for m in found["means"] if m["init"] == "run" and m["metric"] == "box_precision")
    report = DetectionReport.read(run / "detection.json").findings[0]
    assert one["value"] == pytest.approx(report.estimate("box_precision").value)
    assert {len(m["seeds"]) for m in found["means"] if m["init"] == "other"} == {2}
    assert {d["init"] for d in found["differences"]} == {"other"}
    assert (out / "compare.html").exists()
    with pytest.raises(ConfigError, match="--metric auroc is of runs of transfer"):
        hilum.compare([run, other], out=tmp_path / "wrong", metric=["auroc"])


def test_a_detector_predicts_boxes_alone_and_with_others(films, run, tmp_path):
    other = films.parent / "other" / "cells" / "fraction-1-seed-1"
    given = {"records": films, "split": "test", "store": films.parent / "store", "store_size": 128}
    path = hilum.predict(run, out=tmp_path / "boxes.csv", threshold=0.01, overlap=0.3, device="cpu", **given)
    found = Detections.read(path)
    assert set(found.table["split"]) <= {"test"}
    with pytest.raises(ConfigError, match="not a detector of the same kind"):
        hilum.predict(run, out=tmp_path / "x.csv", ensemble=[other], threshold=0.01, overlap=0.3, **given)
    both = hilum.predict(
        other, ensemble=[films.parent / "other" / "cells" / "fraction-1-seed-0"], out=tmp_path / "both.csv",
        threshold=0.01, overlap=0.3, submission=True, device="cpu", **given,
    )  # fmt: skip
    table = pd.read_csv(both, dtype=str, keep_default_na=False)
    records = Records.read(films).where("test")
    assert table.columns.tolist() == ["patientId", "PredictionString"]
    assert len(table) == len(records)
    words = [cell.split() for cell in table["PredictionString"] if cell]
    assert words
    assert all(len(parts) % 5 == 0 for parts in words)
    assert max(float(parts[3]) for parts in words) <= 1024


@pytest.fixture(scope="module")
def swapped(films):
    """Two runs, of which each was trained on what the other is tested on, and the two tables."""
    table = pd.read_csv(films, dtype=str, keep_default_na=False)
    made = {}
    for name, names in (("a", {}), ("b", {"train": "test", "test": "train"})):
        path = films.parent / f"swapped-{name}.csv"
        table.assign(split=table["split"].replace(names)).to_csv(path, index=False)
        made[name] = path, hilum.detect(
            "fcos", records=path, boxes=["Cardiomegaly"], store=films.parent / "store", monitor="",
            out=films.parent / f"swapped-{name}", **SMALL | {"steps": 1},
        )  # fmt: skip
    return made


def test_no_member_of_an_ensemble_was_trained_on_the_test_split(swapped, tmp_path, caplog):
    (films, a), (_, b) = swapped["a"], swapped["b"]
    given = {"records": films, "split": "test", "store": films.parent / "store", "store_size": 128}
    given |= {"threshold": 0.01, "overlap": 0.3, "device": "cpu"}
    hilum.predict(a, out=tmp_path / "a.csv", **given)
    for first, others in ((b, []), (b, [a]), (a, [b])):
        with pytest.raises(RecordsError, match=r"swapped-b: was trained on \d+ patients"):
            hilum.predict(first, ensemble=others, out=tmp_path / "refused.csv", **given)
    assert not (tmp_path / "refused.csv").exists()
    hilum.predict(a, ensemble=[b], allow_overlap=True, out=tmp_path / "allowed.csv", **given)
    assert "swapped-b: trained on" in caplog.text
    assert "swapped-a: trained on" not in caplog.text


def test_explain_sends_to_predict_for_boxes(films, run, tmp_path):
    given = {"records": films, "store": films.parent / "store", "out": tmp_path / "maps"}
    with pytest.raises(WeightsError, match=r"a detector of boxes, .* `hilum predict` writes them"):
        hilum.explain(run, finding="Cardiomegaly", **given)


def test_predict_looks_as_the_run_was_scored(films, run, tmp_path):
    (one,) = DetectionReport.read(run / "detection.json").findings
    given = {"records": films, "split": "test", "store": films.parent / "store", "store_size": 128}
    found = Detections.read(hilum.predict(run, out=tmp_path / "boxes.csv", device="cpu", **given)).table
    scored = Detections.read(run / "detections.csv").where("test").above(one.threshold).table
    scored = scored[scored["image"].isin(found["image"])]
    np.testing.assert_allclose(found["score"], scored["score"], rtol=1e-4)


def test_a_sweep_of_detectors_is_chosen_by_validation_and_compared(films, tmp_path):
    out = hilum.sweep(
        "detect", detector="retinanet", records=films, boxes=["Cardiomegaly"], store=films.parent / "store",
        **SMALL | {"steps": 2}, axes={"init": ["random"], "freeze": [0, 1]}, out=tmp_path / "sweep",
    )  # fmt: skip
    rows = pd.read_csv(out / "sweep.csv")
    assert rows["status"].tolist() == ["done", "done"]
    for row in rows.itertuples():
        (found,) = DetectionReport.read(
            out / "cells" / f"init=random,freeze={row.freeze}" / "detection.json"
        ).findings
        assert row.test == pytest.approx(found.estimate("rsna_score").value)
        assert 0 <= row.validation <= 1
    assert json.loads((out / "comparison.json").read_text())["metrics"] == ["rsna_score", "box_precision"]


@pytest.fixture(scope="module")
def two(films):
    """A run of two findings."""
    return hilum.detect(
        "retinanet", records=films, boxes=["Cardiomegaly", "Consolidation"], store=films.parent / "store",
        out=films.parent / "two", **SMALL,
    )  # fmt: skip


def test_boxes_of_every_finding_are_those_of_its_own_overlap_and_threshold(films, two, tmp_path, monkeypatch):
    """Validation chooses for each finding; what is written and predicted is what was chosen."""
    command = importlib.import_module("hilum.commands.detect")
    records = Records.read(films)
    scored = records.take(records.table["split"].isin(["val", "test"]).to_numpy())
    report = DetectionReport.read(two / "detection.json")
    first, second = (replace(one, overlap=cut) for one, cut in zip(report.findings, (0.2, 0.4), strict=True))
    parts = {}
    for cut, side in ((0.2, 20.0), (0.4, 40.0)):
        boxes = np.array([[0, 0, side, side]] * 2)
        rows, labels, scores = np.array([3, 1]), np.array([0, 1]), np.array([0.5, 0.6])
        parts[cut] = Detections.make(scored, ("Cardiomegaly", "Consolidation"), rows, labels, scores, boxes)
    monkeypatch.setattr(command, "write_detection_page", lambda *_, **__: None)
    given = SimpleNamespace(findings=("Cardiomegaly", "Consolidation"), store=None)
    config = SimpleNamespace(overlaps=[0.2, 0.4], folds=0)
    with Run.open(
        tmp_path / "run", command.Settings(records=films, detector="fcos", out=tmp_path), {}
    ) as run:
        command._write(config, replace(report, findings=(first, second)), parts, scored, given, run, [])
        found = Detections.read(run.path / "detections.csv").table
    assert found["finding"].tolist() == ["Consolidation", "Cardiomegaly"]  # in the order of the films
    assert found["x2"].tolist() == [40, 20]

    told = json.loads((two / "detection.json").read_text())
    for one, threshold, at in zip(told["findings"], (0.02, 0.01), (0.05, 0.4), strict=True):
        one["threshold"], one["overlap"] = threshold, at
    changed = tmp_path / "changed"
    shutil.copytree(two, changed)
    (changed / "detection.json").write_text(json.dumps(told))
    where = {"records": films, "split": "test", "store": films.parent / "store", "store_size": 128}
    where["device"] = "cpu"
    table = Detections.read(hilum.predict(changed, out=tmp_path / "boxes.csv", **where)).table
    for finding, threshold, at in (("Cardiomegaly", 0.02, 0.05), ("Consolidation", 0.01, 0.4)):
        alone = hilum.predict(
            changed, out=tmp_path / f"{finding}.csv", threshold=threshold, overlap=at, **where
        )
        expected = Detections.read(alone).of(finding).table
        shown = table[table["finding"] == finding].reset_index(drop=True)
        pd.testing.assert_frame_equal(shown, expected)
    assert len(table)
    with pytest.raises(ConfigError, match="--submission is the table of a challenge of one finding"):
        hilum.predict(changed, out=tmp_path / "x.csv", submission=True, **where)
    asked = hilum.predict(changed, out=tmp_path / "asked.csv", findings=["Consolidation"], **where)
    pd.testing.assert_frame_equal(Detections.read(asked).table, expected)


def test_positive_films_whose_boxes_nobody_drew_are_left_out_and_counted(films, tmp_path, caplog):
    """As in ChestX-ray14: they are no negatives, neither in training nor in scoring."""
    caplog.set_level("INFO")
    table = pd.read_csv(films, dtype=str, keep_default_na=False)
    positive = table["boxes"].str.contains("Cardiomegaly") & (table["Cardiomegaly"] == "1")
    bare = {split: table.index[positive & (table["split"] == split)][:2] for split in ("train", "test")}
    table.loc[bare["train"], "boxes"] = ""
    table.loc[bare["test"], "boxes"] = "[]"
    table.to_csv(tmp_path / "films.csv", index=False)
    out = hilum.detect(
        "fcos", records=tmp_path / "films.csv", boxes=["Cardiomegaly"], store=films.parent / "store",
        out=tmp_path / "run", **SMALL | {"steps": 1},
    )  # fmt: skip
    assert "4 show Cardiomegaly and no box says where" in caplog.text
    report = DetectionReport.read(out / "detection.json")
    assert report.unplaced == 2
    never = (table["split"] == "test") & (table["Cardiomegaly"] == "")
    assert report.never_asked == 2 + never.sum()
    predicted = set(Predictions.read(out / "predictions.csv").table["image"])
    assert not predicted & set(table.loc[bare["test"], "image"])
    assert "shown there, but boxed nowhere: 2" in (out / "report.html").read_text()


def test_films_in_no_split_are_left_out_of_folds_too(films, tmp_path, caplog):
    table = pd.read_csv(films, dtype=str, keep_default_na=False)
    some = table.loc[table["split"] == "train", "patient"].unique()[:3]
    table.loc[table["patient"].isin(some), "split"] = ""
    table.to_csv(tmp_path / "films.csv", index=False)
    given = {"records": tmp_path / "films.csv", "store": films.parent / "store", "boxes": ["Cardiomegaly"]}
    out = hilum.detect("fcos", folds=2, out=tmp_path / "run", **given, **SMALL | {"steps": 1})
    assert f"{table['patient'].isin(some).sum()} of 80 films are in no split" in caplog.text
    assert not set(pd.read_csv(out / "folds.csv", dtype=str)["patient"]) & set(some)
    table.assign(split=table["split"].replace("test", "train")).to_csv(tmp_path / "films.csv", index=False)
    with pytest.raises(RecordsError, match="no film of the test split was looked at for boxes"):
        hilum.detect("fcos", out=tmp_path / "other", **given, **SMALL)
    assert not (tmp_path / "other").exists()


def test_without_a_box_in_validation_no_epoch_is_chosen_and_that_is_said(films, tmp_path, caplog):
    """Of nothing but zeros the first epoch would be the best."""
    table = pd.read_csv(films, dtype=str, keep_default_na=False)
    table.loc[table["split"] == "val", ["boxes", "Cardiomegaly"]] = ["[]", "0"]
    table.to_csv(tmp_path / "films.csv", index=False)
    given = {"records": tmp_path / "films.csv", "store": films.parent / "store", "boxes": ["Cardiomegaly"]}
    out = hilum.detect("fcos", out=tmp_path / "run", **given, **SMALL | {"steps": 2, "log_every": 1})
    assert "no epoch can be chosen, so the last is kept" in caplog.text
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert not any("val_box_precision" in row for row in rows)
    (one,) = DetectionReport.read(out / "detection.json").findings
    assert one.note == "no validation film has a box, so no threshold can be chosen"
    with pytest.raises(RecordsError, match="no validation film has a box, and --schedule plateau"):
        hilum.detect("fcos", out=tmp_path / "other", schedule="plateau", **given, **SMALL)


def test_shares_of_films_that_have_boxes_and_no_labels_are_stratified_by_boxes():
    box = '[["Mass", 1, 2, 3, 4]]'
    table = pd.DataFrame(
        {
            "image": [f"{k}.png" for k in range(40)], "patient": [f"p{k}" for k in range(40)],
            "split": "train", "boxes": [box if k < 4 else "[]" for k in range(40)],
        }
    )  # fmt: skip
    config = SimpleNamespace(records="films.csv", negatives=0)
    for seed in range(8):
        share = trained_on(config, Records(table, ()), ("Mass",), 0.25, seed)
        assert len(share) == 10
        assert (share.table["boxes"] == box).sum() == 1


def test_a_line_and_a_sweep_speak_of_every_finding(two):
    report = DetectionReport.read(two / "detection.json")
    lines = detection_headline(report).splitlines()
    assert [line.split(":")[0] for line in lines] == ["Cardiomegaly", "Consolidation"]
    scores = [one.estimate("rsna_score") for one in report.findings]
    shown = _sweep_scores._headline(two)
    assert shown.value == pytest.approx(np.mean([score.value for score in scores]))
    assert (shown.finding, shown.low) == ("macro", None)
