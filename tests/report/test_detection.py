"""Reports of found boxes: chosen on validation alone, beside floors, and equal to direct computation."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hilum.errors import RecordsError
from hilum.metrics.boxes import Boxes
from hilum.metrics.detection import mean_score, rsna_scores
from hilum.metrics.detection_intervals import METRICS, estimates
from hilum.records.detections import Detections, rsna_submission
from hilum.records.table import Records
from hilum.report.detection import DetectionReport
from hilum.report.detection_evaluate import boxes_among, evaluate_detections
from hilum.report.detection_floors import floors
from hilum.report.detection_page import _epochs as heat_map
from hilum.report.detection_page import chosen_films
from tests.metrics.test_detection import sample


def films(seed=0, num=90, shift=0.0):
    """A table of films and what was found on them; scores of validation films can be shifted."""
    _, film, box, score, true_film, true_box = sample(seed, films=num)
    cells = [
        json.dumps(
            [["Mass", *map(float, b)] for f, b in zip(true_film, true_box, strict=True) if f == number]
        )
        for number in range(num)
    ]
    split = np.array([("val", "test", "test")[number % 3] for number in range(num)])
    table = pd.DataFrame(
        {
            "image": [f"/f/{number}.png" for number in range(num)],
            "patient": [f"p{number // 2}" for number in range(num)],
            "split": split,
            "boxes": cells,
        }
    )
    records = Records(table, ())
    moved = np.where(split[film] == "val", np.clip(score + shift, 0, 1), score)
    found = Detections.make(records, ["Mass"], film, np.zeros(len(film), np.int64), moved, box)
    return records, found


def report_of(records, found, **changes):
    told = {"findings": ["Mass"], "thresholds": [0.1, 0.3, 0.5, 0.7], "replicates": 60, "train": records}
    return evaluate_detections({0.2: found, 0.4: found}, records, **told | changes)


def test_the_threshold_is_the_best_of_validation_and_test_has_no_part_in_it(tmp_path):
    records, found = films()
    report = report_of(records, found)
    (one,) = report.findings
    val = records.where("val")
    boxes = boxes_among(found.where("val"), val, "Mass")
    scores = mean_score(rsna_scores(boxes, np.array([0.1, 0.3, 0.5, 0.7])), np.ones((len(val), 1)))[:, 0]
    assert one.scan.scores[0] == pytest.approx(tuple(scores))
    assert one.threshold == [0.1, 0.3, 0.5, 0.7][int(scores.argmax())]
    spoilt = records.table.assign(
        boxes=np.where(records.table["split"] == "test", "[]", records.table["boxes"])
    )
    other = report_of(Records(spoilt, ()), found).findings[0]
    assert (other.threshold, other.scan) == (one.threshold, one.scan)
    shifted = films(shift=0.4)
    assert report_of(*shifted).findings[0].threshold > one.threshold
    report.write(tmp_path / "detection.json")
    assert DetectionReport.read(tmp_path / "detection.json") == report


def test_the_estimates_are_those_of_the_metrics_with_intervals_of_the_same_resamples():
    records, found = films(1)
    (one,) = report_of(records, found).findings
    test = records.where("test")
    boxes = boxes_among(found.where("test"), test, "Mass")
    score = mean_score(rsna_scores(boxes, np.array([one.threshold])), np.ones((len(test), 1)))
    assert one.estimate("rsna_score").value == pytest.approx(float(score[0, 0]))
    assert {e.metric for e in one.estimates} == set(METRICS)
    for e in one.estimates:
        assert e.low <= e.value <= e.high
        assert (e.images, e.patients) == (60, len(set(test.patients)))
    nothing = {e.metric: e.value for e in one.floors["no box"]}
    assert nothing["rsna_score"] == nothing["box_precision"] == nothing["froc"] == 0
    assert nothing["film_auroc"] == 0.5
    hits = sum(stratum.found for stratum in one.sizes)
    assert sum(stratum.boxes for stratum in one.sizes) == len(boxes.true_box)
    assert hits == sum(film.found for film in one.films)
    assert sum(f.found + f.false for f in one.films) == int((boxes.score >= one.threshold).sum())
    direct = estimates(boxes, patients=test.patients, finding="Mass", threshold=one.threshold, replicates=60)
    assert [e.low for e in direct] == [e.low for e in one.estimates]


def test_without_validation_films_there_is_no_threshold_and_that_is_said():
    records, found = films(2)
    alone = Records(records.table.assign(split="test"), ())
    moved = Detections(found.table.assign(split="test"))
    (one,) = report_of(alone, moved).findings
    assert (one.threshold, one.note) == (None, "there is no validation film to choose a threshold on")
    assert one.estimate("rsna_score").note == "undefined: no threshold"
    assert one.estimate("box_precision").value is not None
    with pytest.raises(RecordsError, match="no film of the test split"):
        report_of(Records(records.table.assign(split="val"), ()), found)


def test_a_box_on_an_unknown_film_is_refused():
    records, found = films(3)
    with pytest.raises(
        RecordsError, match="detections are on films that the records lack, the first on '/f/"
    ):
        boxes_among(found, records.take(np.arange(10)), "Mass")


def test_detections_are_written_to_the_bit_and_bad_files_are_told(tmp_path):
    _, found = films(4)
    found.write(tmp_path / "boxes.csv")
    again = Detections.read(tmp_path / "boxes.csv")
    pd.testing.assert_frame_equal(again.table, found.table)
    found.above(1.1).write(tmp_path / "none.csv")
    pd.testing.assert_frame_equal(Detections.read(tmp_path / "none.csv").table, found.above(1.1).table)
    lines = (tmp_path / "boxes.csv").read_text().splitlines()
    lines[1] = "/f/0.png,p0,val,Mass,1.2,5,5,4,9"
    lines[2] = "/f/0.png,p0,val,Mass,x,5,5,9,9"
    (tmp_path / "bad.csv").write_text("\n".join(lines[:3]))
    with pytest.raises(RecordsError, match="line 3, column 'score': found 'x'; expected a number"):
        Detections.read(tmp_path / "bad.csv")
    (tmp_path / "bad.csv").write_text("\n".join(lines[:2]))
    with pytest.raises(RecordsError, match="a score is from 0 to 1") as caught:
        Detections.read(tmp_path / "bad.csv")
    assert "are these widths and heights?" in str(caught.value)


def test_a_submission_is_in_the_challenges_pixels():
    table = pd.DataFrame(
        {
            "image": ["/f/a.dcm", "/f/a.dcm"],
            "patient": "p",
            "split": "test",
            "finding": "Mass",
            "score": [0.5, 0.25],
            "x1": [10.0, 0],
            "y1": [20.0, 0],
            "x2": [60.0, 100],
            "y2": [70.0, 200],
        }
    )
    told = rsna_submission(Detections(table), {"/f/a.dcm": (200, 100), "/f/b.dcm": (512, 512)})
    assert told["patientId"].tolist() == ["a", "b"]
    assert told["PredictionString"].tolist() == [
        "0.500 102.4 102.4 512.0 256.0 0.250 0.0 0.0 1024.0 1024.0",
        "",
    ]
    with pytest.raises(RecordsError, match=r"1 images have the name of another, as 'a'; .* one folder"):
        rsna_submission(Detections(table), {"/f/a.dcm": (200, 100), "/g/a.dcm": (512, 512)})


def test_the_mean_box_is_a_share_of_its_film():
    """Films of two sizes with the same picture: the mean box of one is on the other where it belongs."""
    box = lambda scale: json.dumps([["Mass", 10 * scale, 20 * scale, 40 * scale, 60 * scale]])  # noqa: E731
    table = pd.DataFrame(
        {
            "image": list("abcd"), "patient": list("abcd"), "split": ["train", "train", "test", "test"],
            "boxes": [box(1), box(10), box(4), "[]"],
        }
    )  # fmt: skip
    records = Records(table, ())
    sizes = {"a": (100, 100), "b": (1000, 1000), "c": (400, 400), "d": (100, 200)}
    train, test = records.where("train"), records.where("test")
    none = np.empty(0)
    boxes = Boxes.of(2, none, np.empty((0, 4)), none, np.array([0]), np.array([[40, 80, 160, 240]]))
    mean = floors(boxes, test, train, "Mass", sizes)["the mean box everywhere"]
    np.testing.assert_allclose(mean.box, [[40, 80, 160, 240], [20, 20, 80, 60]])
    alike = floors(boxes, test, train, "Mass")["the mean box everywhere"]
    np.testing.assert_allclose(alike.box, [[55, 110, 220, 330]] * 2)


@pytest.mark.parametrize("seed", range(6))
def test_sizes_count_the_boxes_that_films_count(seed):
    records, found = films(seed, num=240)
    (one,) = report_of(records, found, order="truth", replicates=20).findings
    assert sum(stratum.found for stratum in one.sizes) == sum(film.found for film in one.films)


def test_a_film_is_shown_among_the_lowest_or_the_highest_scores_and_not_both():
    one = report_of(*films()).findings[0]
    for num in (1, 2, 5, 16, 40):
        few = replace(one, films=one.films[:num])
        lowest, highest, _ = chosen_films(few).values()
        boxed = [film for film in few.films if film.found + film.missed]
        assert not {f.image for f in lowest} & {f.image for f in highest}
        assert len(lowest) + len(highest) == min(len(boxed), 16)
        if highest:
            assert (lowest[-1].score or 0) <= (highest[-1].score or 0) <= (highest[0].score or 0)


def test_the_heat_map_shows_every_validated_epoch_and_says_whose_it_is():
    thresholds = (0.1, 0.5)
    scores = {2.0: (0.1, 0.25), 4.0: (0.4, 0.05), 5.0: (0.3, 0.2)}
    metrics = [{"step": 1, "epoch": 0.5, "loss": 1.0}]  # a row that is of no validation
    for epoch, values in scores.items():
        cells = {f"val_rsna_at_{cut:g}": value for cut, value in zip(thresholds, values, strict=True)}
        metrics.append({"step": int(epoch), "epoch": epoch, "val_rsna": max(values), **cells})
    drawing = heat_map("map", metrics)
    assert drawing.header == ("epoch", "0.1", "0.5")
    assert [row[0] for row in drawing.rows] == ["2", "4", "5"]
    assert [tuple(map(float, row[1:])) for row in drawing.rows] == list(scores.values())
    assert "highest 0.400 at epoch 4" in drawing.alt
    assert "the validation films after every epoch that was validated" in drawing.caption
    assert "held out from the first of 4 folds" in heat_map("map", metrics, folds=4).caption
    assert heat_map("map", metrics[:2]) is None  # one epoch is no map
