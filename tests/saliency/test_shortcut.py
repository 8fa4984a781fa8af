"""A classifier that leans on the side marker must be given away by its maps.

The phantoms' shortcut: the framed marker, in the upper left of the film, agrees with consolidation 19 times
in 20. Two models see the same films but for that.
"""

from functools import partial

import numpy as np
import pytest

import hilum
from hilum.images.phantom import SHORTCUT, write_phantoms
from hilum.images.store import build_store
from hilum.metrics.classification import auroc
from hilum.metrics.localisation import area_share, box_mask, energy
from hilum.records.splits import split_patients
from hilum.saliency.grad_cam import grad_cam
from hilum.saliency.maps import film_maps
from hilum.saliency.occlusion import occlusion
from hilum.saliency.placement import heat_map

MARKER = np.array([[0.0, 0.0, 0.16, 0.3]])
"""Where both kinds of marker lie, and the letters AP: x1 y1 x2 y2, shares of the film."""


def marker_energy(folder, *, explain, shortcut, size, count, store_size, **settings):
    """On validation films the share of maps at the marker, for and against; labels, probabilities, area."""
    table = write_phantoms(folder / "films", count=count, seed=4, size=size, shortcut=shortcut)
    records = split_patients(hilum.Records.read(table, findings=[SHORTCUT]), val=0.3, test=0.1, seed=0)
    records.write(folder / "films" / "split.csv")
    run = hilum.transfer(
        records=folder / "films" / "split.csv", store=folder / "store", store_size=store_size,
        out=folder / "run", findings=[SHORTCUT], init=settings.pop("init", "random"), replicates=20,
        device="cpu", workers=0, threads=1, **settings,
    )  # fmt: skip
    val = records.where("val")
    images = records.table["image"].tolist()
    store = build_store(images, folder=folder / "store" / "images", size=store_size, quiet=True)
    model, mask = hilum.load(run), box_mask(MARKER * store_size, (store_size, store_size))
    shares = []
    for against in (False, True):
        method = partial(explain, against=against)
        maps = list(film_maps(method, model, val, store, finding=0, device="cpu"))
        heats = [heat_map(one.scores, mask.shape, fit="crop") for one in maps]
        shares.append([energy(heat, mask) for heat in heats])
    probabilities = np.array([one.probability for one in maps])
    return np.array(shares), val.labels[:, 0], probabilities, area_share(heats[0], mask)


def test_occlusion_shows_that_a_linear_model_reads_the_marker(tmp_path):
    films = {"size": 64, "count": 240, "store_size": 64, "init": "pixels", "image_size": 64}
    films |= {"explain": partial(occlusion, patch=8, stride=4)}
    shares, truth, probabilities, floor = marker_energy(tmp_path / "biased", shortcut=True, **films)
    fair, same, _, _ = marker_energy(tmp_path / "fair", shortcut=False, **films)
    assert auroc(truth, probabilities) > 0.8
    biased = shares[0, truth == 1].mean()
    assert biased > 3 * fair[0, same == 1].mean()
    assert biased > 3 * floor


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    "method", [grad_cam, partial(occlusion, patch=24, stride=12)], ids=["grad_cam", "occlusion"]
)
def test_maps_show_that_a_network_reads_the_marker(tmp_path, method):
    """What speaks for the decision is at the marker.

    A network may call a film negative because of the usual marker, and positive for want of it: maps of the
    finding's own logit on positive films cannot show that.
    """
    films = {
        "size": 112, "count": 700, "store_size": 112, "image_size": 96, "arch": "resnet10t", "views": "plain",
        "fit": "finetune", "batch_size": 32, "epochs": 8, "lr": 2e-3, "monitor": "", "explain": method,
    }  # fmt: skip
    found = {}
    for name in ("biased", "fair"):
        made = marker_energy(tmp_path / name, shortcut=name == "biased", **films)
        shares, truth, probabilities, floor = made
        found[name] = np.where(probabilities >= 0.5, shares[0], shares[1]).mean()
        assert name == "fair" or auroc(truth, probabilities) > 0.85
    assert found["biased"] > 2 * found["fair"]
    assert found["biased"] > 2 * floor
