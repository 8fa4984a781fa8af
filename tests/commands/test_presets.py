"""Each reference system's fit runs to its report: two steps of it, on a few phantoms, from random weights."""

from pathlib import Path

import pytest
import yaml

import hilum
from hilum.images.phantom import write_phantoms

ROOT = Path(__file__).resolve().parent.parent.parent
PRESETS = sorted((ROOT / "examples" / "transfer").glob("*.yaml"))
ENCODERS = {"moco_resnet50_finetune": "resnet50", "moco_hybrid_finetune": "convstem_vit_192"}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    place = tmp_path_factory.mktemp("presets")
    several = write_phantoms(place / "several", count=60, size=128, seed=2)
    # Folders per class, for the exclusive one: the first finding that a phantom has, or none.
    lines = several.read_text().splitlines()
    header = lines[0].split(",")
    for line in lines[1:]:
        cells = dict(zip(header, line.split(","), strict=False))
        kind = next((f for f in ("Effusion", "Nodule") if cells.get(f) == "1"), "none")
        (place / "classes" / kind).mkdir(parents=True, exist_ok=True)
        source = several.parent / cells["image"]
        (place / "classes" / kind / source.name).write_bytes(source.read_bytes())
    return place


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_runs(path, films):
    told = yaml.safe_load(path.read_text())
    told |= {"init": "random", "arch": ENCODERS.get(path.stem, told.get("arch", "resnet18"))}
    told |= {"image_size": min(128, told.get("image_size", 128)), "store_size": 128, "replicates": 20}
    told |= {"label_fraction": [1.0], "seeds": [0]}
    if told["fit"] != "logistic":
        told |= {"steps": 2, "batch_size": 4, "accumulate": 1}
        told.pop("epochs", None)
    if path.stem == "moco_patch_scoring":
        told["top_k"] = min(told.get("top_k", 10), 64)
    if told.get("findings"):
        told["findings"] = ["Consolidation"]  # phantoms have no pneumonia
    exclusive = told.get("exclusive", False)
    records = films / "classes" if exclusive else films / "several" / "records.csv"
    out = hilum.transfer(
        **told, records=records, store=films / "store", out=films / path.stem, device="cpu", threads=1
    )
    report = hilum.Report.read(out / "report.json")
    assert report.exclusive is exclusive
    assert report.headline is not None
    assert (out / "report.html").exists()
    settings = yaml.safe_load((out / "config.yaml").read_text())
    for name in ("fit", "lr", "optimizer", "weight_decay", "views", "penalty"):
        if name in told:
            assert settings[name] == told[name]
