"""An encoder with a linear head: one logit per finding."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from hilum.models.encoder import Encoder


class Classifier(nn.Module):
    """Logits of findings.

    Logistic regression, a linear probe and fine-tuning are three ways to fit this one model.
    """

    encoder: Encoder
    head: nn.Linear

    def __init__(self, encoder: Encoder, findings: Sequence[str], *, exclusive: bool) -> None:
        """A head of zeros on an encoder: before training every finding is at probability one half.

        Args:
            encoder: kept as it is.
            findings: the columns of the output, in order.
            exclusive: exactly one finding is present in each radiograph (softmax); else any number (sigmoid).
        """
        super().__init__()
        self.encoder = encoder
        self.findings = tuple(findings)
        self.exclusive = exclusive
        self.head = nn.Linear(encoder.num_features, len(self.findings))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B F"]:
        """Logits, before sigmoid or softmax."""
        logits: Tensor = self.head(self.encoder(images))
        return logits

    def probabilities(self, logits: Float[Tensor, "B F"]) -> Float[Tensor, "B F"]:
        """Probabilities of logits: they sum to 1 over findings only when findings are exclusive."""
        return logits.softmax(1) if self.exclusive else logits.sigmoid()
