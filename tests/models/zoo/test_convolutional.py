"""Checkpoints of convolutional families, made here with the exact layout of the published ones.

Each embedding is compared with that of torchvision's own network, or of a slow one written out here, on three
equal channels.
"""

import argparse
import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from hilum.errors import ConfigError, WeightsError
from hilum.images.spec import InputSpec
from hilum.models.encoder import Encoder
from hilum.models.foreign import ForeignFile, read_foreign
from hilum.models.recognise import families, open_foreign

SETTINGS = InputSpec(side=96, fit="squash", mean=0.4, std=0.3)
COLOUR = {"colour_mean": (0.485, 0.456, 0.406), "colour_std": (0.229, 0.224, 0.225)}
OF_224 = {"side": 224, "mean": 0.0, "std": 1.0}
TWO = torch.zeros(2)


def colour(film: Tensor) -> Tensor:
    """ImageNet's normalisation of three equal channels."""
    mean, std = (torch.tensor(COLOUR[name]).view(1, 3, 1, 1) for name in ("colour_mean", "colour_std"))
    return (film.expand(-1, 3, -1, -1) - mean) / std


def grey(mean: float, std: float) -> Callable[[Tensor], Tensor]:
    return lambda film: ((film - mean) / std).expand(-1, 3, -1, -1)


def settled(net: nn.Module) -> nn.Module:
    """With norms that are no identity, so that a swapped one is seen."""
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.7, 1.3)
            nn.init.normal_(layer.bias, std=0.1)
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.7, 1.3)
    return net.eval()


@cache
def resnet(name: str = "resnet18", *, channels: int = 3, classes: int = 1000) -> nn.Module:
    torch.manual_seed(len(name) + channels)
    net = torchvision.models.get_model(name, num_classes=classes)
    if channels == 1:
        net.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    return settled(net)


@cache
def densenet(name: str = "densenet121", *, channels: int = 3, classes: int = 14) -> nn.Module:
    torch.manual_seed(channels + classes)
    net = torchvision.models.get_model(name, num_classes=classes)
    if channels == 1:
        net.features.conv0 = nn.Conv2d(1, net.features.conv0.out_channels, 7, stride=2, padding=3, bias=False)
    return settled(net)


def pooled(net: nn.Module, images: Tensor) -> Tensor:
    """The embedding before torchvision's classifier."""
    net = copy.copy(net)
    net._modules = {**net._modules}
    for head in ("fc", "classifier"):
        if head in net._modules:
            net._modules[head] = nn.Identity()
    return net(images)


