"""GLoRIA: a radiograph and its text attract, and each word of the text the regions that it attends to.

Huang et al. 2021, https://openaccess.thecvf.com/content/ICCV2021/html/Huang_GLoRIA_A_Multimodal_Global-Local_Representation_Learning_Framework_for_Label-Efficient_Medical_ICCV_2021_paper.html

The three temperatures multiply, as in the authors' code; in the paper they divide.
"""

import re
from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional

from hilum.config import TextConfig
from hilum.data.batch import Batch
from hilum.errors import ConfigError
from hilum.losses import full_precision, refuse_one
from hilum.models.encoder import Encoder
from hilum.models.passages import passages
from hilum.models.text import TextTower, merge_words
from hilum.models.text_files import TEXT_FILE, pack
from hilum.train.parallel import gather, world
from hilum.train.task import Task

LAYERS = 4
"""Last layers of the text model that are added up, as in the authors' code."""


class Settings(TextConfig):
    """Settings of GLoRIA."""

    regions: Literal["last", "before_last"] = "before_last"
    """Which of the encoder's feature maps gives the regions; the one before the last is twice as fine in a
    ResNet."""
    attention_scale: PositiveFloat = 4.0
    """How sharply a word attends to few regions."""
    word_scale: PositiveFloat = 5.0
    """How much the best matched words of a text count before the others."""
    contrast_scale: PositiveFloat = 10.0
    """Multiplies the similarities of radiographs and texts in both losses."""
    local_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the loss on words and regions."""
    global_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the loss on whole radiographs and texts."""


