import csv
from pathlib import Path

import numpy as np
import pytest

from hilum.images.phantom import draw_phantom
from hilum.models.passages import passages, section_of, sentences_of, some

REAL = Path(__file__).resolve().parents[2] / "../shared/data/tuberculosis_shenzhen/labels.csv"

MIMIC = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  Cough.  Findings on the last film.

 COMPARISON:  ___.

 FINDINGS:

 The cardiac, mediastinal and hilar contours are normal.  A nodule of 2.5 cm
 lies in the left lobe, as discussed with Dr. ___.

 IMPRESSION:

 1. No acute disease.
 2. Nodule.
"""


def test_sections_of_a_report_in_the_style_of_mimic():
    assert section_of(MIMIC, "findings") == (
        "The cardiac, mediastinal and hilar contours are normal. "
        "A nodule of 2.5 cm lies in the left lobe, as discussed with Dr. ___."
    )
    assert section_of(MIMIC, "impression") == "1. No acute disease. 2. Nodule."
    assert section_of(MIMIC, "whole") == MIMIC.strip()


@pytest.mark.parametrize(
    ("text", "findings", "impression"),
    [
        ("FINDINGS: Clear. IMPRESSION: Normal.", "Clear.", "Normal."),
        ("Findings: a nodule.", "a nodule.", ""),
        ("FINDINGS AND IMPRESSION: Clear.", "Clear.", "Clear."),
        ("Conclusion: normal.\nFINDINGS: one\nFINDINGS: two", "one two", "normal."),
        ("Comparison: the findings: are mixed.", "", ""),
        ("IMPRESSION:\n\nTECHNIQUE: PA.", "", ""),
        ("", "", ""),
    ],
)
def test_headers(text, findings, impression):
    assert (section_of(text, "findings"), section_of(text, "impression")) == (findings, impression)


def test_sentences_end_where_a_reader_would_end_them():
    assert sentences_of(section_of(MIMIC, "impression")) == ["No acute disease.", "Nodule."]
    assert len(sentences_of(section_of(MIMIC, "findings"))) == 2
    assert sentences_of("...") == []
    assert sentences_of("No edema! Is there\na nodule?  No\n\nnormal") == [
        "No edema!",
        "Is there a nodule?",
        "No",
        "normal",
    ]


def test_a_text_without_the_section_is_read_whole_and_counted():
    read = passages(
        ["FINDINGS: Clear. IMPRESSION: Normal.", "No edema."],
        section="impression",
        sentences=0,
        chance=np.zeros((2, 1)),
    )
    assert read == (["Normal.", "No edema."], 1)


def test_every_pair_of_sentences_is_equally_likely_and_in_order():
    chance = np.random.default_rng(0).random((12_000, 2))
    drawn = [tuple(some("abcd", 2, chance=row)) for row in chance]
    pairs = {("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d")}
    assert set(drawn) == pairs
    assert all(drawn.count(pair) == pytest.approx(2000, rel=0.1) for pair in pairs)
    assert some("abcd", 3, chance=np.ones(3)) == some("abcd", 3, chance=np.full(3, 0.999999))


def test_one_sentence_is_one_of_the_text_and_the_chance_says_which():
    text = "No edema. A nodule. Clear."
    drawn = passages([text] * 3, section="whole", sentences=1, chance=np.array([[0.0], [0.5], [0.99]]))
    assert drawn.texts == ["No edema.", "A nodule.", "Clear."]


def test_phantoms_texts_are_one_sentence_each():
    assert all(len(sentences_of(draw_phantom(0, i, size=32).text)) == 1 for i in range(30))


@pytest.mark.skipif(not REAL.exists(), reason="the readings of shared/data are not on this machine")
def test_no_reading_of_a_hospital_loses_a_word():
    with REAL.open() as file:
        readings = [row["report"] for row in csv.DictReader(file)]
    for reading in readings:
        sentences = sentences_of(reading)
        assert sentences, reading
        said = "".join(letter for letter in reading if letter.isalpha())
        assert "".join(letter for letter in "".join(sentences) if letter.isalpha()) == said
    numbered = next(reading for reading in readings if "3.left compensatory emphysema" in reading)
    assert sentences_of(numbered) == [
        "bilateral secondary PTB with right upper atelectasis",
        "right pleural adhesions",
        "left compensatory emphysema",
    ]