def leaky(state: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """DenseNet-121 with LeakyReLU(0.1), written out."""

    def normed(x: Tensor, at: str) -> Tensor:
        parts = (state[f"{at}.{what}"] for what in ("running_mean", "running_var", "weight", "bias"))
        return functional.leaky_relu(functional.batch_norm(x, *parts), 0.1)

    x = functional.conv2d(images, state["features.conv0.weight"], stride=2, padding=3)
    x = functional.max_pool2d(normed(x, "features.norm0"), 3, 2, 1)
    for block, depth in enumerate((6, 12, 24, 16), 1):
        for layer in range(1, depth + 1):
            at = f"features.denseblock{block}.denselayer{layer}"
            new = functional.conv2d(normed(x, f"{at}.norm1"), state[f"{at}.conv1.weight"])
            new = functional.conv2d(normed(new, f"{at}.norm2"), state[f"{at}.conv2.weight"], padding=1)
            x = torch.cat([x, new], 1)
        if block < 4:
            at = f"features.transition{block}"
            x = functional.avg_pool2d(
                functional.conv2d(normed(x, f"{at}.norm"), state[f"{at}.conv.weight"]), 2
            )
    return normed(x, "features.norm5").mean((2, 3))


class SeBlock(nn.Module):
    """SE-ResNeXt's, by the names of Cadene's pretrainedmodels."""

    def __init__(self, before: int, planes: int, stride: int) -> None:
        super().__init__()
        width, after = planes * 2, planes * 4
        self.conv1, self.bn1 = nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=32, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, after, 1, bias=False), nn.BatchNorm2d(after)
        self.se_module = nn.Module()
        self.se_module.fc1 = nn.Conv2d(after, after // 16, 1)
        self.se_module.fc2 = nn.Conv2d(after // 16, after, 1)
        if stride > 1 or before != after:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv1(x)).relu()
        out = self.bn3(self.conv3(self.bn2(self.conv2(out)).relu()))
        scale = self.se_module.fc2(self.se_module.fc1(out.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return (scale * out + (self.downsample(x) if hasattr(self, "downsample") else x)).relu()


@cache
def se_resnext50() -> nn.Module:
    torch.manual_seed(50)
    stem = {"conv1": nn.Conv2d(3, 64, 7, 2, 3, bias=False), "bn1": nn.BatchNorm2d(64), "relu1": nn.ReLU()}
    pool = {"pool": nn.MaxPool2d(3, stride=2, ceil_mode=True)}
    net = {"layer0": nn.Sequential(OrderedDict(stem | pool))}
    before = 64
    for stage, (planes, depth) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
        blocks = []
        for block in range(depth):
            blocks.append(SeBlock(before, planes, 2 if stage > 1 and block == 0 else 1))
            before = planes * 4
        net[f"layer{stage}"] = nn.Sequential(*blocks)
    return settled(nn.Sequential(OrderedDict(net)))


@cache
def vit() -> nn.Module:
    """A small ViT of torchvision, with 16-pixel patches."""
    torch.manual_seed(16)
    net = torchvision.models.VisionTransformer(224, 16, 12, 3, 192, 768)
    net.heads = nn.Identity()
    for parameter in net.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, mean=float(parameter.detach()[0]), std=0.1)
    return net.eval()


def by_timm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same ViT by timm's names."""
    words = {
        "encoder.layers.encoder_layer_": "blocks.", "class_token": "cls_token", "encoder.ln.": "norm.",
        "conv_proj": "patch_embed.proj", "encoder.pos_embedding": "pos_embed", "ln_1": "norm1",
        "self_attention.in_proj_": "attn.qkv.", "self_attention.out_proj": "attn.proj", "mlp.0": "mlp.fc1",
        "mlp.3": "mlp.fc2", "ln_2": "norm2",
    }  # fmt: skip
    out = {}
    for name, tensor in tensors.items():
        for old, new in words.items():
            name = name.replace(old, new)
        out[name] = tensor
    return out


class Hybrid(nn.Module):
    """The ViT on three convolutions, as its authors wrote it."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        places, stem = (side // 8) ** 2 + 1, []
        for before, after in ((3, width // 2), (width // 2, width), (width, width)):
            stem += [nn.Conv2d(before, after, 3, 2, 1), nn.ReLU()]
        layer = nn.TransformerEncoderLayer(width, 6, 4 * width, 0.1, batch_first=True)
        self.patch_embed, self.pos_encoding, self.transformer = nn.Module(), nn.Module(), nn.Module()
        self.patch_embed.proj = nn.Sequential(*stem)
        self.pos_encoding.pos_embed = nn.Parameter(0.1 * torch.randn(1, places, width))
        self.pos_encoding.cls_token = nn.Parameter(0.1 * torch.randn(1, 1, width))
        self.transformer.encoder = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patch_embed.proj(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.pos_encoding.cls_token.expand(len(images), -1, -1), patches], 1)
        return self.transformer.encoder(tokens + self.pos_encoding.pos_embed)[:, 0]


@cache
def hybrid() -> nn.Module:
    torch.manual_seed(8)
    return Hybrid(192, 64).eval()


@cache
def torchvisions(name: str) -> nn.Module:
    torch.manual_seed(1)
    net = torchvision.models.get_model(name)
    for parameter_name, parameter in net.named_parameters():
        if parameter_name.endswith("layer_scale"):
            nn.init.uniform_(parameter, 0.2, 0.4)
    return settled(net)


@cache
def timms(name: str) -> nn.Module:
    """A network of timm, no scale or offset of which is an identity."""
    torch.manual_seed(2)
    net = timm.create_model(name, num_classes=3)
    for parameter in net.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, mean=float(parameter.detach()[0]), std=0.1)
    return settled(net)


class Detector(nn.Module):
    """What is around the encoder in a detector of kaggle-rsna."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.fpn, self.regressionModel = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.globalClassificationModel = nn.Linear(8, 3)
        self.encoder = encoder


def at(prefix: str, tensors: Mapping[str, Tensor], *without: str) -> dict[str, Tensor]:
    return {prefix + n: t for n, t in tensors.items() if not n.startswith(without or ("-",))}


def nothing(*names: str) -> dict[str, Tensor]:
    return dict.fromkeys(names, TWO)


class Config:
    """Stands for OmegaConf: a class that is not imported when a file is read."""


@dataclass(frozen=True)
class Case:
    """A file, and what must become of it."""

    family: str
    content: Callable[[], Any]
    arch: str
    spec: InputSpec | None
    left: Mapping[str, int]
    embed: Callable[[Tensor], Tensor]
    num_features: int = 512
    told: bool = False
    """The family must be named; nothing in the file tells it."""
    generic: bool = False
    legacy: bool = False
    lost: str = "layer2.0.bn1.weight"
    """The end of the name of a tensor that the encoder needs."""
    film: int = 64
    """Pixels of the side; a ViT needs its own."""


def flat(name: str = "resnet18") -> Callable[[], Any]:
    return lambda: dict(resnet(name).state_dict())


def convirt() -> Any:
    return {
        "image_encoder": at("", resnet().state_dict(), "fc."),
        "text_encoder": nothing("embeddings.word_embeddings.weight", "encoder.layer.0.output.dense.weight"),
        "image_proj": nothing("0.weight", "0.bias", "3.weight"),
        "text_proj": nothing("0.weight", "0.bias"),
        "config": Config(),
    }


def gloria(prefix: str = "gloria.") -> Any:
    states = at(f"{prefix}img_encoder.model.", resnet().state_dict(), "fc.")
    states |= nothing(
        *(f"{prefix}img_encoder.{n}" for n in ("global_embedder.weight", "global_embedder.bias")),
        f"{prefix}img_encoder.local_embedder.weight",
        f"{prefix}text_encoder.model.embeddings.word_embeddings.weight",
    )
    return {
        "epoch": 3, "global_step": 7, "state_dict": states, "hyper_parameters": Config(),
        "optimizer_states": [{"state": {0: {"exp_avg": TWO}}}],
    }  # fmt: skip


def s2mts2() -> Any:
    net = densenet()
    states = at("encoder_q.", net.state_dict(), "classifier")
    states |= nothing("encoder_q.classifier.weight", "encoder_q.classifier.bias")
    states |= nothing(*(f"encoder_q.classifier_group.{n}" for n in ("0.weight", "0.bias", "2.weight")))
    states |= nothing("encoder_k.features.conv0.weight", "queue", "queue_ptr")
    return {"epoch": 20, "arch": "densenet121", "state_dict": states}


def supcontrast(encoder: str, head: str, *, net: nn.Module | None = None, **opt: Any) -> Callable[[], Any]:
    def content() -> Any:
        states = at(encoder, (net or resnet()).state_dict(), "fc.") | nothing(
            f"{head}.weight", f"{head}.bias"
        )
        return {
            "opt": argparse.Namespace(model="resnet18", temp=0.07, **opt), "model": states,
            "optimizer": {"state": {0: {"momentum_buffer": TWO}}, "param_groups": []}, "epoch": 100,
        }  # fmt: skip

    return content


def lovt() -> Any:
    encoder = "model_a.encoder.feature_extractor.backbone_layers."
    states = at(encoder, resnet().state_dict(), "fc.")
    states |= nothing("model_a.project_local.0.weight", "model_b.encoder.transformer.embeddings.weight")
    states |= nothing("ll_attention.q.weight", "model_b.project_global.0.weight")
    return {"state_dict": states, "hyper_parameters": {"config": Config()}, "epoch": 1}


def barlow_covid() -> Any:
    states = at("backbone.net.", resnet(channels=1).state_dict())
    return states | nothing(
        "projector.0.weight", "projector.1.weight", "projector.3.weight", "bn.running_mean", "bn.running_var"
    )


def barlow_twins() -> Any:
    states = at("module.backbone.", resnet().state_dict(), "fc.")
    states |= nothing("module.projector.0.weight", "module.projector.1.weight", "module.bn.running_mean")
    return {"epoch": 9, "model": states, "optimizer": {"state": {0: {"mu": TWO}}, "param_groups": []}}


def chexnet() -> Any:
    names = {}
    for name, tensor in densenet().state_dict().items():
        if not name.endswith("num_batches_tracked"):
            old = name.replace("classifier", "classifier.0")
            if "denselayer" in old:
                for part in ("norm1", "norm2", "conv1", "conv2"):
                    old = old.replace(f".{part}.", f".{part[:-1]}.{part[-1]}.")
            names[f"module.densenet121.{old}"] = tensor
    return {"epoch": 5, "state_dict": names, "best_loss": 0.1, "optimizer": {"state": {}}}


def mgca(net: Mapping[str, Tensor]) -> Any:
    states = at("img_encoder_q.model.", net, "fc.")
    states |= nothing("img_encoder_q.global_embed.head.0.weight", "img_encoder_q.local_embed.head.0.weight")
    states |= nothing("text_encoder_q.model.embeddings.word_embeddings.weight", "prototype_layer.weight")
    states |= nothing("patch_local_atten_layer.in_proj_weight")
    return {"epoch": 3, "state_dict": states, "hyper_parameters": {"img_encoder": "vit_base"}}


def medklip() -> Any:
    children = nn.Sequential(*list(resnet().children())[:-3])
    states = at("module.res_features.", children.state_dict())
    states |= nothing("module.res_l1.weight", "module.res_l1.bias", "module.res_l2.weight")
    states |= nothing(
        "module.decoder.layers.0.linear1.weight", "module.classifier.weight", "module.cl_fc.bias"
    )
    return {"model": states, "optimizer": {"state": {}}, "config": {"d_model": 256}, "epoch": 40}


def moco_004_periodic() -> Any:
    states = at("encoder_q.", resnet().state_dict(), "fc.") | at("mlp_q.", nothing("0.weight", "3.bias"))
    states |= nothing("encoder_k.conv1.weight", "mlp_k.0.weight", "queue", "queue_ptr")
    return {"model_state": states, "opt_state": {"state": {0: {"momentum_buffer": TWO}}}, "epoch": 10}


def moco_004_hybrid() -> Any:
    states = {name: part.state_dict() for name, part in hybrid().named_children()}
    return states | {"proj_head": nothing("0.weight", "0.bias", "2.weight"), "embedding_dim": 192}


def moco_004_hybrid_periodic() -> Any:
    states = dict(hybrid().state_dict()) | nothing("proj_head.0.weight", "queue", "queue_ptr")
    states |= nothing("patch_embed_k.proj.0.weight", "pos_encoding_k.pos_embed", "proj_head_k.0.weight")
    return {"model_state": states, "opt_state": {"state": {}}, "epoch": 5}


def moco_cxr(net: nn.Module, module: str = "module.") -> dict[str, Tensor]:
    states = at(f"{module}encoder_q.", net.state_dict(), "fc.", "classifier.")
    heads = ("fc.0.weight", "fc.2.bias") if "conv1.weight" in net.state_dict() else ("classifier.2.weight",)
    states |= nothing(*(f"{module}encoder_q.{head}" for head in heads))
    states |= at(f"{module}encoder_k.", nothing("conv1.weight", "bn1.weight"))
    return states | nothing(f"{module}queue", f"{module}queue_ptr")


def moco_cxr_tuned(net: nn.Module) -> Any:
    states = at("module.model.", net.state_dict(), "fc.") | nothing("module.fc.weight", "module.fc.bias")
    return {
        "ckpt_info": {"epoch": 1}, "model_name": "ResNet18", "model_state": states, "lr_scheduler": None,
        "optimizer": {"state": {0: {"exp_avg": TWO}}},
    }  # fmt: skip


def kaggle_nih() -> Any:
    return at("encoder.", se_resnext50().state_dict()) | nothing("fc15.weight", "fc15.bias")


def lightly() -> Any:
    children = nn.Sequential(*list(resnet().children())[:-1])
    states = at("backbone.", children.state_dict()) | nothing("projection_head.layers.0.weight")
    return {"state_dict": states | nothing("backbone_momentum.0.weight"), "epoch": 1}


def solo_learn() -> Any:
    states = at("backbone.", resnet().state_dict(), "fc.") | nothing(
        "classifier.weight", "projector.0.weight"
    )
    return {"state_dict": states | at("momentum_backbone.", resnet().state_dict(), "fc."), "epoch": 1}


def vissl() -> Any:
    trunk = at("_feature_blocks.", resnet().state_dict(), "fc.")
    model = {"trunk": trunk, "heads": nothing("0.clf.0.weight", "0.clf.0.bias")}
    return {"classy_state_dict": {"base_model": {"model": model}}, "iteration": 100}


PAD_IMAGENET = InputSpec(**OF_224, fit="pad", **COLOUR)
CROP_IMAGENET = InputSpec(**OF_224, fit="crop", crop=0.875, **COLOUR)
GLORIA = InputSpec(side=224, fit="pad", mean=0.5, std=0.5, crop=0.875, upsample=299)
LOVT = InputSpec(side=224, fit="pad", mean=0.48988, std=0.24818)
XRV = InputSpec(side=224, fit="crop", mean=0.5, std=1 / 2048)


MOCO_CXR = InputSpec(side=320, fit="crop", mean=0.502, std=0.085585)


def large(film: Tensor) -> Tensor:
    images = (film.expand(-1, 3, -1, -1) - 0.5) / 0.5
    return functional.interpolate(images, size=(299, 299), mode="bilinear", align_corners=True)


def of_resnet(prepare: Callable[[Tensor], Tensor], **which: Any) -> Callable[[Tensor], Tensor]:
    return lambda film: pooled(resnet(**which), prepare(film))


CASES = {
    "convirt": Case(
        "convirt", convirt, "resnet18", PAD_IMAGENET, {"text encoder": 2, "projection heads": 5},
        of_resnet(colour),
    ),
    "convirt, flat": Case(
        "convirt", flat(), "resnet18", PAD_IMAGENET, {"head": 2}, of_resnet(colour), told=True
    ),
    "gloria": Case(
        "gloria", gloria, "resnet18", GLORIA, {"optimizer": 1, "text encoder": 1, "embedders": 3},
        of_resnet(large),
    ),
    "gloria, in another module": Case(
        "gloria", lambda: gloria("gloria.gloria."), "resnet18", GLORIA,
        {"optimizer": 1, "text encoder": 1, "embedders": 3}, of_resnet(large),
    ),
    "gloria, its classifier": Case(
        "gloria", lambda: gloria("model."), "resnet18", GLORIA,
        {"optimizer": 1, "text encoder": 1, "embedders": 3}, of_resnet(large),
    ),
    "s2mts2": Case(
        "s2mts2", s2mts2, "densenet121_leaky", InputSpec(**OF_224, fit="crop", **COLOUR),
        {"heads": 5, "momentum encoder": 1, "queue": 2},
        lambda film: leaky(densenet().state_dict(), colour(film)), 1024, lost="denselayer3.conv1.weight",
    ),
    "supcon": Case(
        "supcontrast", supcontrast("encoder.", "head.0"), "resnet18", LOVT, {"optimizer": 1, "head": 2},
        of_resnet(grey(0.48988, 0.24818)),
    ),
    "supcon on several GPUs": Case(
        "supcontrast", supcontrast("encoder.module.", "head.2", mean="(0.4, 0.4, 0.4)", std="(0.2, 0.2, 0.2)",
                                   size=128),
        "resnet18", InputSpec(side=128, fit="pad", mean=0.4, std=0.2), {"optimizer": 1, "head": 2},
        of_resnet(grey(0.4, 0.2)),
    ),
    "supce on several GPUs": Case(
        "supcontrast", supcontrast("module.encoder.", "module.fc", mean="(0.485, 0.456, 0.406)",
                                   std="(0.229, 0.224, 0.225)", size=224),
        "resnet18", PAD_IMAGENET, {"optimizer": 1, "head": 2}, of_resnet(colour),
    ),
    "lovt": Case(
        "lovt", lovt, "resnet18", LOVT, {"projections": 2, "text encoder": 1, "attention and losses": 1},
        of_resnet(grey(0.48988, 0.24818)),
    ),
    "lovt, flat": Case(
        "lovt", flat(), "resnet18", LOVT, {"head": 2}, of_resnet(grey(0.48988, 0.24818)), told=True
    ),
    "barlow_covid": Case(
        "barlow_covid", barlow_covid, "resnet18", InputSpec(**OF_224, fit="crop"),
        {"head": 2, "projector": 5}, of_resnet(lambda film: film, channels=1),
    ),
    "barlow_twins": Case(
        "barlow_twins", barlow_twins, "resnet18", CROP_IMAGENET, {"optimizer": 1, "projector": 3},
        of_resnet(colour),
    ),
    "barlow_twins, flat": Case(
        "barlow_twins", flat(), "resnet18", CROP_IMAGENET, {"head": 2}, of_resnet(colour), told=True,
    ),
    "torchxrayvision, state": Case(
        "torchxrayvision",
        lambda: {**densenet(channels=1, classes=18).state_dict(), "op_threshs": torch.zeros(18)},
        "densenet121", XRV, {"head": 2, "thresholds": 1},
        lambda film: pooled(densenet(channels=1, classes=18), (2 * film - 1) * 1024), 1024,
        lost="denselayer3.conv1.weight",
    ),
    "torchxrayvision, whole module": Case(
        "torchxrayvision", lambda: densenet(channels=1, classes=18), "densenet121", XRV, {"head": 2},
        lambda film: pooled(densenet(channels=1, classes=18), (2 * film - 1) * 1024), 1024,
        legacy=True, lost="",
    ),
    "torchxrayvision, resnet": Case(
        "torchxrayvision", lambda: dict(resnet(channels=1, classes=18).state_dict()), "resnet18",
        InputSpec(side=512, fit="crop", mean=0.5, std=1 / 2048), {"head": 2},
        of_resnet(lambda film: (2 * film - 1) * 1024, channels=1, classes=18),
    ),
    "moco_004": Case(
        "moco_004", lambda: {"encoder_q_state": at("", resnet().state_dict(), "fc."),
                             "mlp_q_state": nothing("0.weight", "3.weight")},
        "resnet18", CROP_IMAGENET, {"projection head": 2}, of_resnet(colour),
    ),
    "moco_004, while it trained": Case(
        "moco_004", moco_004_periodic, "resnet18", CROP_IMAGENET,
        {"optimizer": 1, "momentum encoder": 2, "queue": 2, "projection head": 2}, of_resnet(colour),
    ),
    "moco_004, ViT of torchvision": Case(
        "moco_004", lambda: {"encoder_q_state": dict(vit().state_dict()), "mlp_q_state": nothing("0.weight")},
        "vit_tiny_patch16_224", CROP_IMAGENET, {"projection head": 1}, lambda film: vit()(colour(film)), 192,
        lost="encoder_layer_3.ln_1.weight", film=224,
    ),
    "moco_004, ViT of timm": Case(
        "moco_004", lambda: {"encoder_q": by_timm(vit().state_dict()), "mlp_q": nothing("0.weight"),
                             "embed_dim": 192},
        "vit_tiny_patch16_224", CROP_IMAGENET, {"projection head": 1}, lambda film: vit()(colour(film)), 192,
        lost="blocks.3.norm1.weight", film=224,
    ),
    "moco_004_hybrid": Case(
        "moco_004_hybrid", moco_004_hybrid, "convstem_vit_192_original",
        InputSpec(side=64, fit="crop", mean=0.0, std=1.0, crop=0.875, **COLOUR), {"projection head": 3},
        lambda film: hybrid()(colour(film)), 192, lost="layers.3.linear1.weight",
    ),
    "moco_004_hybrid, while it trained": Case(
        "moco_004_hybrid", moco_004_hybrid_periodic, "convstem_vit_192_original",
        InputSpec(side=64, fit="crop", mean=0.0, std=1.0, crop=0.875, **COLOUR),
        {"momentum encoder": 3, "queue": 2, "projection head": 1},
        lambda film: hybrid()(colour(film)), 192, lost="layers.3.linear1.weight",
    ),
    "mgca": Case(
        "mgca", lambda: mgca(resnet().state_dict()), "resnet18", GLORIA,
        {"embedders": 2, "text encoder": 1, "prototypes and attention": 2}, of_resnet(large),
    ),
    "mgca, ViT": Case(
        "mgca", lambda: mgca(by_timm(vit().state_dict())), "vit_tiny_patch16_224",
        InputSpec(side=224, fit="pad", mean=0.5, std=0.5, crop=0.875),
        {"embedders": 2, "text encoder": 1, "prototypes and attention": 2},
        lambda film: vit()(grey(0.5, 0.5)(film)), 192, lost="blocks.3.norm1.weight", film=224,
    ),
    "medklip": Case(
        "medklip", medklip, "resnet18_to_layer3", InputSpec(**OF_224, fit="squash", **COLOUR),
        {"heads": 5, "decoder": 1},
        lambda film: nn.Sequential(*list(resnet().children())[:-3])(colour(film)).mean((2, 3)), 256,
        lost="res_features.5.0.bn1.weight",
    ),
    "kaggle_nih": Case(
        "kaggle_nih", kaggle_nih, "legacy_seresnext50_32x4d",
        InputSpec(side=512, fit="squash", mean=0.0, std=1.0), {"head": 2},
        lambda film: se_resnext50()(film.expand(-1, 3, -1, -1)).mean((2, 3)), 2048,
    ),
    "kaggle_nih, a detector's whole module": Case(
        "kaggle_nih", lambda: nn.DataParallel(Detector(se_resnext50())), "legacy_seresnext50_32x4d",
        InputSpec(side=512, fit="squash", mean=0.0, std=1.0), {"detector": 6},
        lambda film: se_resnext50()(film.expand(-1, 3, -1, -1)).mean((2, 3)), 2048, legacy=True, lost="",
    ),
    "moco_cxr": Case(
        "moco_cxr", lambda: {"epoch": 20, "arch": "resnet18", "state_dict": moco_cxr(resnet()),
                             "optimizer": {"state": {0: {"exp_avg": TWO}}}},
        "resnet18", MOCO_CXR, {"projection head": 2, "momentum encoder": 2, "queue": 2, "optimizer": 1},
        of_resnet(grey(0.502, 0.085585)),
    ),
    "moco_cxr, DenseNet": Case(
        "moco_cxr", lambda: {"arch": "densenet121", "state_dict": moco_cxr(densenet())}, "densenet121",
        MOCO_CXR, {"projection head": 1, "momentum encoder": 2, "queue": 2},
        lambda film: pooled(densenet(), grey(0.502, 0.085585)(film)), 1024, lost="denselayer3.conv1.weight",
    ),
    "moco_cxr, saved again": Case(
        "moco_cxr", lambda: moco_cxr(resnet(), ""), "resnet18", MOCO_CXR,
        {"projection head": 2, "momentum encoder": 2, "queue": 2}, of_resnet(grey(0.502, 0.085585)),
    ),
    "moco_cxr, fine-tuned": Case(
        "moco_cxr", lambda: moco_cxr_tuned(resnet()), "resnet18",
        InputSpec(side=320, fit="crop", mean=0.0, std=1.0, **COLOUR), {"optimizer": 1, "head": 2},
        of_resnet(colour),
    ),
    "resnext": Case(
        "torchvision_resnet", flat("resnext50_32x4d"), "resnext50_32x4d", None, {"head": 2},
        lambda film: pooled(resnet("resnext50_32x4d"), grey(0.4, 0.3)(film)), 2048, generic=True,
    ),
    "timm_convnext": Case(
        "timm_convnext", lambda: {"state_dict": at("model.", timms("convnextv2_atto").state_dict())},
        "convnextv2_atto", None, {"head": 2},
        lambda film: timms("convnextv2_atto").forward_features(grey(0.4, 0.3)(film)).mean((2, 3)), 320,
        generic=True, lost="stages.2.blocks.3.mlp.grn.weight",
    ),
    "timm_efficientnet": Case(
        "timm_efficientnet", lambda: dict(timms("tf_efficientnetv2_b0").state_dict()), "tf_efficientnetv2_b0",
        None, {"head": 2},
        lambda film: timms("tf_efficientnetv2_b0").forward_features(grey(0.4, 0.3)(film)).mean((2, 3)), 1280,
        generic=True, lost="",
    ),
    "lightly": Case(
        "lightly", lightly, "resnet18", None, {"heads": 1, "momentum encoder": 1}, of_resnet(grey(0.4, 0.3)),
        lost="backbone.5.0.bn1.weight",
    ),
    "solo_learn": Case(
        "solo_learn", solo_learn, "resnet18", None, {"heads": 2, "momentum encoder": 120},
        of_resnet(grey(0.4, 0.3)), generic=True, lost="",
    ),
    "vissl": Case("vissl", vissl, "resnet18", None, {"heads": 2}, of_resnet(grey(0.4, 0.3))),
    "torchvision_densenet": Case(
        "torchvision_densenet", lambda: {"state_dict": at("module.", densenet().state_dict())}, "densenet121",
        None, {"head": 2}, lambda film: pooled(densenet(), grey(0.4, 0.3)(film)), 1024, generic=True,
        lost="denselayer3.conv1.weight",
    ),
    "torchvision_convnext": Case(
        "torchvision_convnext", lambda: dict(torchvisions("convnext_tiny").state_dict()), "convnext_tiny",
        None, {"head": 2},
        lambda film: torchvisions("convnext_tiny").features(grey(0.4, 0.3)(film)).mean((2, 3)), 768,
        generic=True, lost="features.5.2.block.3.weight",
    ),
    "torchvision_efficientnet": Case(
        "torchvision_efficientnet", lambda: dict(torchvisions("efficientnet_b0").state_dict()),
        "efficientnet_b0", None, {"head": 2},
        lambda film: torchvisions("efficientnet_b0").features(grey(0.4, 0.3)(film)).mean((2, 3)), 1280,
        generic=True, lost="features.3.0.block.1.0.weight",
    ),
    "chexnet": Case(
        "chexnet", chexnet, "densenet121", CROP_IMAGENET, {"head": 2},
        lambda film: pooled(densenet(), colour(film)), 1024, legacy=True, lost="denselayer3.conv.1.weight",
    ),
}  # fmt: skip


def saved(case: Case, path: Path, *, lost: str = "") -> Path:
    content = case.content()
    if lost:
        content, count = without(content, lost)
        assert count
    torch.save(content, path, _use_new_zipfile_serialization=not case.legacy)
    return path


def without(content: Any, lost: str) -> tuple[Any, int]:
    """The same without one tensor."""
    if not isinstance(content, Mapping):
        return content, 0
    kept, count = {}, 0
    for name, value in content.items():
        if not count and isinstance(value, Tensor) and name.endswith(lost):
            count += 1
        elif not count:
            kept[name], count = without(value, lost)
        else:
            kept[name] = value
    return kept, count


def opened(case: Case, path: Path) -> Any:
    return open_foreign(path, family=case.family if case.told else "", arch="resnet34", input_spec=SETTINGS)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The file of a case, written once."""
    folder = tmp_path_factory.mktemp("files")

    @cache
    def file(name: str) -> Path:
        return saved(CASES[name], folder / f"{list(CASES).index(name)}.pth")

    return file


@pytest.mark.parametrize("name", CASES)
def test_a_published_layout_becomes_the_network_that_it_was(name: str, files: Callable[[str], Path]) -> None:
    case = CASES[name]
    encoder, loaded = opened(case, files(name))
    assert (loaded.family, loaded.plan.arch) == (case.family, case.arch)
    assert encoder.num_features == case.num_features
    spec = case.spec or SETTINGS
    assert loaded.input == spec
    assert dict(loaded.left) == dict(case.left)
    assert loaded.matched == len(encoder.net.state_dict())
    assert loaded.unexpected == ()
    film = torch.rand(2, 1, case.film, case.film, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, expected = encoder((film - spec.mean) / spec.std), case.embed(film)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_no_file_is_known_to_two_families(name: str, files: Callable[[str], Path]) -> None:
    case = CASES[name]
    file = read_foreign(files(name))
    known = [one for one, about in families().items() if not about.generic and about.share(file) == 1]
    assert known == ([] if case.told or case.generic else [case.family])


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.lost])
def test_a_file_that_lacks_a_tensor_is_refused_with_a_count(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    path = saved(case, tmp_path / "weights.pth", lost=case.lost)
    with pytest.raises(WeightsError, match=r"\d+ of \d+ tensors of .* fit; .* is missing"):
        opened(case, path)


@pytest.mark.parametrize("family", ["supcontrast", "solo_learn", ""])
def test_a_resnet_for_images_of_32_pixels_is_refused(family: str, tmp_path: Path) -> None:
    small = copy.deepcopy(resnet())
    small.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    layouts = {
        "supcontrast": supcontrast("encoder.", "head.0", net=small),
        "solo_learn": lambda: {
            "state_dict": at("backbone.", small.state_dict()) | nothing("classifier.weight")
        },
        "": small.state_dict,
    }
    torch.save(layouts[family](), tmp_path / "last.pth")
    with pytest.raises(WeightsError, match="images of 32 pixels"):
        open_foreign(tmp_path / "last.pth", arch="resnet34", input_spec=SETTINGS)


@pytest.mark.parametrize(
    ("arch", "named"), [("resnet34", "resnet18"), ("resnet101", "resnet50"), ("wide_resnet50_2", "resnet50")]
)
def test_a_deeper_or_wider_network_is_not_cut_to_the_named_one(arch: str, named: str, tmp_path: Path) -> None:
    torch.save(timm.create_model(arch, num_classes=3).state_dict(), tmp_path / "x.pth")
    _, loaded = open_foreign(tmp_path / "x.pth", arch=named, input_spec=SETTINGS)
    assert (loaded.plan.arch, loaded.unexpected) == (arch, ())


def test_a_network_with_more_in_its_blocks_is_not_read_as_a_plain_one(tmp_path: Path) -> None:
    torch.save(timm.create_model("seresnet18", num_classes=3).state_dict(), tmp_path / "x.pth")
    for named in ("resnet18", "resnet34"):
        with pytest.raises(WeightsError, match=r"its layers have 32 more, as layer1\.0\.se\."):
            open_foreign(tmp_path / "x.pth", arch=named, input_spec=SETTINGS)
    encoder, _ = open_foreign(tmp_path / "x.pth", arch="seresnet18", input_spec=SETTINGS)
    assert encoder.arch == "seresnet18"


def test_of_several_networks_no_momentum_encoder_is_read_and_that_is_said(tmp_path: Path) -> None:
    twin = {name: tensor + 1 for name, tensor in resnet().state_dict().items()}
    torch.save(at("encoder_k.", twin) | at("encoder_q.", resnet().state_dict()), tmp_path / "x.pth")
    for arch in ("resnet18", "resnet34"):
        encoder, loaded = open_foreign(
            tmp_path / "x.pth", family="torchvision_resnet", arch=arch, input_spec=SETTINGS
        )
        torch.testing.assert_close(encoder.net.bn1.bias, resnet().bn1.bias)
        assert "of several networks encoder_q is read, not encoder_k" in loaded.adapted


def test_what_no_tensor_tells_has_to_be_said(tmp_path: Path) -> None:
    torch.save(timms("efficientnet_b0").state_dict(), tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"--arch efficientnet_b0 or .*--arch tf_efficientnet_b0"):
        open_foreign(tmp_path / "x.pth", arch="resnet18", input_spec=SETTINGS)
    film = torch.rand(1, 1, 64, 64)
    for arch in ("efficientnet_b0", "tf_efficientnet_b0"):
        encoder, _ = open_foreign(tmp_path / "x.pth", arch=arch, input_spec=SETTINGS)
        theirs = timm.create_model(arch, num_classes=3).eval()
        theirs.load_state_dict(timms("efficientnet_b0").state_dict())
        with torch.no_grad():
            expected = theirs.forward_features(film.expand(-1, 3, -1, -1)).mean((2, 3))
            torch.testing.assert_close(encoder(film), expected, rtol=1e-5, atol=1e-5)


def test_a_plain_network_whose_architecture_is_named_is_read_from_any_wrapper(tmp_path: Path) -> None:
    states = at("module.model.", timms("mixnet_s").state_dict())
    states["module.model.blocks.0.0.total_ops"] = torch.zeros(1)  # of a counter of operations
    torch.save({"state_dict": states, "optimizer": {"state": {0: {"exp_avg": TWO}}}}, tmp_path / "x.pth")
    encoder, loaded = open_foreign(tmp_path / "x.pth", arch="mixnet_s", input_spec=SETTINGS)
    film = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        expected = timms("mixnet_s").forward_features(film.expand(-1, 3, -1, -1)).mean((2, 3))
        torch.testing.assert_close(encoder(film), expected, rtol=1e-5, atol=1e-5)
    assert loaded.unexpected == ("blocks.0.0.total_ops", "classifier.bias", "classifier.weight")
    assert dict(loaded.left) == {"optimizer": 1}


def known_as(family: str, tensors: Mapping[str, Tensor]) -> str:
    """What a plain file is read as; where several networks have its tensors, the message that names them."""
    try:
        return families()[family].read(ForeignFile(Path("x"), tensors, {}, ())).arch
    except WeightsError as error:
        return str(error)


def check_known(family: str, names: list[str]) -> None:
    for name in names:
        with torch.device("meta"):
            tensors = timm.create_model(name).state_dict()
        found = known_as(family, tensors)
        assert found == name or f"--arch {name}" in found


def test_small_networks_of_timm_are_known_exactly() -> None:
    names = [
        "convnext_atto",
        "convnext_atto_ols",
        "convnext_zepto_rms",
        "convnext_tiny_hnf",
        "convnextv2_nano",
    ]
    check_known("timm_convnext", names)
    check_known("timm_efficientnet", ["efficientnet_lite0", "efficientnet_b0_gn", "efficientnetv2_rw_t"])


@pytest.mark.slow
def test_every_convnext_and_efficientnet_of_timm_is_known_exactly() -> None:
    check_known("timm_convnext", timm.list_models("convnext*"))
    check_known("timm_efficientnet", timm.list_models("*efficientnet*"))


def test_a_plain_resnet_sees_films_as_the_settings_say(tmp_path: Path) -> None:
    torch.save(flat()(), tmp_path / "resnet.pth")
    _, loaded = open_foreign(tmp_path / "resnet.pth", arch="resnet34", input_spec=SETTINGS)
    assert (loaded.family, loaded.input) == ("torchvision_resnet", SETTINGS)


def test_a_hybrid_of_an_earlier_run_is_refused(tmp_path: Path) -> None:
    content = moco_004_hybrid()
    content["patch_embed"] = {n: t for n, t in content["patch_embed"].items() if ".4." not in n}
    torch.save(content, tmp_path / "run1.pth")
    with pytest.raises(WeightsError, match=r"on 2 convolutions.*expected 12 blocks"):
        open_foreign(tmp_path / "run1.pth", arch="resnet18", input_spec=SETTINGS)


def test_only_a_resnet_can_end_with_layer3() -> None:
    with pytest.raises(ConfigError, match="follows the name of a ResNet"):
        Encoder("densenet121_to_layer3", SETTINGS)


def test_what_enlarges_its_input_does_so_for_clips_preprocessing_too(tmp_path: Path) -> None:
    """As cxrlearn does: its GLoRIA enlarges whatever it is given to 299 pixels."""
    torch.save(gloria(), tmp_path / "gloria.ckpt")
    encoder, loaded = open_foreign(
        tmp_path / "gloria.ckpt", preprocessing="clip", arch="test_resnet", input_spec=InputSpec()
    )
    spec = loaded.input
    assert (spec.side, spec.fit, spec.upsample, spec.colour_mean[0]) == (224, "squash", 299, 0.48145466)
    film = torch.rand(1, 1, 224, 224)
    colour = torch.cat([(film - m) / s for m, s in zip(spec.colour_mean, spec.colour_std, strict=True)], 1)
    large = functional.interpolate(colour, (299, 299), mode="bilinear", align_corners=True)
    net = copy.deepcopy(resnet()).eval()
    net.fc = nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(encoder(film), net(large), rtol=1e-5, atol=1e-5)
