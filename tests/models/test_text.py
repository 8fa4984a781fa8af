import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer, RobertaConfig, RobertaModel

from hilum.errors import ConfigError, DependencyError, MissingError, WeightsError
from hilum.images.phantom import draw_phantom
from hilum.models.text import TextTower, group_means, merge_words
from hilum.models.text_files import TEXT_FILE, pack
from tests import toys

REAL = Path(__file__).resolve().parents[2] / "../shared/data/tuberculosis_shenzhen/labels.csv"
PHANTOMS = [draw_phantom(0, i, size=32).text for i in range(8)]


def tower(source: str = "", *, freeze: int = 0, pool: str = "mean", max_tokens: int = 64) -> TextTower:
    return TextTower.open(source or toys.bert(), freeze=freeze, pool=pool, max_tokens=max_tokens)


@pytest.fixture
def bert(tmp_path):
    """A folder of a text model that may be spoilt."""
    return Path(shutil.copytree(toys.bert(), tmp_path / "bert"))


@pytest.mark.parametrize("pool", ["mean", "class"])
def test_embeddings_are_those_that_transformers_gives_for_each_text_alone(pool):
    ours = tower(pool=pool).train()
    got, num_cut = ours.embed(PHANTOMS)
    assert num_cut == 0
    tokenizer = AutoTokenizer.from_pretrained(toys.bert())
    model = AutoModel.from_pretrained(toys.bert()).eval()
    for text, z in zip(PHANTOMS, got, strict=True):
        states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        assert torch.allclose(z, states.mean(0) if pool == "mean" else states[0], atol=1e-5)


def test_the_last_states_are_added_up():
    ours = tower()
    tokens = ours.tokenize(PHANTOMS)
    states = ours.bert(tokens.ids, attention_mask=tokens.mask, output_hidden_states=True).hidden_states
    assert torch.allclose(ours(tokens, layers=2), states[-1] + states[-2])
    assert torch.allclose(ours(tokens), states[-1])


def test_pieces_are_merged_to_words_by_adding_them_up():
    ours = tower()
    tokens = ours.tokenize(["a small consolidation", "normal"])
    found = ours.tokenizer.encode_batch(["a small consolidation", "normal"])
    assert found[0].tokens[:5] == ["[CLS]", "a", "small", "consol", "##idation"]
    states = torch.randn(*tokens.ids.shape, 3)
    words, counts = merge_words(states, tokens)
    assert counts.tolist() == [3, 1]
    for row, one in enumerate(found):
        bank = []
        for piece, state in zip(one.tokens, states[row], strict=True):
            if piece.startswith("##"):
                bank[-1] = bank[-1] + state
            elif not piece.startswith("["):
                bank.append(state)
        assert torch.allclose(words[row, : len(bank)], torch.stack(bank), atol=1e-6)
        assert not words[row, len(bank) :].any()


def test_an_empty_text_has_no_words_and_an_embedding():
    tokens = tower().tokenize(["", "normal"])
    words, counts = merge_words(torch.randn(2, tokens.ids.shape[1], 3), tokens)
    assert (counts.tolist(), words[0].any().item()) == ([0, 1], False)
    assert tower().embed([""])[0].isfinite().all()


def test_texts_that_are_too_long_are_cut_and_counted():
    short = tower(max_tokens=6)
    tokens = short.tokenize(["no edema", "a b c d", "a b c d e", "a b c d e f g"])
    assert tokens.num_cut == 2
    assert tokens.ids.shape == (4, 6)
    assert short.embed(["a b c d e f"])[0].equal(short.embed(["a b c d"])[0])


@pytest.mark.parametrize("max_tokens", [2, 129])
def test_more_tokens_than_the_model_has_positions_are_refused(max_tokens):
    with pytest.raises(ConfigError, match=f"max-tokens is {max_tokens}; this text model reads from 3 to 128"):
        tower(max_tokens=max_tokens)


def test_roberta_loses_positions_to_its_padding(bert):
    config = RobertaConfig(
        vocab_size=400, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
        max_position_embeddings=20, pad_token_id=1,
    )  # fmt: skip
    model = RobertaModel(config)
    made = TextTower(model, tower().tokenizer, freeze=0, pool="mean", max_tokens=18)
    assert made.embed([" ".join(["normal"] * 40)])[1] == 1
    with pytest.raises(ConfigError, match="from 3 to 18"):
        TextTower(model, tower().tokenizer, freeze=0, pool="mean", max_tokens=19)


@pytest.mark.parametrize("freeze", [0, 1, 2, -1])
def test_the_first_layers_are_frozen_with_the_embeddings(freeze):
    ours = tower(freeze=freeze)
    ours.embed(PHANTOMS)[0].square().sum().backward() if freeze not in (2, -1) else None
    for name, weight in ours.bert.named_parameters():
        layer = int(name.split(".")[2]) if name.startswith("encoder.layer.") else -1
        frozen = freeze == -1 or (freeze > 0 and layer < freeze)
        assert weight.requires_grad is not frozen, name
        assert (weight.grad is not None) is (not frozen), name