class GLoRIA(Task):
    """An encoder trained by a contrast of radiographs with texts, and of regions with words."""

    needs: ClassVar[frozenset[str]] = frozenset({"text"})
    model: Encoder

    def __init__(
        self,
        encoder: Encoder,
        *,
        text_model: str,
        text_freeze: int,
        text_pool: Literal["mean", "class"],
        max_tokens: int,
        section: Literal["whole", "findings", "impression"],
        sentences: int,
        regions: Literal["last", "before_last"],
        attention_scale: float,
        word_scale: float,
        contrast_scale: float,
        local_weight: float,
        global_weight: float,
    ) -> None:
        """Projects radiographs and regions to the width of the text model, which stays as it is."""
        super().__init__()
        self.model = encoder
        self.text = TextTower.open(text_model, freeze=text_freeze, pool=text_pool, max_tokens=max_tokens)
        self.which = -1 if regions == "last" else -2
        self.project = nn.Linear(encoder.num_features, self.text.width)
        self.project_regions = nn.Conv2d(_channels(encoder, self.which), self.text.width, 1, bias=False)
        self.section, self.sentences = section, sentences
        self.attention_scale, self.word_scale = attention_scale, word_scale
        self.contrast_scale = contrast_scale
        self.local_weight, self.global_weight = local_weight, global_weight

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss, its two terms, and which shares of the texts were cut or lack the section."""
        refuse_one(len(batch) * world())
        chance = batch.uniforms(max(1, self.sentences)).cpu().numpy()
        read = passages(batch.texts, section=self.section, sentences=self.sentences, chance=chance)
        u, words, real, num_cut = self._read(read.texts)
        v, regions = self._see(batch.views[0])
        whole = contrast(cosines(gather(v), gather(u)), scale=self.contrast_scale)
        # Words go to everybody: each process compares its own radiographs with all texts.
        words, real = _gather_words(words, real)
        rows = gather(self._match(regions, words, real))
        local = contrast(rows, scale=self.contrast_scale)
        return {
            "loss": self.global_weight * whole + self.local_weight * local,
            "global_loss": whole.detach(),
            "local_loss": local.detach(),
            "cut_texts": v.new_tensor(num_cut / len(batch)),
            "lacking_section": v.new_tensor(read.lacking / len(batch)),
        }

    def scorer(self, groups: Sequence[Sequence[str]]) -> Callable[[Tensor], Tensor]:
        """From normalised images to the mean of their global and local similarity to each group of texts."""
        u, words, real, _ = self._read([text for group in groups for text in group])
        sizes = [len(group) for group in groups]

        def score(images: Tensor) -> Tensor:
            v, regions = self._see(images)
            similarity = (cosines(v, u) + self._match(regions, words, real)) / 2
            return torch.stack([part.mean(1) for part in torch.split(similarity, sizes, dim=1)], 1)

        return score

    def extras(self) -> dict[str, bytes]:
        """The text model and the projections."""
        return {TEXT_FILE: pack(self, self.text.bert, self.text.tokenizer)}

    def _read(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor, int]:
        # As in the authors' code, words alone are read: no punctuation.
        tokens = self.text.tokenize([" ".join(re.findall(r"\w+", text)) for text in texts])
        states = self.text(tokens, layers=LAYERS).float()
        words, counts = merge_words(states, tokens)
        real = torch.arange(words.shape[1], device=words.device) < counts[:, None]
        return self.text.pool(states, tokens), words.float(), real, tokens.num_cut

    def _see(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = _maps(self.model, images, self.which)
        regions = self.project_regions(maps[self.which]).flatten(2).transpose(1, 2)
        return self.project(self.model.pool(maps[-1])).float(), regions.float()

    def _match(self, regions: Tensor, words: Tensor, real: Tensor) -> Tensor:
        return local_similarity(
            regions, words, real, attention_scale=self.attention_scale, word_scale=self.word_scale
        )


@full_precision
def cosines(v: Float[Tensor, "B D"], u: Float[Tensor, "T D"]) -> Float[Tensor, "B T"]:
    """The cosine of each radiograph with each text."""
    return functional.normalize(v, dim=1) @ functional.normalize(u, dim=1).T


@full_precision
def local_similarity(
    regions: Float[Tensor, "B R D"],
    words: Float[Tensor, "T W D"],
    real: Bool[Tensor, "T W"],
    *,
    attention_scale: float,
    word_scale: float,
) -> Float[Tensor, "B T"]:
    """How well the words of each text match what they attend to in each radiograph, equations 4 to 6.

    Row t of `real` says which of the W places of text t hold a word; a text without any matches nothing, 0.
    """
    s = torch.einsum("brd,twd->btwr", regions, words)
    none = ~real[None, :, :, None]
    # First over words, so that a region speaks for few, then over regions.
    shares = s.masked_fill(none, -1e9).softmax(2)
    a = (attention_scale * shares).softmax(3)
    # The length of the attended region, sum_r a_r v_r, from inner products of regions alone: that spares
    # a vector of D numbers for every word of every pair.
    gram = regions @ regions.transpose(1, 2)
    length = (torch.einsum("btwr,brq->btwq", a, gram) * a).sum(3).clamp(min=1e-12).sqrt()
    cosine = (a * s).sum(3) / (length * words.norm(dim=2).clamp(min=1e-6)).clamp(min=1e-8)
    matched = (word_scale * cosine).masked_fill(~real, -1e9).logsumexp(2)
    return torch.where(real.any(1), matched, 0.0)


@full_precision
def contrast(similarity: Float[Tensor, "B B"], *, scale: float) -> Float[Tensor, ""]:
    """Cross entropy of finding each radiograph's text, plus that of finding each text's radiograph."""
    own = torch.arange(len(similarity), device=similarity.device)
    logits = scale * similarity
    return functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)


def _gather_words(words: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    most = int(gather(torch.tensor([words.shape[1]], device=words.device)).max())
    missing = most - words.shape[1]
    everyone = gather(functional.pad(words, (0, 0, 0, missing)))
    return everyone, gather(functional.pad(real, (0, missing)).to(torch.uint8)).bool()


def _maps(encoder: Encoder, images: Tensor, which: int) -> list[Tensor]:
    maps = encoder.feature_maps(images)
    if len(maps) < -which:
        raise ConfigError(f"--arch {encoder.arch} has one feature map; GLoRIA needs --regions last with it")
    return maps


def _channels(encoder: Encoder, which: int) -> int:
    mode, side = encoder.training, encoder.input.side
    with torch.no_grad():
        found = _maps(encoder.eval(), torch.zeros(1, 1, side, side), which)[which].shape[1]
    encoder.train(mode)
    return found
