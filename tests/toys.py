"""Toy radiographs for tests: small, seeded, and learnable."""

import atexit
import functools
import shutil
import tempfile
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch

from hilum.data.batch import Batch
from hilum.data.views import View
from hilum.images.spec import InputSpec
from hilum.models.encoder import Encoder
from hilum.train.task import Task

SIDE = 32
SPEC = InputSpec(side=SIDE)
PATCHES = InputSpec(side=64)
FINDINGS = ("Edema", "Nodule")


def encoder(seed: int = 0, *, patches: bool = False) -> Encoder:
    """The smallest ResNet that timm has, or the smallest ViT: 16 patches."""
    torch.manual_seed(seed)
    return Encoder("test_vit", PATCHES) if patches else Encoder("test_resnet", SPEC)


SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


@functools.cache
def bert() -> str:
    """A folder with a random BERT of two layers that knows phantoms' words, the same in every process."""
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    from hilum.images.phantom import draw_phantom

    said = " ".join(draw_phantom(0, i, size=32).text for i in range(40)).lower()
    words = {word.strip(".,:") for word in said.split()} | {"edema", "seen", "nodule", "no"}
    # Written down, not trained: training breaks ties at random, and two processes must agree. Words of eight
    # letters and more are cut in two pieces.
    letters = sorted(set("abcdefghijklmnopqrstuvwxyz0123456789.,:;"))
    pieces = sorted({word[:6] if len(word) > 7 else word for word in words} - set(letters))
    pieces += sorted({"##" + word[6:] for word in words if len(word) > 7})
    vocabulary = list(dict.fromkeys([*SPECIAL.values(), *letters, *("##" + c for c in letters), *pieces]))
    tokenizer = Tokenizer(
        models.WordPiece({p: i for i, p in enumerate(vocabulary)}, unk_token=SPECIAL["unk"])
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(SPECIAL[name], vocabulary.index(SPECIAL[name])) for name in ("cls", "sep")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair=None, special_tokens=ends
    )
    folder = tempfile.mkdtemp(prefix="hilum-bert-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    named = {f"{name}_token": token for name, token in SPECIAL.items()}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = BertModel(config).state_dict()
    # Not `save_pretrained`: among several processes it writes in the first alone.
    save_file(weights, f"{folder}/model.safetensors", {"format": "pt"})
    config.to_json_file(f"{folder}/config.json")
    return folder


class ToyLoader:
    """Stands in for `Loader`: a step's batch is a function of the step alone."""

    def __init__(
        self,
        *,
        num_views: int = 1,
        sides: Sequence[int] = (),
        columns: Sequence[str] = (),
        batch_size: int = 16,
        num_images: int = 48,
    ) -> None:
        self.sides = tuple(sides) or (SIDE,) * num_views
        self.num_images, self.batch_size, self.columns = num_images, batch_size, columns
        random = np.random.default_rng(0)
        coarse = random.integers(40, 216, (num_images, 4, 4)).astype(np.uint8)
        self.films = coarse.repeat(SIDE // 4, 1).repeat(SIDE // 4, 2)
        self.labels = (coarse.reshape(num_images, -1)[:, : len(FINDINGS)] > 128).astype(np.float32)
        self.labels[::7, 0] = np.nan

    @classmethod
    def of(cls, task: Task) -> "ToyLoader":
        """With the views and columns that a task wants."""
        return cls(sides=task.recipe(View(), View()).sides, columns=task.columns)

    def batch(self, step: int) -> Batch:
        places = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, rows = np.divmod(places, self.num_images)
        random = np.random.default_rng(step)
        views = []
        for side in self.sides:
            noisy = self.films[rows] + random.normal(0, 12, (len(rows), SIDE, SIDE))
            rolled = np.roll(noisy, random.integers(-2, 3), axis=2).clip(0, 255).astype(np.uint8)
            if side != SIDE:
                rolled = np.stack([cv2.resize(view, (side, side)) for view in rolled])
            views.append(torch.from_numpy(rolled)[:, None])
        words = ["no edema.", "edema is seen."], ["No nodule.", "There is a nodule."]
        texts = tuple(
            " ".join(said[int(label == 1)] for said, label in zip(words, self.labels[row], strict=True))
            for row in rows
        )
        return Batch(
            tuple(views),
            torch.from_numpy(self.labels[rows]),
            torch.from_numpy(rows),
            torch.from_numpy(epochs),
            {name: torch.from_numpy(rows // 4) for name in self.columns},
            {name: torch.from_numpy(rows // 4) for name in self.columns},
            texts,
        )

    def batches(self, first_step: int, last_step: int) -> Iterator[Batch]:
        return (self.batch(step) for step in range(first_step, last_step))
