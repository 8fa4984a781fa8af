"""Every example is a valid pretraining or transfer, and opens with its command."""

from pathlib import Path

import pytest
import timm
import yaml

from hilum.cli import values
from hilum.commands import KINDS, constant, settings_of
from hilum.commands.sweep import plan
from hilum.data.views import PRESETS
from hilum.images.spec import InputSpec
from hilum.models import conv_stem
from hilum.models.blocks import blocks
from hilum.models.encoder import Encoder

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("systems", "methods", "transfer", "detection")
EXAMPLES = sorted(path for name in FOLDERS for path in (ROOT / "examples" / name).glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_what_its_first_lines_say(path):
    lines = path.read_text().splitlines()
    _, command, *words = lines[1][lines[1].index("hilum ") :].split()
    assert f"--config {path.relative_to(ROOT)}" in lines[1]
    takes = constant(command, "TAKES")
    chosen = yaml.safe_load(path.read_text()).get(takes, "") if takes in KINDS else ""
    assert not chosen or words[0] == chosen
    cls = settings_of(command, chosen)
    config = cls.build(values(words, cls, constant(command, "TAKES")), path.name)
    view = PRESETS[config.views].change(**config.view)
    view.change(**getattr(config, "other_view", {}))
    assert config.arch in conv_stem.PRESETS or timm.is_model(config.arch)
    assert config.batch_size % config.accumulate == 0


SWEEPS = sorted((ROOT / "examples" / "sweeps").glob("*.yaml"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_an_example_of_a_sweep_is_one_of_valid_runs(path, tmp_path, monkeypatch):
    words = path.read_text().splitlines()[1].split("hilum sweep ")[1].split()
    assert words[1:3] == ["--config", str(path.relative_to(ROOT))]
    for run in ("runs/moco", "runs/barlow", "runs/supce", "runs/supcon"):
        (tmp_path / run).mkdir(parents=True)
    cls = settings_of("sweep")
    config = cls.build(values(words, cls, constant("sweep", "TAKES")), path.name)
    monkeypatch.chdir(tmp_path)
    _, cells = plan(config)
    assert len(cells) > 2
    for cell in cells:
        PRESETS[cell.stages[0].config.views].change(**cell.stages[0].config.view)


def test_every_reference_system_has_examples():
    names = {path.stem for path in EXAMPLES}
    assert {"supce_mimic", "supcon_mimic", "moco_cxr", "medaug", "convirt_mimic", "gloria_chexpert"} <= names
    assert {"chexzero_mimic", "s2mts2_chexpert", "barlow_covid", "nih_encoder", "moco_resnet50"} <= names
    assert {"cxrlearn_finetune", "cxrlearn_linear", "cxrlearn_logistic", "barlow_covid_finetune"} <= names
    assert {"moco_resnet50_finetune", "moco_hybrid_finetune", "moco_linear", "kaggle_nih"} <= names


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples" / "transfer").glob("*.yaml")), ids=lambda p: p.stem
)
def test_an_example_of_transfer_says_all_that_its_fit_needs(path):
    """What is trained by gradient names its rate and schedule; a block it starts from is there."""
    given = yaml.safe_load(path.read_text())
    if given["fit"] not in ("logistic", "knn"):
        assert {"lr", "weight_decay", "batch_size", "epochs"} <= given.keys()
    known = {"moco_resnet50_finetune": "resnet50", "moco_hybrid_finetune": "convstem_vit_192_original"}
    assert ("train_from" in given) == (path.stem in known)
    if path.stem in known:
        assert given["train_from"] in blocks(Encoder(known[path.stem], InputSpec(side=64)).net)


def test_the_sweep_of_detectors_has_the_settings_of_the_two_examples_that_it_names():
    sweep = yaml.safe_load((ROOT / "examples/sweeps/detector_starts.yaml").read_text())
    axes = sweep.pop("axes")
    for encoder, name in (("frozen", "lovt_frozen"), ("fine-tuned", "lovt_finetune")):
        alone = yaml.safe_load((ROOT / f"examples/detection/{name}.yaml").read_text())
        assert set(alone.pop("label_fraction")) <= set(axes["label_fraction"])
        assert alone.pop("seeds") == axes["seeds"]
        assert sweep | axes["encoder"][encoder] == alone
