"""CLIP: a radiograph and its text attract; all other pairs of the batch repel, by a scale that is learnt.

Radford et al. 2021, https://arxiv.org/abs/2103.00020; on chest radiographs CheXzero,
Tiu et al. 2022, https://www.nature.com/articles/s41551-022-00936-9
"""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from hilum.config import TextConfig
from hilum.data.batch import Batch
from hilum.losses import full_precision, refuse_one
from hilum.models.encoder import Encoder
from hilum.models.passages import passages
from hilum.models.projector import projector
from hilum.models.text import TextTower, group_means
from hilum.models.text_files import TEXT_FILE, pack
from hilum.train.parallel import gather, places, world
from hilum.train.task import Task

LARGEST_SCALE = 100.0
"""Radford et al., section 2.5: beyond it training becomes unstable."""


class Settings(TextConfig):
    """Settings of CLIP."""

    projection_dim: PositiveInt = 512
    """Width of the space in which radiographs and texts are compared."""
    temperature: PositiveFloat = 0.07
    """Similarities are divided by it at first; it is learnt, and stays above 0.01."""


class CLIP(Task):
    """An encoder trained by telling which text of the batch is a radiograph's, and the reverse."""

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
        projection_dim: int,
        temperature: float,
    ) -> None:
        """A linear projection on the encoder, and one on the text model."""
        super().__init__()
        self.model = encoder
        self.text = TextTower.open(text_model, freeze=text_freeze, pool=text_pool, max_tokens=max_tokens)
        self.project = projector([encoder.num_features, projection_dim])
        self.project_text = projector([self.text.width, projection_dim])
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.section, self.sentences = section, sentences

    def before_step(self, progress: float) -> None:
        """Keeps the scale at 100 or less."""
        with torch.no_grad():
            self.log_scale.clamp_(max=math.log(LARGEST_SCALE))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss, the scale, how alike pairs are, and the shares of texts cut or without the section."""
        refuse_one(len(batch) * world())
        chance = batch.uniforms(max(1, self.sentences)).cpu().numpy()
        read = passages(batch.texts, section=self.section, sentences=self.sentences, chance=chance)
        said, num_cut = self.text.embed(read.texts)
        v = functional.normalize(self.project(self.model(batch.views[0])).float(), dim=1)
        u = functional.normalize(self.project_text(said).float(), dim=1)
        return {
            "loss": clip_loss(v, u, self.log_scale.exp()),
            "scale": self.log_scale.detach().exp(),
            "positive_similarity": (v * u).sum(1).mean().detach(),
            "cut_texts": v.new_tensor(num_cut / len(batch)),
            "lacking_section": v.new_tensor(read.lacking / len(batch)),
        }

    def scorer(self, groups: Sequence[Sequence[str]]) -> Callable[[Tensor], Tensor]:
        """From normalised images to their cosine with the mean embedding of each group of texts."""
        z = self.project_text(self.text.embed([text for group in groups for text in group])[0])
        means = group_means(z.float(), groups)
        return lambda images: functional.normalize(self.project(self.model(images)).float(), dim=1) @ means.T

    def extras(self) -> dict[str, bytes]:
        """The text model, the projections and the scale."""
        return {TEXT_FILE: pack(self, self.text.bert, self.text.tokenizer)}


@full_precision
def clip_loss(
    v: Float[Tensor, "B D"], u: Float[Tensor, "B D"], scale: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """The loss of figure 3 of Radford et al.: cross entropies over rows and over columns, averaged.

    Rows have unit length, and row i of both comes from radiograph i. With several processes the anchors are
    this process's and the others everybody's.
    """
    mine = places(len(v), v.device)
    rows = functional.cross_entropy(scale * v @ gather(u).T, mine)
    columns = functional.cross_entropy(scale * u @ gather(v).T, mine)
    return (rows + columns) / 2
