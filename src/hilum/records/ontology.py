"""Findings of chest radiographs: one name for each, and which of them are cases of a wider one.

The findings are the 14 of CheXpert (Irvin et al. 2019, https://arxiv.org/abs/1901.07031), the 14 of
ChestX-ray14 (Wang et al. 2017, https://arxiv.org/abs/1705.02315), those of VinDr-CXR (Nguyen et al. 2022,
https://doi.org/10.1038/s41597-022-01498-w), the most frequent of PadChest (Bustos et al. 2020,
https://arxiv.org/abs/1901.07441), RSNA's lung opacity, and tuberculosis and COVID-19. Other names for each
stand in `matching`, where tests on another data set look for them too.

A parent is what a finding always is a case of, by its meaning: a consolidation is a lung opacity. Where data
sets or readers disagree there is none: PadChest has consolidation below infiltrates, ChestX-ray14 beside
them; CheXpert has pneumonia below consolidation, but not every pneumonia is consolidated, so here it is below
lung opacity alone, where CheXpert's tree has it too. CheXpert's labeller takes nodules, masses, cavities and
tumours for Lung Lesion, and pleural thickening for Pleural Other.
"""

from collections.abc import Mapping

from hilum.records.matching import meaning

PARENTS: Mapping[str, tuple[str, ...]] = {
    # lungs
    "Lung Opacity": (),
    "Consolidation": ("Lung Opacity",),
    "Edema": ("Lung Opacity",),
    "Atelectasis": ("Lung Opacity",),
    "Laminar Atelectasis": ("Atelectasis",),
    "Lobar Atelectasis": ("Atelectasis",),
    "Segmental Atelectasis": ("Atelectasis",),
    "Round Atelectasis": ("Atelectasis",),
    "Total Atelectasis": ("Atelectasis",),
    "Infiltration": ("Lung Opacity",),
    "Alveolar Pattern": ("Lung Opacity",),
    "Ground Glass Opacity": ("Lung Opacity",),
    "Pneumonia": ("Lung Opacity",),
    "Bacterial Pneumonia": ("Pneumonia",),
    "Viral Pneumonia": ("Pneumonia",),
    "Lung Lesion": ("Lung Opacity",),
    "Nodule/Mass": ("Lung Lesion",),
    "Nodule": ("Nodule/Mass",),
    "Multiple Nodules": ("Nodule",),
    "Mass": ("Nodule/Mass",),
    "Lung Cavity": ("Lung Lesion",),
    "Lung Tumor": ("Lung Lesion",),
    "Lung Metastasis": ("Lung Tumor",),
    "Granuloma": (),
    "Calcified Granuloma": ("Granuloma",),
    "Calcification": (),
    "Lung Cyst": (),
    "Emphysema": (),
    "COPD": (),
    "Air Trapping": (),
    "Fibrosis": (),
    "Interstitial Lung Disease": (),
    "Interstitial Pattern": (),
    "Bronchiectasis": (),
    "Volume Loss": (),
    "Tuberculosis": (),
    "Active Tuberculosis": ("Tuberculosis",),
    "Latent Tuberculosis": ("Tuberculosis",),
    "Tuberculosis Sequelae": (),
    "COVID-19": (),
    # pleura
    "Pleural Effusion": (),
    "Loculated Pleural Effusion": ("Pleural Effusion",),
    "Hydropneumothorax": ("Pleural Effusion", "Pneumothorax"),
    "Pneumothorax": (),
    "Pleural Other": (),
    "Pleural Thickening": ("Pleural Other",),
    "Apical Pleural Thickening": ("Pleural Thickening",),
    "Pleural Plaques": ("Pleural Other",),
    "Costophrenic Angle Blunting": (),
    # heart, mediastinum, vessels
    "Enlarged Cardiomediastinum": (),
    "Cardiomegaly": ("Enlarged Cardiomediastinum",),
    "Mediastinal Enlargement": ("Enlarged Cardiomediastinum",),
    "Superior Mediastinal Enlargement": ("Mediastinal Enlargement",),
    "Mediastinal Shift": (),
    "Aortic Enlargement": (),
    "Aortic Elongation": (),
    "Aortic Atheromatosis": (),
    "Hilar Enlargement": (),
    "Vascular Hilar Enlargement": ("Hilar Enlargement",),
    "Enlarged Pulmonary Artery": (),
    "Hernia": (),
    "Hiatal Hernia": ("Hernia",),
    # bones, soft tissue
    "Fracture": (),
    "Rib Fracture": ("Fracture",),
    "Callus Rib Fracture": ("Rib Fracture",),
    "Clavicle Fracture": ("Fracture",),
    "Vertebral Fracture": ("Fracture",),
    "Humeral Fracture": ("Fracture",),
    "Scoliosis": (),
    "Kyphosis": (),
    "Vertebral Degenerative Changes": (),
    "Hemidiaphragm Elevation": (),
    "Diaphragmatic Eventration": (),
    "Subcutaneous Emphysema": (),
    # what was put there
    "Support Devices": (),
    "Pacemaker": ("Support Devices",),
    "Endotracheal Tube": ("Support Devices",),
    "Tracheostomy Tube": ("Support Devices",),
    "Nasogastric Tube": ("Support Devices",),
    "Chest Drain Tube": ("Support Devices",),
    "Central Venous Catheter": ("Support Devices",),
    "Foreign Object": (),
    # nothing of all this
    "No Finding": (),
    "Normal": (),
}
"""Every finding, and the wider ones that it is a case of, one level up."""

NOTHING = ("No Finding", "Normal")
"""Findings that say that there are no others."""

BESIDE_NOTHING = ("Support Devices", "Foreign Object")
"""Findings that may stand beside them: a pacemaker is no disease, and CheXpert says No Finding with one."""


def canonical(name: str) -> str | None:
    """The ontology's name of a finding; None if it has none.

    >>> canonical("Effusion"), canonical("pulmonary oedema"), canonical("Nodule/Mass"), canonical("Opacity")
    ('Pleural Effusion', 'Edema', 'Nodule/Mass', None)
    """
    return _NAMES.get(meaning(name))


def ancestors(finding: str) -> tuple[str, ...]:
    """All wider findings, the nearest first; none of what the ontology does not have.

    >>> ancestors("Mass")
    ('Nodule/Mass', 'Lung Lesion', 'Lung Opacity')
    """
    found: list[str] = []
    level = [finding]
    while level:
        level = [parent for name in level for parent in PARENTS.get(name, ())]
        found += [parent for parent in level if parent not in found]
    return tuple(found)


def contradicts_nothing(finding: str) -> bool:
    """Whether a film with it cannot be one of `NOTHING`.

    >>> contradicts_nothing("Edema"), contradicts_nothing("Pacemaker"), contradicts_nothing("Normal")
    (True, False, False)
    """
    return not {finding, *ancestors(finding)} & {*NOTHING, *BESIDE_NOTHING}


_NAMES = {meaning(name): name for name in PARENTS}
