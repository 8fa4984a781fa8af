"""A text in, its embedding and those of its words out: any BERT-like model of the transformers library."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from hilum.errors import ConfigError
from hilum.models.text_files import read_text_model


@runtime_checkable
class ComparesWithTexts(Protocol):
    """A task that, once trained, can say how well a film agrees with a text."""

    def scorer(self, groups: Sequence[Sequence[str]]) -> Callable[[Tensor], Tensor]:
        """From normalised images to their similarity to each group of texts, averaged over the group."""

    def extras(self) -> Mapping[str, bytes]:
        """Files to be kept in the run beside the model, by name."""


@dataclass(frozen=True)
class Tokens:
    """Texts as a model reads them, padded to the longest."""

    ids: Int64[Tensor, "B T"]
    mask: Int64[Tensor, "B T"]
    """1 for a token, 0 for padding."""
    words: Int64[Tensor, "B T"]
    """The number of the word that a token is a piece of; -1 for special tokens and padding."""
    num_cut: int
    """How many texts were longer and have lost their end."""


class TextTower(nn.Module):
    """A BERT-like model, some of its first layers frozen, with its tokenizer.

    It runs without dropout, whose random numbers would differ between one process and two.
    """

    bert: nn.Module
    width: int
    """D, the length of a token's and of a text's embedding."""

    def __init__(
        self, bert: nn.Module, tokenizer: Any, *, freeze: int, pool: Literal["mean", "class"], max_tokens: int
    ) -> None:
        """Around a model and a tokenizer (`tokenizers.Tokenizer`) that are there already; see `open`."""
        super().__init__()
        # Trained for another task; and DistributedDataParallel refuses weights without use.
        bert.register_module("pooler", None)
        self.bert, self.tokenizer = bert.eval(), tokenizer
        self.how, self.max_tokens = pool, max_tokens
        config: Any = bert.config
        self.width = config.hidden_size
        most = _positions(bert)
        if not 3 <= max_tokens <= most:
            raise ConfigError(f"--max-tokens is {max_tokens}; this text model reads from 3 to {most}")
        self.unknown = tokenizer.token_to_id(str(getattr(tokenizer.model, "unk_token", None)))
        tokenizer.enable_truncation(max_tokens)
        tokenizer.enable_padding(pad_id=config.pad_token_id or 0)
        _freeze(bert, freeze)

    @classmethod
    def open(cls, source: str, *, freeze: int, pool: Literal["mean", "class"], max_tokens: int) -> Self:
        """The text model of a folder, of a hub, or of the run of an image-text method.

        Args:
            source: a folder that transformers wrote, a run, or a name on the hub (needs a network).
            freeze: how many of the first layers are not trained, nor the embeddings before them; -1: all.
            pool: what embeds a text: the mean over its tokens, or its first, the class token.
            max_tokens: longer texts lose their end.

        Raises:
            ConfigError: the model has fewer layers or positions, or is of an unknown kind.
            DependencyError: transformers is not installed, or the hub cannot be reached.
            MissingError: there is no such folder.
            WeightsError: the folder's weights are damaged or do not fit its config.
        """
        bert, tokenizer = read_text_model(source)
        return cls(bert, tokenizer, freeze=freeze, pool=pool, max_tokens=max_tokens)

    def train(self, mode: bool = True) -> Self:
        """Training mode, but for the model: it has no dropout then, and nothing else in it knows a mode."""
        super().train(mode)
        self.bert.eval()
        return self

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Tokens on the model's device.

        Raises:
            ConfigError: the model knows no word of any of the texts: to it they are all the same.
        """
        found = self.tokenizer.encode_batch(list(texts))
        device = next(self.bert.parameters()).device
        words = [[-1 if word is None else word for word in one.word_ids] for one in found]
        if all(self._knows_nothing(one) for one in found):
            raise ConfigError(
                f"the text model knows no word of {len(found)} texts, the first of them {texts[0][:80]!r}; "
                "its tokenizer lacks a vocabulary, or is one for another language"
            )
        return Tokens(
            torch.tensor([one.ids for one in found], device=device),
            torch.tensor([one.attention_mask for one in found], device=device),
            torch.tensor(words, device=device),
            sum(bool(one.overflowing) for one in found),
        )

    def _knows_nothing(self, one: Any) -> bool:
        ids = [token for token, word in zip(one.ids, one.word_ids, strict=True) if word is not None]
        return bool(ids) and all(token == self.unknown for token in ids)

    def forward(self, tokens: Tokens, *, layers: int = 1) -> Float[Tensor, "B T D"]:
        """The embeddings of tokens: the sum of the last `layers` hidden states."""
        out = self.bert(tokens.ids, attention_mask=tokens.mask, output_hidden_states=True)
        total: Tensor = torch.stack(out.hidden_states[-layers:]).sum(0)
        return total

    def pool(self, states: Float[Tensor, "B T D"], tokens: Tokens) -> Float[Tensor, "B D"]:
        """The embeddings of texts from those of their tokens."""
        if self.how == "class":
            return states[:, 0]
        mask = tokens.mask[..., None].to(states.dtype)
        return (states * mask).sum(1) / mask.sum(1)

    def embed(self, texts: Sequence[str]) -> tuple[Float[Tensor, "B D"], int]:
        """The embeddings of texts, and how many were cut."""
        tokens = self.tokenize(texts)
        return self.pool(self(tokens), tokens), tokens.num_cut


def merge_words(
    states: Float[Tensor, "B T D"], tokens: Tokens
) -> tuple[Float[Tensor, "B W D"], Int64[Tensor, " B"]]:
    """The embeddings of words, each the sum over its pieces, and how many words each text has."""
    counts = tokens.words.amax(1) + 1
    place = torch.arange(max(int(counts.max()), 1), device=states.device)
    member = (tokens.words[:, None] == place[:, None]).to(states.dtype)
    return member @ states, counts


def group_means(z: Float[Tensor, "T D"], groups: Sequence[Sequence[str]]) -> Float[Tensor, "G D"]:
    """The mean over each group of consecutive rows, of unit length again (Radford et al. 2021, 3.1.4)."""
    parts = torch.split(functional.normalize(z, dim=1), [len(group) for group in groups])
    return functional.normalize(torch.stack([part.mean(0) for part in parts]), dim=1)


def _positions(bert: nn.Module) -> int:
    table = next((m for n, m in bert.named_modules() if n.endswith("position_embeddings")), None)
    config: Any = bert.config
    most = int(getattr(config, "max_position_embeddings", 512))
    padding = getattr(table, "padding_idx", None)
    # RoBERTa numbers positions from the one after the padding's.
    return most - (0 if padding is None else padding + 1)


def _freeze(bert: nn.Module, count: int) -> None:
    config: Any = bert.config
    lists = (m for m in bert.modules() if isinstance(m, nn.ModuleList) and len(m) == config.num_hidden_layers)
    layers = next(lists, nn.ModuleList())
    if not -1 <= count <= len(layers):
        raise ConfigError(f"--text-freeze is {count}; this text model has {len(layers)} layers, -1 is all")
    if count == -1:
        bert.requires_grad_(False)
    elif count:
        embeddings = getattr(bert, "embeddings", None) or bert.get_input_embeddings()  # type: ignore[operator]
        for part in itertools.chain([embeddings], layers[:count]):
            part.requires_grad_(False)
