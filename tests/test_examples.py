"""Every example is a valid pretraining, and opens with its command."""

from pathlib import Path

import pytest
import timm
import yaml

from hilum.cli import values
from hilum.commands import constant, settings_of
from hilum.data.views import PRESETS
from hilum.models import conv_stem

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_what_its_first_lines_say(path):
    lines = path.read_text().splitlines()
    words = lines[1][lines[1].index("hilum pretrain") :].split()[2:]
    assert f"--config {path.relative_to(ROOT)}" in lines[1]
    method = yaml.safe_load(path.read_text())["method"]
    assert words[0] == method
    cls = settings_of("pretrain", method)
    config = cls.build(values(words, cls, constant("pretrain", "TAKES")), path.name)
    view = PRESETS[config.views].change(**config.view)
    view.change(**config.other_view)
    assert config.arch in conv_stem.PRESETS or timm.is_model(config.arch)
    assert config.batch_size % config.accumulate == 0


def test_every_reference_system_has_examples():
    names = {path.stem for path in EXAMPLES}
    assert {"supce_mimic", "supcon_mimic", "moco_cxr", "medaug", "convirt_mimic", "gloria_chexpert"} <= names
    assert {"chexzero_mimic", "s2mts2_chexpert", "barlow_covid", "nih_encoder", "moco_resnet50"} <= names
