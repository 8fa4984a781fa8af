import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from hilum.errors import ConfigError, RecordsError
from hilum.records.predictions import Predictions
from hilum.records.table import Records
from hilum.report.compare import Cell, compare, holm
from hilum.report.evaluate import Floor
from hilum.report.replicates import over_seeds, picks, two_sided
from tests.report.samples import sample
from tests.report.test_page import checked

FINDINGS = ("Edema", "Effusion")


def cell(records: Records, init: str, *, strength: float, fraction: float = 0.1, seed: int = 0) -> Cell:
    rng = np.random.default_rng([seed, len(init), int(100 * strength)])
    logit = strength * (records.labels - 0.5) + rng.normal(size=records.labels.shape)
    table = records.table[["image", "patient", "split"]].copy()
    for i, finding in enumerate(records.findings):
        table[finding] = 1 / (1 + np.exp(-logit[:, i]))
    name = f"runs/{init}-{fraction}-{seed}"
    return Cell(init, fraction, seed, name, Predictions(table, records.findings), {"excluded": {}})


@pytest.fixture(scope="module")
def records() -> Records:
    return sample(patients=120)[0]


def sweep(records: Records, strengths: dict[str, float], seeds: int = 3) -> list[Cell]:
    return [
        cell(records, init, strength=strength, fraction=fraction, seed=seed)
        for init, strength in strengths.items()
        for fraction in (0.01, 0.1)
        for seed in range(seeds)
    ]


def test_holm_against_an_example_by_hand():
    # Sorted: 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1; the last may not fall below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_means_are_the_mean_over_seeds_of_the_auroc(records):
    cells = sweep(records, {"imagenet": 1.0, "moco": 1.0})
    comparison = compare(cells, records, baseline="imagenet", replicates=60)
    test = (records.table["split"] == "test").to_numpy()
    for mean in comparison.means:
        members = [c for c in cells if (c.init, c.fraction) == (mean.init, mean.fraction)]
        columns = range(2) if mean.finding == "macro" else [FINDINGS.index(mean.finding)]
        expected = [
            np.mean([roc_auc_score(records.labels[test, i], c.predictions.scores[test, i]) for i in columns])
            for c in members
        ]
        assert mean.seeds == pytest.approx(expected)
        assert mean.value == pytest.approx(np.mean(expected))
        assert mean.low < mean.value < mean.high


def test_a_large_difference_is_found_and_has_the_right_sign(records):
    cells = sweep(records, {"imagenet": 0.5, "moco": 4.0})
    comparison = compare(cells, records, baseline="imagenet", replicates=400)
    primary = [d for d in comparison.differences if d.finding == "macro"]
    assert [d.verdict for d in primary] == ["higher", "higher"]
    assert all(d.low > 0 for d in primary)
    other = compare(cells, records, baseline="moco", replicates=400)
    assert [d.verdict for d in other.differences if d.finding == "macro"] == ["lower", "lower"]


def test_equal_models_show_no_evidence_of_a_difference(records):
    cells = sweep(records, {"imagenet": 1.0})
    twins = [Cell("twin", c.fraction, c.seed, f"{c.run}-twin", c.predictions, {}) for c in cells]
    comparison = compare([*cells, *twins], records, baseline="imagenet", replicates=60)
    for pair in comparison.differences:
        assert (pair.value, pair.low, pair.high) == (0, 0, 0)
        assert pair.p == pair.p_holm == 1
        assert pair.verdict == "no evidence of a difference"


def test_an_interval_with_zero_inside_is_never_called_a_difference(records):
    cells = sweep(records, {"imagenet": 1.0, "moco": 1.05, "simclr": 1.3})
    for pair in compare(cells, records, baseline="imagenet", replicates=100).differences:
        if pair.low <= 0 <= pair.high or pair.p_holm >= 0.05:
            assert pair.verdict == "no evidence of a difference"
        assert pair.p_holm >= pair.p


def test_too_few_replicates_for_the_number_of_comparisons_is_said(records):
    cells = sweep(records, {"imagenet": 1.0, "moco": 1.2}, seeds=1)
    notes = compare(cells, records, baseline="imagenet", replicates=40).notes
    assert "Ask for 80 or more" in notes[0]
    assert "Ask for 160 or more" in notes[1]


def test_seeds_widen_the_interval():
    # Runs that differ between seeds and not between patients: all the spread comes from the seeds.
    runs = np.repeat([[0.7], [0.8], [0.9]], 4000, axis=1)
    drawn = over_seeds(runs, picks(3, replicates=4000, seed=0))
    assert drawn.mean() == pytest.approx(0.8, abs=0.005)
    assert drawn.var() == pytest.approx(np.var([0.7, 0.8, 0.9], ddof=1) / 3, rel=0.05)
    one = over_seeds(runs[:1], picks(1, replicates=4000, seed=0))
    assert (one == 0.7).all()


def test_p_values_are_two_sided_and_never_zero():
    assert two_sided(np.full(99, 0.3)) == pytest.approx(2 / 100)
    assert two_sided(np.r_[np.full(50, -1.0), np.full(50, 1.0)]) == 1
    assert two_sided(np.r_[np.full(9, -1.0), np.full(90, 1.0)]) == pytest.approx(2 * 10 / 100)


