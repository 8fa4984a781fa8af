"""ConVIRT: a radiograph and a sentence of its text attract; all other pairs of the batch repel.

Zhang et al. 2020, https://arxiv.org/abs/2010.00747
"""

from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal

from jaxtyping import Float
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional

from hilum.config import TextConfig
from hilum.data.batch import Batch
from hilum.losses import info_nce, refuse_one
from hilum.models.encoder import Encoder
from hilum.models.passages import passages
from hilum.models.projector import projector
from hilum.models.text import TextTower, group_means
from hilum.models.text_files import TEXT_FILE, pack
from hilum.train.parallel import gather, places, world
from hilum.train.task import Task


class Settings(TextConfig):
    """Settings of ConVIRT."""

    sentences: int = 1
    """How many sentences are drawn at random, anew each epoch; 0: all."""
    text_freeze: int = 6
    """How many of its first layers are not trained, nor the embeddings before them; -1: all."""
    projection_dim: PositiveInt = 512
    """Width of the space in which radiographs and texts are compared."""
    temperature: PositiveFloat = 0.1
    """Similarities are divided by it."""
    image_weight: Annotated[float, Field(ge=0, le=1)] = 0.75
    """Lambda of equation 4: the weight of finding a radiograph's text; the rest is that of finding a text's
    radiograph. 0.5 is symmetric."""


class ConVIRT(Task):
    """An encoder trained by a weighted contrast of radiographs and texts, in both directions."""

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
        image_weight: float,
    ) -> None:
        """A projector of two layers on the encoder, and one on the text model."""
        super().__init__()
        self.model = encoder
        self.text = TextTower.open(text_model, freeze=text_freeze, pool=text_pool, max_tokens=max_tokens)
        self.project, self.project_text = (
            projector([width, width, projection_dim], norm=False)
            for width in (encoder.num_features, self.text.width)
        )
        self.section, self.sentences = section, sentences
        self.temperature, self.image_weight = temperature, image_weight

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss, how similar pairs are, and which shares of the texts were cut or lack the section."""
        refuse_one(len(batch) * world())
        chance = batch.uniforms(max(1, self.sentences)).cpu().numpy()
        read = passages(batch.texts, section=self.section, sentences=self.sentences, chance=chance)
        said, num_cut = self.text.embed(read.texts)
        v = functional.normalize(self.project(self.model(batch.views[0])).float(), dim=1)
        u = functional.normalize(self.project_text(said).float(), dim=1)
        return {
            "loss": convirt_loss(v, u, temperature=self.temperature, image_weight=self.image_weight),
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
        """The text model and the projectors."""
        return {TEXT_FILE: pack(self, self.text.bert, self.text.tokenizer)}


def convirt_loss(
    v: Float[Tensor, "B D"], u: Float[Tensor, "B D"], *, temperature: float, image_weight: float
) -> Float[Tensor, ""]:
    """Equation 4: of the radiographs v and the texts u, all of unit length, row i of both is a pair.

    With several processes the anchors are this process's and the others everybody's.
    """
    mine = places(len(v), v.device)
    images = info_nce(v, gather(u), mine, temperature=temperature)
    texts = info_nce(u, gather(v), mine, temperature=temperature)
    return image_weight * images + (1 - image_weight) * texts