@pytest.mark.parametrize("freeze", [-2, 3])
def test_more_frozen_layers_than_there_are_are_refused(freeze):
    with pytest.raises(ConfigError, match=f"text-freeze is {freeze}; this text model has 2 layers"):
        tower(freeze=freeze)


def test_there_is_no_dropout_in_training():
    ours = tower().train()
    assert any(isinstance(module, nn.Dropout) and module.p > 0 for module in ours.modules())
    assert ours.embed(PHANTOMS)[0].equal(ours.embed(PHANTOMS)[0])


def test_the_file_of_a_run_gives_the_same_tower_back(tmp_path):
    task = nn.Module()
    task.text = tower(max_tokens=32)
    task.model = nn.Linear(2, 2)
    task.project = nn.Linear(32, 4)
    with torch.no_grad():
        for weight in task.text.parameters():
            weight += 0.1
    (tmp_path / TEXT_FILE).write_bytes(pack(task, task.text.bert, task.text.tokenizer))
    kept = safetensors.torch.load_file(tmp_path / TEXT_FILE)
    assert {name.split(".")[0] for name in kept} == {"text", "project"}
    again = tower(str(tmp_path), max_tokens=64)
    assert torch.equal(again.embed(PHANTOMS)[0], task.text.embed(PHANTOMS)[0])
    assert (again.tokenize(["normal " * 40]).num_cut, task.text.tokenize(["normal " * 40]).num_cut) == (0, 1)


def test_a_damaged_file_of_a_run_is_refused(tmp_path):
    (tmp_path / TEXT_FILE).write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="not readable"):
        tower(str(tmp_path))
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / TEXT_FILE)
    with pytest.raises(WeightsError, match="found text format None"):
        tower(str(tmp_path))


def test_folders_that_hold_no_text_model_are_refused(bert, tmp_path):
    with pytest.raises(MissingError, match="no such folder"):
        tower(str(tmp_path / "elsewhere"))
    tensors = safetensors.torch.load_file(bert / "model.safetensors")
    tensors.pop("encoder.layer.0.output.dense.weight")
    safetensors.torch.save_file(tensors, bert / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match=r"missing.*encoder.layer.0.output.dense.weight"):
        tower(str(bert))
    (bert / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="no text model can be read"):
        tower(str(bert))


def test_weights_in_a_pickle_of_tensors_are_read_and_code_is_not(bert):
    tensors = safetensors.torch.load_file(bert / "model.safetensors")
    (bert / "model.safetensors").unlink()
    torch.save(tensors, bert / "pytorch_model.bin")
    assert torch.equal(tower(str(bert)).embed(PHANTOMS)[0], tower().embed(PHANTOMS)[0])
    torch.save({"code": Exploit()}, bert / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="could run code"):
        tower(str(bert))
    assert not hasattr(sys, "exploited")


class Exploit:
    def __reduce__(self):
        return exec, ("import sys; sys.exploited = True",)


def test_code_that_comes_with_a_model_is_never_run(bert):
    config = json.loads((bert / "config.json").read_text())
    config |= {
        "model_type": "strange",
        "auto_map": {"AutoConfig": "strange.Config", "AutoModel": "strange.M"},
    }
    (bert / "config.json").write_text(json.dumps(config))
    (bert / "strange.py").write_text("import sys\nsys.exploited = True\n")
    with pytest.raises(ConfigError, match="text-model"):
        tower(str(bert))
    assert not hasattr(sys, "exploited")


def test_without_transformers_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(DependencyError, match=r'pip install "hilum\[text\]"'):
        tower()


def test_a_name_that_the_hub_cannot_give_says_so(monkeypatch):
    def offline(**_):
        raise OSError("cannot be reached\nmore lines")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", offline)
    with pytest.raises(DependencyError, match=r"no such folder here.*\(cannot be reached\)"):
        tower("someone/some-bert")


def test_a_group_is_the_mean_of_its_texts_of_unit_length():
    z = torch.tensor([[3.0, 0.0], [0.0, 5.0], [0.0, -1.0]])
    half = 0.5**0.5
    assert torch.allclose(group_means(z, [["a", "b"], ["c"]]), torch.tensor([[half, half], [0.0, -1.0]]))


@pytest.mark.skipif(not REAL.exists(), reason="the readings of shared/data are not on this machine")
def test_the_readings_of_a_hospital_are_read_to_their_end():
    with REAL.open() as file:
        readings = sorted({row["report"] for row in csv.DictReader(file)})
    embedded, num_cut = tower(max_tokens=128).embed(readings)
    assert num_cut == 0
    assert embedded.isfinite().all()
    assert len(torch.unique(embedded, dim=0)) > 0.9 * len(readings)


def test_texts_of_which_no_word_is_known_are_refused():
    tower = TextTower.open(toys.bert(), freeze=0, pool="mean", max_tokens=16)
    with pytest.raises(ConfigError, match="knows no word of 2 texts, the first of them '你好'"):
        tower.tokenize(["你好", "世界"])
    assert len(tower.tokenize(["你好", "edema"]).ids) == 2