def test_radiographs_that_one_run_could_not_read_are_left_out_of_all(records):
    cells = sweep(records, {"imagenet": 1.0, "moco": 1.2}, seeds=1)
    lost = records.table["image"][records.table["split"] == "test"].iloc[0]
    first = cells[0]
    fewer = first.predictions.table[first.predictions.table["image"] != lost].reset_index(drop=True)
    predictions = Predictions(fewer, FINDINGS)
    with pytest.raises(RecordsError, match=f"{first.run}.*no prediction"):
        compare([Cell(**{**vars(first), "predictions": predictions}), *cells[1:]], records, baseline="moco")
    reported = Cell(**{**vars(first), "predictions": predictions, "report": {"excluded": {lost: "torn"}}})
    comparison = compare([reported, *cells[1:]], records, baseline="moco", replicates=20)
    assert comparison.images == 119
    assert "Left out of all: 1 radiograph that not every run scored" in comparison.notes[0]


def test_a_missing_baseline_and_a_repeated_cell_are_refused(records):
    cells = sweep(records, {"moco": 1.0}, seeds=1)
    with pytest.raises(ConfigError, match="'imagenet'; there is moco"):
        compare(cells, records, baseline="imagenet")
    with pytest.raises(ConfigError, match="keep one"):
        compare([*cells, cells[0]], records, baseline="moco")


def test_an_undefined_finding_is_in_no_mean_and_in_no_comparison(records):
    table = records.table.copy()
    table.loc[table["split"] == "test", "Edema"] = 0
    cells = sweep(records, {"imagenet": 1.0, "moco": 2.0}, seeds=1)
    comparison = compare(cells, Records(table, FINDINGS), baseline="imagenet", replicates=60)
    at = {(m.init, m.fraction, m.finding): m for m in comparison.means}
    assert at["moco", 0.1, "Edema"].value is None
    assert "0 positives" in at["moco", 0.1, "Edema"].note
    assert at["moco", 0.1, "macro"].value == at["moco", 0.1, "Effusion"].value
    undefined = [d for d in comparison.differences if d.finding == "Edema"]
    assert {d.verdict for d in undefined} == {"undefined"}
    assert all(d.p is None for d in undefined)


def test_the_comparison_as_json_and_as_a_page(records, tmp_path):
    cells = sweep(records, {"imagenet": 1.0, "<i>moco</i>": 1.0})
    floors = [Floor("Age and sex", 0.6)]
    comparison = compare(cells, records, baseline="imagenet", replicates=60, floors=floors)
    content = json.loads(comparison.to_json())
    assert content["schema"] == "hilum.comparison/1"
    for row in (*content["means"], *content["differences"]):
        assert {"value", "low", "high", "images", "patients", "positives"} <= set(row)
    comparison.write_page(tmp_path / "compare.html")
    page = checked(tmp_path / "compare.html")
    raw, text = (tmp_path / "compare.html").read_text(), "".join(page.text)
    assert "http" not in raw
    assert "src=" not in raw
    assert "<i>moco" not in raw
    assert "no evidence of a difference" in text
    for mean in comparison.means:
        assert f"{mean.value:.3f} ({mean.low:.3f} to {mean.high:.3f})" in text


def test_seeds_that_change_nothing_are_one_fit(records, tmp_path):
    first = [cell(records, "log", strength=1.0, fraction=fraction) for fraction in (0.1, 1.0)]
    again = cell(records, "log", strength=1.0, fraction=0.1, seed=1)
    same = Cell("log", 1.0, 1, "runs/log-1.0-1", first[1].predictions, {})
    comparison = compare([*first, again, same], records, baseline="log", replicates=20)
    assert {(m.fraction, m.fits) for m in comparison.means} == {(0.1, 2), (1.0, 1)}
    assert {(s.fraction, s.fits, s.seeds) for s in comparison.standings} == {(0.1, 2, 2), (1.0, 1, 2)}
    assert comparison.notes[0].endswith("log at 100\u202f%: 2 seeds, 1 fit.")
    comparison.write_page(tmp_path / "compare.html")
    text = " ".join("".join(checked(tmp_path / "compare.html").text).split())
    assert "3 fits, 1 or 2 for each" in text
    assert "one fit, whatever the seed" in text
    assert "Some numbers are of one fit" in text


def test_a_run_by_itself_is_compared_with_nothing(records, tmp_path):
    cells = sweep(records, {"log": 1.0}, seeds=2)
    comparison = compare(cells, records, baseline="log", replicates=20)
    comparison.write_page(tmp_path / "compare.html")
    text = " ".join("".join(checked(tmp_path / "compare.html").text).split())
    low, high = (m.value for m in comparison.means if m.finding == "macro")
    assert (
        f"Label efficiency of log: mean AUROC is {low:.3f} with 1\u202f% of the labels and "
        f"{high:.3f} with 10\u202f% of the labels."
    ).replace("\u202f", " ") in text.replace("\u202f", " ")
    for words in ("compared with", "Differences", "What differs", "DeLong", "initialisation"):
        assert words not in text


def test_one_number_of_labels_is_a_row_per_run_and_no_curve(records, tmp_path):
    cells = [cell(records, init, strength=1.0) for init in ("imagenet", "moco")]
    comparison = compare(cells, records, baseline="imagenet", replicates=20)
    comparison.write_page(tmp_path / "compare.html")
    raw = (tmp_path / "compare.html").read_text()
    assert "log scale" not in raw
    assert "Label efficiency" not in raw
    assert 'id="fig-efficiency"' in raw
    alone = compare(cells[:1], records, baseline="imagenet", replicates=20)
    alone.write_page(tmp_path / "alone.html")
    assert 'id="fig-efficiency"' not in (tmp_path / "alone.html").read_text()
    assert "Value of imagenet: mean AUROC is" in "".join(checked(tmp_path / "alone.html").text)
