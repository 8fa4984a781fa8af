import pytest

from hilum.records.matching import SYNONYMS, match, meaning
from hilum.records.ontology import BESIDE_NOTHING, NOTHING, PARENTS, ancestors, canonical, contradicts_nothing

CHEXPERT = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other",
    "Fracture", "Support Devices",
)  # fmt: skip
NIH = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia",
    "Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia",
)  # fmt: skip
VINDR = (
    "Aortic enlargement", "Atelectasis", "Cardiomegaly", "Calcification", "Clavicle fracture",
    "Consolidation", "Edema", "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung cavity", "Lung cyst",
    "Lung Opacity", "Mediastinal shift", "Nodule/Mass", "Pulmonary fibrosis", "Pneumothorax",
    "Pleural thickening", "Pleural effusion", "Rib fracture", "COPD", "Lung tumor", "Pneumonia",
    "Tuberculosis", "No finding",
)  # fmt: skip
PADCHEST = (
    "normal", "pleural effusion", "pneumonia", "infiltrates", "cardiomegaly", "interstitial pattern",
    "nodule", "alveolar pattern", "laminar atelectasis", "atelectasis", "consolidation",
    "costophrenic angle blunting", "apical pleural thickening", "hiatal hernia", "callus rib fracture",
    "NSG tube", "ground glass pattern", "pulmonary mass", "emphysema", "aortic elongation", "scoliosis",
    "vascular hilar enlargement",
)  # fmt: skip


@pytest.mark.parametrize("name", sorted({*CHEXPERT, *NIH, *VINDR, *PADCHEST, "TB", "COVID"}))
def test_the_findings_of_the_large_data_sets_have_a_name(name):
    assert canonical(name) in PARENTS


@pytest.mark.parametrize("name", CHEXPERT)
def test_chexpert_names_are_canonical(name):
    assert canonical(name) == name


@pytest.mark.parametrize("findings", [CHEXPERT, NIH, VINDR, PADCHEST])
def test_no_two_findings_of_one_data_set_get_one_name(findings):
    assert len({canonical(name) for name in findings}) == len(findings)


def test_a_finding_has_one_entry_and_one_meaning():
    assert len({meaning(name) for name in PARENTS}) == len(PARENTS)
    assert len({meaning(name) for group in SYNONYMS for name in group}) == len(SYNONYMS)


def test_every_parent_is_a_finding_and_none_is_its_own_ancestor():
    for finding, parents in PARENTS.items():
        assert set(parents) <= set(PARENTS)
        assert finding not in ancestors(finding)


@pytest.mark.parametrize(
    ("finding", "wider"),
    [
        ("Consolidation", "Lung Opacity"),
        ("Edema", "Lung Opacity"),
        ("Atelectasis", "Lung Opacity"),
        ("Pneumonia", "Lung Opacity"),
        ("Lung Lesion", "Lung Opacity"),
        ("Cardiomegaly", "Enlarged Cardiomediastinum"),
    ],
)
def test_what_is_below_what_in_chexpert_s_tree_is_so_here(finding, wider):
    assert wider in ancestors(finding)


def test_ancestors_are_those_of_all_levels_and_of_all_parents():
    assert ancestors("Nodule") == ("Nodule/Mass", "Lung Lesion", "Lung Opacity")
    assert ancestors("Hydropneumothorax") == ("Pleural Effusion", "Pneumothorax")
    assert ancestors("Apical Pleural Thickening") == ("Pleural Thickening", "Pleural Other")
    assert ancestors("somebody's own finding") == ()


def test_a_child_and_its_parent_are_never_matched_as_one_finding():
    for finding in PARENTS:
        for wider in ancestors(finding):
            assert match([finding], [wider]).names == {}


def test_devices_may_stand_beside_no_finding_and_diseases_may_not():
    assert not any(map(contradicts_nothing, (*NOTHING, *BESIDE_NOTHING, "Endotracheal Tube")))
    assert contradicts_nothing("Hernia")
    assert contradicts_nothing("somebody's own finding")
