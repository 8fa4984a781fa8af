"""A radiograph in, features out: what pretraining makes and transfer keeps."""

from collections.abc import Mapping
from dataclasses import replace

import timm
from jaxtyping import Float
from torch import Tensor, nn

from hilum.errors import ConfigError
from hilum.images.spec import InputSpec
from hilum.images.warp import Fit
from hilum.models.architectures import build, shape_of
from hilum.models.pooling import Combine, Pool, Pooling, TopK, check_places


class Encoder(nn.Module):
    """Any timm backbone on one grey channel.

    Also torchvision's that timm lacks (`torchvision/squeezenet1_0`), a ViT with a convolutional stem
    (`convstem_vit_384`), and `pixels/32`, which learns nothing: the film itself at 32×32 pixels, the floor
    that every encoder has to beat.

    `forward = pool ∘ last map`, so that Grad-CAM and detectors need nothing but `feature_maps`; only the
    class token, which is in no map, is taken from `tokens`.
    """

    net: nn.Module
    num_channels: int
    """D, the channels of the last map and of a token."""
    num_features: int
    """The length of an embedding: D, or K·D where the features of K patches are concatenated."""
    strides: tuple[int, ...]
    """Input pixels per cell of each feature map."""
    pooling: Pooling
    """How the last map becomes an embedding."""
    top_k: TopK | None
    """The scorer of patches, where they are scored."""
    projection: nn.Linear | None
    """What the embedding goes through last, where weights came with one (CLIP's)."""
    notes: str
    """Licence and terms of the weights it began with."""

    def __init__(
        self,
        arch: str,
        input_spec: InputSpec,
        *,
        pretrained: bool = False,
        options: Mapping[str, str] | None = None,
        pool: Pool = "mean",
        top_k: int = 0,
        combine: Combine = "weighted",
        project: int = 0,
        norm: bool = False,
    ) -> None:
        """Builds the backbone, then what pools its last map.

        Args:
            arch: timm's name, `torchvision/` and torchvision's, or one of `hilum.models.conv_stem.PRESETS`.
            input_spec: what the encoder sees; its side fixes the position table of a ViT.
            pretrained: with the library's own weights, downloaded; their RGB stem is summed.
            options: further arguments of the backbone's constructor, as text.
            pool: see `Pooling`, also for the rest.
            top_k: patches that are taken.
            combine: how they are joined.
            project: length of a projection of the embedding; 0: none.
            norm: whether the mean goes through the network's norm for it.

        Raises:
            ConfigError: no such architecture or option, or it cannot be pooled so.
            DependencyError: the weights could not be downloaded.
        """
        super().__init__()
        self.arch = arch
        self.input = input_spec
        self.options = dict(options or {})
        self.net = build(arch, input_spec, pretrained=pretrained, options=self.options)
        self.num_channels, self.strides = shape_of(self.net)
        self.notes = ""
        self.top_k = self.projection = None
        self.set_pooling(Pooling(pool, top_k, combine, project, norm))

    def set_pooling(self, pooling: Pooling) -> None:
        """Replaces what pools the last map; a scorer of patches is a new one, unless there was one.

        Raises:
            ConfigError: there is no class token, or there are fewer places than should be taken.
        """
        if pooling.pool == "token" and not (self.has_patches and self.net.has_class_token):
            raise ConfigError(
                f"pool is token, but arch {self.arch} has no class token; choose mean or top_k, or a ViT "
                "that has one, as vit_small_patch16_224"
            )
        if pooling.norm and (pooling.pool != "mean" or not isinstance(self._norm, nn.LayerNorm)):
            raise ConfigError(f"pool is {pooling.pool}, but arch {self.arch} has no norm for that")
        before, self.top_k = self.top_k, None
        if pooling.pool == "top_k":
            side = -(-self.input.side // self.strides[-1])
            check_places(pooling.top_k, side, side)
            self.top_k = TopK(self.num_channels, k=pooling.top_k, combine=pooling.combine)
            if before is not None:
                self.top_k.load_state_dict(before.state_dict())
        self.pooling = pooling
        self.num_features = self.num_channels if self.top_k is None else self.top_k.num_features
        before_it, self.projection = self.projection, None
        if pooling.project:
            self.projection = nn.Linear(self.num_features, pooling.project, bias=False)
            if before_it is not None:
                self.projection.load_state_dict(before_it.state_dict())
            self.num_features = pooling.project

    def see(self, side: int, fit: Fit) -> None:
        """Takes views of another size or fit from here on; a ViT's positions are resampled.

        Raises:
            ConfigError: a ViT's patches cannot be resized, or do not divide the view.
        """
        if self.has_patches and side != self.input.side:
            try:
                self.net.set_input_size(img_size=(side, side))  # type: ignore[operator]
            except (AttributeError, AssertionError, TypeError) as error:
                raise ConfigError(f"arch {self.arch} cannot see {side} pixels: {error}") from None
        self.input = replace(self.input, side=side, fit=fit)

    @property
    def has_patches(self) -> bool:
        """Whether it is a ViT: a sequence of patches that pass through equal blocks."""
        return isinstance(self.net, timm.models.VisionTransformer)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each of `feature_maps`."""
        info: list[dict[str, int]] = getattr(self.net, "feature_info", [])
        return (*(stage["num_chs"] for stage in info[:-1]), self.num_channels)

    def feature_maps(self, images: Float[Tensor, "B 1 H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """One map per stride, fine to coarse; the last is what `pool` takes."""
        if not hasattr(self.net, "forward_intermediates"):
            return [self.last_map(images)]
        last, maps = self.net.forward_intermediates(images)  # type: ignore[operator]
        return [*maps[:-1], self._spatial(last, images)]

    def last_map(self, images: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B D h w"]:
        """The coarsest map alone, without the cost of keeping the others."""
        return self._spatial(self.net.forward_features(images), images)  # type: ignore[operator]

    def tokens(
        self, images: Float[Tensor, "B 1 H W"]
    ) -> tuple[Float[Tensor, "B P D"], Float[Tensor, "B N D"]]:
        """What a ViT ends with: its prefix tokens (class token first, then registers), and its patches.

        Raises:
            ConfigError: the encoder is no ViT.
        """
        if not self.has_patches:
            raise ConfigError(f"arch {self.arch} is no ViT and has no tokens; try vit_small_patch16_224")
        features: Tensor = self.net.forward_features(images)  # type: ignore[operator]
        prefix: int = self.net.num_prefix_tokens  # type: ignore[assignment]
        return features[:, :prefix], features[:, prefix:]

    def pool(self, feature_map: Float[Tensor, "B D h w"]) -> Float[Tensor, "B E"]:
        """The embedding of a last map: the mean over places, or the best-scored of them.

        Raises:
            ConfigError: the encoder pools by its class token, or the map has too few places.
        """
        if self.pooling.pool == "token":
            raise ConfigError(f"arch {self.arch} pools by its class token, which is in no map")
        pooled: Tensor = feature_map.mean((2, 3)) if self.top_k is None else self.top_k(feature_map)
        return self._projected(self._norm(pooled) if self.pooling.norm else pooled)

    def patch_scores(self, images: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B h w"]:
        """How much the scorer makes of each place of the last map; see `TopK.scores`.

        Raises:
            ConfigError: the encoder does not pool by scores.
        """
        if self.top_k is None:
            raise ConfigError(
                f"this encoder pools by {self.pooling.pool} and scores no patches; train with --pool top_k"
            )
        return self.top_k.scores(self.last_map(images))

    def forward(self, images: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B E"]:
        """Embeddings of normalised images."""
        if self.pooling.pool == "token":
            return self._projected(self.tokens(images)[0][:, 0])
        return self.pool(self.last_map(images))

    @property
    def _norm(self) -> nn.Module:
        found = getattr(self.net, "fc_norm", None)
        return found if isinstance(found, nn.Module) else nn.Identity()

    def _projected(self, embedding: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        return embedding if self.projection is None else self.projection(embedding)

    def _spatial(self, features: Tensor, images: Tensor) -> Tensor:
        if features.ndim == 4:
            # Swin and its like end with the channels last.
            return features if features.shape[1] == self.num_channels else features.permute(0, 3, 1, 2)
        height, width = images.shape[2] // self.strides[-1], images.shape[3] // self.strides[-1]
        patches = features[:, features.shape[1] - height * width :]  # class and register tokens come first
        return patches.transpose(1, 2).reshape(len(images), -1, height, width)


def sum_stem(weights: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights for grey images from weights for RGB: the first convolution summed over colours.

    Exact for an image whose three channels are equal and normalised by one mean and one deviation.
    """
    summed = dict(weights)
    for name, target in like.items():
        found = weights.get(name)
        if (
            found is not None
            and found.ndim == 4
            and target.ndim == 4
            and found.shape[1] == 3
            and target.shape[1] == 1
        ):
            summed[name] = found.sum(1, keepdim=True)
    return summed
