"""What the sources labelled by the CheXpert labeller share: its findings, and what an empty cell means.

Irvin et al. 2019, https://arxiv.org/abs/1901.07031: 1 is positive, 0 negative, -1 uncertain, and an empty
cell a finding that the report does not mention. "No Finding" is 1 or empty, and empty says that there is one.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.records.defects import Defects
from hilum.records.sources._tables import numbers

NONE = "No Finding"
FINDINGS = (
    NONE,
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
OLDER = {"Airspace Opacity": "Lung Opacity"}
"""What findings are called in sheets of people's labels, from before the labeller had its names."""


def labels_of(
    table: pd.DataFrame, blank: str, defects: Defects, *, file: str = ""
) -> dict[str, NDArray[np.float64]]:
    """The fourteen labels of every row: 1, 0, -1 and NaN.

    An empty cell of No Finding is 0. Of another finding it is 0 where `blank` is zero, NaN where it is
    unknown, and where it is no_finding 0 on films whose No Finding is 1 and NaN on others; devices are NaN
    there too, since a film with a tube may have no finding.
    """
    labels = {name: numbers(table[name], defects, table["line"], file=file) for name in FINDINGS}
    clear = labels[NONE] == 1
    for name, values in labels.items():
        empty = np.isnan(values)
        if name == NONE or blank == "zero":
            values[empty] = 0
        elif blank == "no_finding" and name != "Support Devices":
            values[empty & clear] = 0
    return labels
