"""The RSNA challenge with the patients of ChestX-ray14."""

import json
import logging
from pathlib import Path

import pytest

from hilum.cli import main
from hilum.errors import MissingError, RecordsError
from hilum.records.sources import rsna
from hilum.records.table import Records
from tests.records.sources.test_boxes import rsna_tree

FILMS = ["0004cfab-14fd", "00436515-870c", "000fe35a-2649"]
MAPPING = [
    {
        "img_id": img,
        "subset_img_id": name,
        "orig_labels": ["Infiltration", "Effusion"],
        "StudyInstanceUID": "1.2",
    }
    for img, name in zip(
        ["00028173_005.png", "00000013_000.png", "00028173_012.png", "00000001_000.png"],
        [*FILMS, "of another stage"],
        strict=True,
    )
]


def mapped(root: Path, content) -> Path:
    path = root / "pneumonia-challenge-dataset-mappings_2018.json"
    path.write_text(json.dumps(content))
    return path


def test_two_films_of_one_person_share_the_patient_of_chestx_ray14(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    root, out = rsna_tree(tmp_path), tmp_path / "rsna.csv"
    mapping = str(mapped(tmp_path, MAPPING))
    words = ["records", "read", "rsna", "--root", str(root), "--nih-mapping", mapping, "--out", str(out)]
    assert main(words) == 0
    records = Records.read(out)
    assert records.table["patient"].tolist() == ["00028173", "00000013", "00028173"]
    assert records.labels[:, 0].tolist() == [0, 1, 0]
    assert "3 films are of 2 patients of ChestX-ray14" in caplog.text
    alone = rsna.read(root, stage=2, images=None, nih_mapping=None)
    assert alone.table["patient"].tolist() == FILMS
    assert alone.table.drop(columns="patient").equals(
        rsna.read(root, stage=2, images=None, nih_mapping=Path(mapping)).table.drop(columns="patient")
    )


def test_all_that_is_wrong_with_a_mapping_is_one_list(tmp_path):
    root = rsna_tree(tmp_path)
    content = [*MAPPING[:2], {"subset_img_id": FILMS[0], "img_id": "00000007_000.png"}, {"img_id": "x"}]
    with pytest.raises(RecordsError) as caught:
        rsna.read(root, stage=2, images=None, nih_mapping=mapped(tmp_path, content))
    said = str(caught.value)
    for part in (
        "3 defects",
        "0004cfab-14fd is of patient 00028173 and of 00000007",
        "expected subset_img_id, and img_id such as 00028173_005.png",
        "000fe35a-2649 is not in pneumonia-challenge-dataset-mappings_2018.json",
    ):
        assert part in said
    with pytest.raises(RecordsError, match="expected a list of films"):
        rsna.read(root, stage=2, images=None, nih_mapping=mapped(tmp_path, {}))
    with pytest.raises(MissingError, match="--nih-mapping names"):
        rsna.read(root, stage=2, images=None, nih_mapping=tmp_path / "nowhere.json")
