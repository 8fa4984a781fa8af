import numpy as np
import pandas as pd
import pytest

from hilum.errors import MissingError, RecordsError
from hilum.records.predictions import Predictions
from hilum.records.table import Records


def predictions(count=7):
    table = pd.DataFrame(
        {
            "image": pd.Series([f"/films/{i}.png" for i in range(count)], dtype="str"),
            "patient": pd.Series([f"0{i // 2}" for i in range(count)], dtype="str"),
            "split": pd.Series(["test" if i % 2 else "val" for i in range(count)], dtype="str"),
        }
    )
    scores = np.random.default_rng(0).random((count, 2)) ** 20
    return Predictions.make(Records(table, ()), ("Edema", "No Finding"), scores), scores


def test_written_predictions_are_read_back_to_the_bit(tmp_path):
    made, scores = predictions()
    made.write(tmp_path / "p.csv")
    read = Predictions.read(tmp_path / "p.csv")
    pd.testing.assert_frame_equal(read.table, made.table, check_exact=True)
    np.testing.assert_array_equal(read.scores, scores)
    assert read.findings == ("Edema", "No Finding")
    assert read.sha256 == made.sha256
    assert read.patients.tolist() == ["00", "00", "01", "01", "02", "02", "03"]


def test_one_split_of_the_predictions_keeps_their_order():
    made, scores = predictions()
    np.testing.assert_array_equal(made.where("test").scores, scores[1::2])
    assert len(made.where("train")) == 0


def test_defects_of_a_file_of_predictions_are_all_named(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("image,split,A,B\na,test,0.5,1.5\nb,fold,nan,0.1\na,val,,-0.1\n,val,x,1e400\n")
    with pytest.raises(RecordsError) as caught:
        Predictions.read(path)
    for expected in (
        "there is no column 'patient'",
        "line 2, column 'B': found '1.5'; expected a probability from 0 to 1",
        "line 3, column 'A': found 'nan'",
        "line 3, column 'split': found 'fold'",
        "line 4, column 'A': found ''",
        "line 4, column 'B': found '-0.1'",
        "line 4, column 'image': 'a' is already in line 2",
        "line 5, column 'image': the cell is empty",
        "line 5, column 'A': found 'x'",
        "line 5, column 'B': found '1e400'",
    ):
        assert expected in str(caught.value), expected


def test_boxes_of_a_detector_are_told_from_probabilities(tmp_path):
    row = "a.png,1,test,Opacity,0.9,126.87,3,200,40\n"
    (tmp_path / "boxes.csv").write_text("image,patient,split,finding,score,x1,y1,x2,y2\n" + row * 90)
    with pytest.raises(RecordsError, match=r"these are a detector's boxes .*predictions\.csv") as caught:
        Predictions.read(tmp_path / "boxes.csv")
    assert "\n" not in str(caught.value)


def test_a_file_without_probabilities_is_no_predictions(tmp_path):
    (tmp_path / "p.csv").write_text("image,patient,split\na,1,test\n")
    with pytest.raises(RecordsError, match="no column of probabilities"):
        Predictions.read(tmp_path / "p.csv")
    with pytest.raises(MissingError):
        Predictions.read(tmp_path / "no.csv")
