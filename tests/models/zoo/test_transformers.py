"""Families of transformers: their layouts as published, and the embeddings of another library."""

import argparse
import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    IJepaConfig,
    IJepaModel,
    PreTrainedModel,
    SwinConfig,
    SwinModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)
from transformers.initialization import no_init_weights

from hilum.errors import WeightsError
from hilum.images.spec import InputSpec
from hilum.models.encoder import Encoder
from hilum.models.fit_tensors import fit_tensors
from hilum.models.foreign import ForeignFile, read_foreign
from hilum.models.pooling import Pooling
from hilum.models.recognise import Loaded, families, open_foreign, recognise
from hilum.models.weights import load, to_bytes

PLAIN = InputSpec(side=224, mean=0.4, std=0.3)
"""Settings, for files that say nothing of films."""
IMAGENET = {
    "mean": 0.0,
    "std": 1.0,
    "colour_mean": (0.485, 0.456, 0.406),
    "colour_std": (0.229, 0.224, 0.225),
}
CLIP = {
    "mean": 0.0,
    "std": 1.0,
    "colour_mean": (0.48145466, 0.4578275, 0.40821073),
    "colour_std": (0.26862954, 0.26130258, 0.27577711),
}


@dataclass
class Case:
    """A file, and what has to come out of it."""

    content: Any
    """Saved by torch; a dict of tensors alone by safetensors where `name` ends so."""
    reference: Callable[[Tensor], Tensor]
    """The embedding of three channels by the other library."""
    arch: str
    features: int
    spec: InputSpec
    left: dict[str, int]
    missing: str
    """A tensor without which there is no encoder."""
    family: str = ""
    generic: bool = False
    name: str = "weights.pth"
    unprojected: Callable[[Tensor], Tensor] | None = None
    """The embedding without the projection."""
    pooling: Pooling = field(default_factory=lambda: Pooling("token"))


def made(kind: Callable[..., Any], *args: Any, **more: Any) -> Any:
    """A network of Hugging Face with weights that are nowhere equal, zero or one."""
    with no_init_weights():  # they are all drawn again
        model = kind(*args, **more)
    return shaken(model)


def shaken(model: nn.Module) -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            around = 1.0 if weight.ndim == 1 and not name.endswith("bias") else 0.0
            weight.normal_(around, 0.1 if weight.ndim == 1 else 0.05)
    return model.eval()


def published(model: PreTrainedModel, folder: Path) -> dict[str, Tensor]:
    """Its tensors by the names in files of Hugging Face."""
    model.save_pretrained(folder)
    return safetensors.torch.load_file(folder / "model.safetensors")


def vit(width: int = 192) -> ViTModel:
    config = ViTConfig(
        hidden_size=width, num_attention_heads=width // 64, intermediate_size=4 * width, layer_norm_eps=1e-6
    )
    return made(ViTModel, config, add_pooling_layer=False)


def of_vit(model: PreTrainedModel, folder: Path) -> dict[str, Tensor]:
    """A ViT of Hugging Face, or a DINOv2, by the names that Meta's and timm's code share."""
    found = published(model, folder)
    out = {
        "pos_embed": found["embeddings.position_embeddings"],
        **{f"norm.{part}": found[f"layernorm.{part}"] for part in ("weight", "bias")},
    }
    if "embeddings.cls_token" in found:
        out["cls_token"] = found["embeddings.cls_token"]
    for part in ("weight", "bias"):
        out[f"patch_embed.proj.{part}"] = found[f"embeddings.patch_embeddings.projection.{part}"]
        for block in range(12):
            old, new = f"encoder.layer.{block}.", f"blocks.{block}."
            out[f"{new}attn.qkv.{part}"] = torch.cat(
                [found[f"{old}attention.attention.{one}.{part}"] for one in ("query", "key", "value")]
            )
            out[f"{new}attn.proj.{part}"] = found[f"{old}attention.output.dense.{part}"]
            dinov2 = f"{old}norm1.{part}" in found
            rest = (
                {"norm1": "norm1", "norm2": "norm2", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
                if dinov2
                else {
                    "norm1": "layernorm_before",
                    "norm2": "layernorm_after",
                    "mlp.fc1": "intermediate.dense",
                    "mlp.fc2": "output.dense",
                }
            )
            for ours, theirs in rest.items():
                out[f"{new}{ours}.{part}"] = found[f"{old}{theirs}.{part}"]
            if dinov2:
                for scale in (1, 2):
                    out[f"{new}ls{scale}.gamma"] = found[f"{old}layer_scale{scale}.lambda1"]
    return out


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def linear(name: str, inside: int = 4, outside: int = 3) -> dict[str, Tensor]:
    return {f"{name}.weight": torch.zeros(outside, inside), f"{name}.bias": torch.zeros(outside)}


def class_token(model: PreTrainedModel) -> Callable[[Tensor], Tensor]:
    return lambda images: model(pixel_values=images).last_hidden_state[:, 0]


def optimizer() -> dict[str, Any]:
    return {"state": {0: {"step": 1, "exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2)}}}


def refers(folder: Path) -> Case:
    model = vit(768)
    theirs = {
        "cls_token": "cls_token",
        "position_embeddings": "position_embeddings",
        "patch_embeddings.projection.": "patch_embeddings.",
        "layernorm_before": "attention_norm",
        "layernorm_after": "ffn_norm",
        "attention.attention.": "attn.",
        "attention.output.dense": "attn.out",
        "intermediate.dense": "ffn.fc1",
        "output.dense": "ffn.fc2",
    }
    content = {}
    for name, tensor in published(model, folder).items():
        name = re.sub(r"^layernorm\.", "encoder.encoder_norm.", name)
        for old, new in theirs.items():
            name = name.replace(old, new)
        content[f"transformer.{name}"] = tensor
    content |= linear("head", 768, 14) | linear("textual.embedding.words") | linear("textual.output")
    return Case(
        content,
        class_token(model),
        "vit_base_patch16_224",
        768,
        InputSpec(side=224, fit="crop", **IMAGENET),
        {"head": 2, "text": 4},
        "transformer.encoder.layer.7.ffn_norm.bias",
    )


def clip(patch: int, side: int, project: int, act: str, folder: Path) -> tuple[Any, dict[str, Tensor]]:
    """CLIP's tower of images by Hugging Face, and by OpenAI's names."""
    config = CLIPVisionConfig(
        hidden_size=768,
        intermediate_size=3072,
        image_size=side,
        patch_size=patch,
        projection_dim=project,
        hidden_act=act,
    )
    model = made(CLIPVisionModelWithProjection, config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.half())
    found = {n.removeprefix("vision_model."): t.half() for n, t in published(model, folder).items()}
    out = {
        "class_embedding": found["embeddings.class_embedding"],
        "positional_embedding": found["embeddings.position_embedding.weight"],
        "conv1.weight": found["embeddings.patch_embedding.weight"],
        "proj": found["visual_projection.weight"].T.contiguous(),
    }
    for part in ("weight", "bias"):
        out |= {
            f"ln_pre.{part}": found[f"pre_layrnorm.{part}"],
            f"ln_post.{part}": found[f"post_layernorm.{part}"],
        }
        for block in range(12):
            old, new = f"encoder.layers.{block}.", f"transformer.resblocks.{block}."
            out[f"{new}attn.in_proj_{part}"] = torch.cat(
                [found[f"{old}self_attn.{one}_proj.{part}"] for one in "qkv"]
            )
            out[f"{new}attn.out_proj.{part}"] = found[f"{old}self_attn.out_proj.{part}"]
            for ours, theirs in {
                "ln_1": "layer_norm1",
                "ln_2": "layer_norm2",
                "mlp.c_fc": "mlp.fc1",
                "mlp.c_proj": "mlp.fc2",
            }.items():
                out[f"{new}{ours}.{part}"] = found[f"{old}{theirs}.{part}"]
    return model, under("visual.", out)


def text_tower() -> dict[str, Tensor]:
    return {
        "positional_embedding": torch.zeros(77, 8),
        "text_projection": torch.zeros(8, 8),
        "logit_scale": torch.zeros(()),
        "transformer.resblocks.0.attn.in_proj_weight": torch.zeros(24, 8),
        "token_embedding.weight": torch.zeros(10, 8),
        **linear("ln_final"),
    }


def chexzero(folder: Path, patch: int = 32, side: int = 224, project: int = 512) -> Case:
    model, visual = clip(patch, side, project, "quick_gelu", folder)
    return Case(
        visual | text_tower(),
        lambda images: model(pixel_values=images).image_embeds,
        f"vit_base_patch{patch}_clip_quickgelu_224",
        project,
        InputSpec(side=side, fit="pad", mean=101.48761 / 255, std=83.43944 / 255),
        {"text tower": 6, "scale": 1},
        "visual.transformer.resblocks.7.ln_2.bias",
        unprojected=lambda images: model.vision_model(pixel_values=images).pooler_output,
        pooling=Pooling("token", project=project),
    )


def chexzero_320(folder: Path) -> Case:
    return chexzero(folder, 16, 320, 768)


def open_clip(folder: Path) -> Case:
    model, visual = clip(32, 224, 512, "gelu", folder)
    return Case(
        {
            "epoch": 1,
            "name": "ViT-B-32",
            "state_dict": under("module.", visual | text_tower()),
            "optimizer": optimizer(),
        },
        lambda images: model(pixel_values=images).image_embeds,
        "vit_base_patch32_clip_224",
        512,
        InputSpec(side=224, fit="crop", **CLIP),
        {"text tower": 6, "scale": 1, "optimizer": 2},
        "state_dict.module.visual.transformer.resblocks.7.ln_2.bias",
        pooling=Pooling("token", project=512),
    )


def mae(folder: Path) -> Case:
    model = vit()
    decoder = {
        "mask_token": torch.zeros(1, 1, 8),
        "decoder_pos_embed": torch.zeros(1, 197, 8),
        **linear("decoder_embed"),
        **linear("decoder_blocks.0.norm1"),
        **linear("decoder_pred"),
    }
    return Case(
        {
            "model": of_vit(model, folder) | decoder,
            "optimizer": optimizer(),
            "epoch": 800,
            "scaler": {"scale": 1.0},
            "args": argparse.Namespace(model="mae_vit_tiny", data_path="imagenet"),
        },
        class_token(model),
        "vit_tiny_patch16_224",
        192,
        InputSpec(side=224, fit="crop", crop=0.875, **IMAGENET),
        {"decoder": 8, "optimizer": 2},
        "model.blocks.7.norm2.bias",
    )


def mae_finetuned(folder: Path) -> Case:
    model = vit()
    tensors = of_vit(model, folder)
    weight, bias = (tensors.pop(f"norm.{part}") for part in ("weight", "bias"))
    model.layernorm = nn.Identity()

    def reference(images: Tensor) -> Tensor:
        mean = model(pixel_values=images).last_hidden_state[:, 1:].mean(1)
        return functional.layer_norm(mean, (192,), weight, bias, 1e-6)

    return Case(
        {
            "model": tensors | {"fc_norm.weight": weight, "fc_norm.bias": bias} | linear("head", 192, 14),
            "optimizer": optimizer(),
            "epoch": 75,
            "args": argparse.Namespace(model="vit_tiny_patch16", dataset="chestxray"),
        },
        reference,
        "vit_tiny_patch16_224",
        192,
        InputSpec(side=224, fit="crop", crop=0.875, mean=0.5056, std=0.252),
        {"head": 2, "optimizer": 2},
        "model.fc_norm.bias",
        family="mae",
        pooling=Pooling(norm=True),
    )


def dino(folder: Path, *, ibot: bool = False) -> Case:
    model = vit()
    teacher = of_vit(model, folder)
    student = {name: torch.zeros_like(tensor) for name, tensor in teacher.items()}
    head = linear("head.mlp.0") | {"head.last_layer.weight_v": torch.zeros(2, 2)}
    if ibot:
        student["masked_embed"] = torch.zeros(1, 192)
        head["head.last_layer2.weight_v"] = torch.zeros(2, 2)
    wrap = "module." if ibot else ""
    return Case(
        {
            "student": under("module.backbone.", student) | under("module.", head),
            "teacher": under(f"{wrap}backbone.", teacher) | under(wrap, head),
            "optimizer": optimizer(),
            "epoch": 100,
            "args": argparse.Namespace(arch="vit_tiny", patch_size=16),
            ("ibot_loss" if ibot else "dino_loss"): {"center": torch.zeros(1, 2)},
        },
        class_token(model),
        "vit_tiny_patch16_224",
        192,
        InputSpec(side=224, fit="crop", crop=0.875, **IMAGENET),
        {"student": len(student) + len(head), "head": len(head), "optimizer": 2, "loss": 1},
        f"teacher.{wrap}backbone.blocks.7.norm2.bias",
        family="dino",
    )


def ibot(folder: Path) -> Case:
    return dino(folder, ibot=True)


SMALL = {"hidden_size": 384, "num_attention_heads": 6, "image_size": 56, "patch_size": 14}


def dinov2(folder: Path) -> Case:
    model = made(Dinov2Model, Dinov2Config(**SMALL))
    return Case(
        of_vit(model, folder) | {"mask_token": torch.zeros(1, 384)},
        class_token(model),
        "vit_small_patch14_dinov2",
        384,
        InputSpec(side=56, fit="crop", **IMAGENET),
        {"mask token": 1},
        "blocks.7.ls2.gamma",
    )


def dinov2_training(folder: Path) -> Case:
    model = made(Dinov2WithRegistersModel, Dinov2WithRegistersConfig(**SMALL))
    tensors = of_vit(model, folder) | {"mask_token": torch.zeros(1, 384)}
    tensors["register_tokens"] = model.embeddings.register_tokens.detach()
    chunked = {
        re.sub(r"^blocks\.(\d+)", lambda m: f"blocks.{int(m[1]) // 3}.{m[1]}", name): tensor
        for name, tensor in tensors.items()
    }
    return Case(
        {"teacher": under("backbone.", chunked) | linear("dino_head.mlp.0") | linear("ibot_head.mlp.0")},
        class_token(model),
        "vit_small_patch14_reg4_dinov2",
        384,
        InputSpec(side=56, fit="crop", **IMAGENET),
        {"mask token": 1, "head": 4},
        "teacher.backbone.blocks.2.7.norm2.bias",
        family="dinov2",
    )


def rad_dino(folder: Path) -> Case:
    model = made(Dinov2Model, Dinov2Config(image_size=56, patch_size=14))
    return Case(
        published(model, folder),
        class_token(model),
        "vit_base_patch14_dinov2",
        768,
        InputSpec(side=56, fit="crop", mean=0.5307, std=0.2583),
        {"mask token": 1},
        "encoder.layer.7.norm2.bias",
        name="model.safetensors",
    )


def rad_dino_small(folder: Path) -> Case:
    model = made(Dinov2ForImageClassification, Dinov2Config(**SMALL))
    return Case(
        published(model, folder),
        class_token(model.dinov2),
        "vit_small_patch14_dinov2",
        384,
        InputSpec(side=56, fit="crop", **IMAGENET),
        {"mask token": 1, "head": 2},
        "dinov2.encoder.layer.7.norm2.bias",
        family="rad_dino",
        name="model.safetensors",
    )


def eva(width: int, **more: Any) -> Any:
    """As eva_x.py of its authors builds it."""
    return timm.models.eva.Eva(
        img_size=224,
        patch_size=16,
        embed_dim=width,
        depth=12,
        num_heads=width // 64,
        mlp_ratio=4 * 2 / 3,
        swiglu_mlp=True,
        use_rot_pos_emb=True,
        ref_feat_shape=(14, 14),
        **more,
    )


def eva_02(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """By the names of EVA-02's code."""
    out = {}
    for name, tensor in tensors.items():
        if not name.startswith("head."):
            for ours, theirs in (
                (r"^fc_norm", "norm"),
                (r"mlp\.norm", "mlp.ffn_ln"),
                (r"mlp\.fc1_g", "mlp.w1"),
                (r"mlp\.fc1_x", "mlp.w2"),
                (r"mlp\.fc1", "mlp.w12"),
                (r"mlp\.fc2", "mlp.w3"),
                (r"([qv])_proj\.bias", r"\1_bias"),
            ):
                name = re.sub(ours, theirs, name)
            out[name] = tensor
    return out


def eva_x(folder: Path) -> Case:
    model = shaken(eva(192))
    content = eva_02(model.state_dict()) | linear("lm_head") | {"mask_token": torch.zeros(1, 1, 192)}
    content["rope.freqs_cos"] = content["blocks.0.attn.rope.freqs_cos"] = torch.zeros(196, 64)
    return Case(
        {"module": content},
        lambda images: model.forward_head(model.forward_features(images), pre_logits=True),
        "eva02_tiny_patch14_224",
        192,
        InputSpec(side=224, fit="crop", crop=0.875, mean=0.49185243, std=0.28509309),
        {"head": 2, "mask token": 1, "tables of angles": 2},
        "module.blocks.7.norm2.bias",
        pooling=Pooling(norm=True),
    )


def biomedclip(folder: Path) -> Case:
    model = vit()
    projection = 0.1 * torch.randn(64, 192)
    text = linear("text.transformer.embeddings.LayerNorm") | {"text.proj.0.weight": torch.zeros(2, 2)}
    return Case(
        under("visual.trunk.", of_vit(model, folder))
        | {"visual.head.proj.weight": projection, "logit_scale": torch.zeros(())}
        | text,
        lambda images: class_token(model)(images) @ projection.T,
        "vit_tiny_patch16_224",
        64,
        InputSpec(side=224, fit="crop", **CLIP),
        {"text tower": 3, "scale": 1},
        "visual.trunk.blocks.7.norm2.bias",
        pooling=Pooling("token", project=64),
    )


def of_swin(model: SwinModel, folder: Path) -> dict[str, Tensor]:
    """By the names of its authors, and of timm before 0.9."""
    found, out = published(model, folder), {}
    for name, tensor in found.items():
        match = re.match(r"(.*)attention\.self\.query\.(weight|bias)$", name)
        if match:
            parts = [found[f"{match[1]}attention.self.{one}.{match[2]}"] for one in ("query", "key", "value")]
            out[f"{match[1]}attn.qkv.{match[2]}"] = torch.cat(parts)
        elif not re.search(r"self\.(key|value)|pooler", name):
            out[name] = tensor
    rules = {
        "embeddings.patch_embeddings.projection": "patch_embed.proj",
        "embeddings.norm": "patch_embed.norm",
        "encoder.layers": "layers",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "attention.self": "attn",
        "attention.output.dense": "attn.proj",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
    }
    named = {}
    for name, tensor in out.items():
        for old, new in rules.items():
            name = name.replace(old, new)
        named[re.sub(r"encoder\.", "", re.sub(r"^layernorm\.", "norm.", name))] = tensor
    return named


def ark(folder: Path) -> Case:
    model = made(SwinModel, SwinConfig())
    teacher = of_swin(model, folder)
    index = [n for n in teacher if n.endswith("relative_position_index")]
    for name in index or [f"layers.{s}.blocks.0.attn.relative_position_index" for s in range(4)]:
        teacher[name] = torch.zeros(49, 49, dtype=torch.int64)
    buffers = sum(n.endswith("relative_position_index") for n in teacher) + 1
    teacher["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    heads = {**linear("omni_heads.0"), **linear("omni_heads.1"), **linear("projector")}
    student = {name: torch.zeros(2) for name in teacher | heads if not name.endswith(("_index", "_mask"))}
    return Case(
        {
            "epoch": 1,
            "lossMIN": [0.1, 0.2],
            "state_dict": under("module.", student),
            "teacher": under("module.", teacher | heads),
            "optimizer": optimizer(),
            "scheduler": {"best": 0.5},
        },
        lambda images: model(pixel_values=images).pooler_output,
        "swin_tiny_patch4_window7_224",
        768,
        InputSpec(side=224, fit="squash", **IMAGENET),
        {"student": len(student), "buffers": buffers, "heads": 4, "projector": 2, "optimizer": 2},
        "teacher.module.layers.2.blocks.3.norm2.bias",
        pooling=Pooling(),
    )


def hf_vit(folder: Path) -> Case:
    config = ViTConfig(
        hidden_size=192, num_attention_heads=3, intermediate_size=768, num_labels=3, layer_norm_eps=1e-6
    )
    model = made(ViTForImageClassification, config)
    return Case(
        published(model, folder),
        class_token(model.vit),
        "vit_tiny_patch16_224",
        192,
        InputSpec(side=224, fit="squash", mean=0.5, std=0.5),
        {"classifier": 2},
        "vit.encoder.layer.7.layernorm_after.bias",
        name="model.safetensors",
    )


def ijepa(folder: Path) -> Case:
    config = IJepaConfig(hidden_size=192, num_attention_heads=3, intermediate_size=768, layer_norm_eps=1e-6)
    model = made(IJepaModel, config, add_pooling_layer=False)
    target = of_vit(model, folder)
    student = {name: torch.zeros_like(tensor) for name, tensor in target.items()}
    return Case(
        {
            "encoder": under("module.", student),
            "predictor": {"module.mask_token": torch.zeros(1, 1, 8)},
            "target_encoder": under("module.", target),
            "opt": optimizer(),
            "epoch": 1,
        },
        lambda images: model(pixel_values=images).last_hidden_state.mean(1),
        "vit_tiny_patch16_224",
        192,
        InputSpec(side=224, fit="crop", crop=0.875, **IMAGENET),
        {"student": len(student), "predictor": 1, "optimizer": 2},
        "target_encoder.module.blocks.7.norm2.bias",
        pooling=Pooling(),
    )


def timm_vit(folder: Path) -> Case:
    model = vit()
    return Case(
        {"model": of_vit(model, folder) | linear("head", 192)},
        class_token(model),
        "vit_tiny_patch16_224",
        192,
        PLAIN,
        {"head": 2},
        "model.blocks.7.norm2.bias",
        generic=True,
    )


def timm_swin(folder: Path) -> Case:
    model = made(SwinModel, SwinConfig())
    tensors = {n: t for n, t in of_swin(model, folder).items() if not n.endswith("_index")}
    return Case(
        {"model": tensors | linear("head", 768)},
        lambda images: model(pixel_values=images).pooler_output,
        "swin_tiny_patch4_window7_224",
        768,
        PLAIN,
        {"head": 2},
        "model.layers.2.blocks.3.norm2.bias",
        generic=True,
        pooling=Pooling(),
    )


CASES = (
    refers, chexzero, chexzero_320, open_clip, mae, mae_finetuned, dino, ibot, dinov2,
    dinov2_training, rad_dino, rad_dino_small, eva_x, biomedclip, ark, hf_vit, ijepa, timm_vit, timm_swin,
)  # fmt: skip


@dataclass
class Opened:
    case: Case
    family: str
    file: ForeignFile
    encoder: Encoder
    loaded: Loaded


@pytest.fixture(scope="module", params=CASES, ids=lambda make: make.__name__)
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    folder = tmp_path_factory.mktemp(request.param.__name__)
    case: Case = request.param(folder / "source")
    path = folder / case.name
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(case.content, path)
    else:
        torch.save(case.content, path)
    case.content = None
    encoder, loaded = open_foreign(path, arch="test_resnet", input_spec=PLAIN)
    name = case.family or request.param.__name__.removesuffix("_320")
    yield Opened(case, name, read_foreign(path), encoder, loaded)
    path.unlink()


def test_a_file_becomes_all_of_an_encoder(opened: Opened) -> None:
    case, loaded, encoder = opened.case, opened.loaded, opened.encoder
    assert loaded.family == opened.family
    assert (loaded.plan.arch, encoder.num_features) == (case.arch, case.features)
    assert loaded.input == encoder.input == case.spec
    assert loaded.matched == len(encoder.net.state_dict())
    assert loaded.unexpected == ()
    assert loaded.left == case.left
    assert encoder.pooling == case.pooling


def test_its_embedding_is_that_of_another_library(opened: Opened) -> None:
    spec = opened.case.spec
    torch.manual_seed(1)
    images = (torch.rand(1, 1, spec.side, spec.side) - spec.mean) / spec.std
    colour = images.expand(-1, 3, -1, -1)
    if spec.colour_mean:
        mean, std = (torch.tensor(x).view(3, 1, 1) for x in (spec.colour_mean, spec.colour_std))
        colour = (colour - mean) / std
    with torch.no_grad():
        expected = opened.case.reference(colour)
        torch.testing.assert_close(opened.encoder(images), expected, rtol=1e-5, atol=1e-5)
        if opened.case.unprojected is not None:
            plain = copy.deepcopy(opened.encoder)
            plain.set_pooling(Pooling("token"))
            torch.testing.assert_close(plain(images), opened.case.unprojected(colour), rtol=1e-5, atol=1e-5)
            assert plain.num_features == 768


def test_no_other_family_knows_it(opened: Opened) -> None:
    assert recognise(opened.file) == ("" if opened.case.generic else opened.family)
    known = [name for name, one in families().items() if one.generic and one.share(opened.file) == 1]
    assert known == [opened.family] if opened.case.generic else opened.family not in known


def test_a_missing_tensor_is_refused_with_a_count(opened: Opened) -> None:
    kept = {name: tensor for name, tensor in opened.file.tensors.items() if name != opened.case.missing}
    assert len(kept) == len(opened.file.tensors) - 1
    plan = families()[opened.family].read(ForeignFile(opened.file.path, kept, opened.file.facts, ()))
    total = opened.loaded.matched
    with pytest.raises(
        WeightsError, match=rf"{total - 1} of {total} tensors of {plan.arch} fit; .* is missing"
    ):
        fit_tensors(opened.encoder, plan.tensors, opened.file.path)


def test_a_file_with_a_projection_can_be_opened_without(tmp_path: Path) -> None:
    case = biomedclip(tmp_path / "source")
    torch.save(case.content, tmp_path / "weights.pth")
    token = Pooling("token")
    encoder, _ = open_foreign(tmp_path / "weights.pth", arch="test_resnet", input_spec=PLAIN, pooling=token)
    assert (encoder.pooling, encoder.num_features, encoder.projection) == (token, 192, None)


@pytest.mark.parametrize("make", [refers, rad_dino_small], ids=lambda make: make.__name__)
def test_positions_of_another_size_are_those_of_another_library(make: Any, tmp_path: Path) -> None:
    """Bicubic as timm has it, against aliasing, the class token's left alone; and it is said."""
    case = make(tmp_path / "source")
    path = tmp_path / case.name
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(case.content, path)
    else:
        torch.save(case.content, path)
    patch = 14 if make is rad_dino_small else 16
    side, before = case.spec.side + 2 * patch, case.spec.side // patch
    encoder, loaded = open_foreign(
        path, preprocessing="settings", arch="test_resnet", input_spec=InputSpec(side=side, mean=0.4, std=0.3)
    )
    assert encoder.input == InputSpec(side=side, mean=0.4, std=0.3)
    places = f"positions of {before**2 + 1} places resampled to {(before + 2) ** 2 + 1}"
    assert any(places in line for line in loaded.lines())
    torch.manual_seed(2)
    images = torch.randn(1, 1, side, side)
    model = case.reference.__closure__[0].cell_contents
    table = model.embeddings.position_embeddings.detach()
    grid = table[:, 1:].reshape(1, before, before, -1).permute(0, 3, 1, 2)
    grid = functional.interpolate(grid, (before + 2, before + 2), mode="bicubic", antialias=True)
    resampled = torch.cat([table[:, :1], grid.flatten(2).transpose(1, 2)], 1)
    model.embeddings.position_embeddings = nn.Parameter(resampled)
    with torch.no_grad():
        expected = model(pixel_values=images.expand(-1, 3, -1, -1), **(
            {} if make is rad_dino_small else {"interpolate_pos_encoding": True}
        )).last_hidden_state[:, 0]  # fmt: skip
        torch.testing.assert_close(encoder(images), expected, rtol=1e-5, atol=1e-5)


def test_the_small_vit_of_moco_v3_has_twelve_heads(tmp_path: Path) -> None:
    config = ViTConfig(hidden_size=384, num_attention_heads=12, intermediate_size=1536, layer_norm_eps=1e-6)
    model = made(ViTModel, config, add_pooling_layer=False)
    tensors = of_vit(model, tmp_path / "source")
    states = under("module.base_encoder.", tensors | linear("head.0", 384)) | linear("module.predictor.0")
    states |= under("module.momentum_encoder.", {n: torch.zeros_like(t) for n, t in tensors.items()})
    torch.save({"epoch": 300, "arch": "vit_small", "state_dict": states}, tmp_path / "moco_v3.pth.tar")
    encoder, loaded = open_foreign(tmp_path / "moco_v3.pth.tar", arch="test_resnet", input_spec=PLAIN)
    assert loaded.family == "timm_vit"
    assert loaded.left == {"momentum encoder": len(tensors), "head": 2, "others": 2}
    images = torch.randn(1, 1, 224, 224)
    with torch.no_grad():
        expected = class_token(model)(images.expand(-1, 3, -1, -1))
        torch.testing.assert_close(encoder(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("side", "windows"), [(384, 64), (768, 256), (1152, 576)])
def test_masks_tell_the_side_that_ark_saw(side: int, windows: int) -> None:
    with torch.device("meta"):
        ours = timm.create_model("swin_large_patch4_window12_384", num_classes=0).state_dict()
        mask = torch.empty(windows, 144, 144)
    old = {
        re.sub(r"layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", name): tensor
        for name, tensor in ours.items()
    }
    heads = linear("omni_heads.0") | {"layers.0.blocks.1.attn_mask": mask}
    plan = read("ark", under("teacher.module.", old | heads))
    assert (plan.arch, plan.input) == (
        "swin_large_patch4_window12_384",
        InputSpec(side, "squash", **IMAGENET),
    )
    assert set(plan.tensors) == set(ours)


def read(family: str, tensors: dict[str, Tensor], **facts: str) -> Any:
    return families()[family].read(ForeignFile(Path("file.pt"), tensors, facts, ()))


def test_rad_dino_sees_518_pixels() -> None:
    with torch.device("meta"):
        tensors = Dinov2Model(Dinov2Config(image_size=518, patch_size=14)).state_dict()
    assert read("rad_dino", tensors).input == InputSpec(side=518, mean=0.5307, std=0.2583)
    assert read("dinov2", tensors).input == InputSpec(side=518, **IMAGENET)


def test_registers_of_hugging_face_have_their_place() -> None:
    with torch.device("meta"):
        tensors = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**SMALL)).state_dict()
        ours = timm.create_model("vit_small_patch14_reg4_dinov2", img_size=56, num_classes=0).state_dict()
    plan = read("rad_dino", under("dinov2_with_registers.", tensors))
    assert (plan.arch, plan.input) == ("vit_small_patch14_reg4_dinov2", InputSpec(side=56, **IMAGENET))
    assert {n: t.shape for n, t in plan.tensors.items()} == {n: t.shape for n, t in ours.items()}


def test_every_tensor_of_eva_x_base_has_its_place() -> None:
    with torch.device("meta"):
        theirs = eva(768, qkv_fused=False, scale_mlp=True).state_dict()
        ours = timm.create_model("eva02_base_patch14_224", patch_size=16, num_classes=0).state_dict()
    plan = read("eva_x", eva_02(theirs))
    assert plan.arch == "eva02_base_patch14_224"
    assert {n: t.shape for n, t in plan.tensors.items()} == {n: t.shape for n, t in ours.items()}


@pytest.mark.filterwarnings("ignore")  # torch's own of TorchScript
def test_a_torchscript_archive_of_clip_is_read(tmp_path: Path) -> None:
    tensors = {
        "visual.class_embedding": torch.randn(768),
        "visual.positional_embedding": torch.randn(50, 768),
        "visual.proj": torch.randn(768, 512),
        "visual.conv1.weight": torch.randn(768, 3, 32, 32),
        "visual.transformer.resblocks.0.attn.in_proj_weight": torch.randn(2304, 768),
        "logit_scale": torch.zeros(()),
    }
    root = nn.Module()
    for name, tensor in tensors.items():
        at = root
        *path, last = name.split(".")
        for part in path:
            if part not in dict(at.named_children()):
                at.add_module(part, nn.Module())
            at = at.get_submodule(part)
        at.register_parameter(last, nn.Parameter(tensor.half()))
    torch.jit.save(torch.jit.script(root), tmp_path / "clip.pt")
    file = read_foreign(tmp_path / "clip.pt")
    assert recognise(file) == "chexzero"
    assert set(file.tensors) == set(tensors)
    plan = families()["chexzero"].read(file)
    assert plan.input == InputSpec(side=224, fit="pad", mean=101.48761 / 255, std=83.43944 / 255)
    torch.testing.assert_close(
        plan.tensors["pos_embed"][0], tensors["visual.positional_embedding"].half().float()
    )


@pytest.mark.parametrize(
    ("family", "tensors", "said"),
    [
        ("chexzero", {"visual.conv1.weight": (768, 3, 8, 8)}, "no CLIP 768 wide with patches of 8"),
        ("eva_x", {"patch_embed.proj.weight": (192, 3, 14, 14)}, "patches of 14"),
        ("ijepa", {"target_encoder.patch_embed.proj.weight": (200, 3, 16, 16)}, "200 channels wide"),
        ("dino", {"teacher.backbone.conv1.weight": (64, 3, 7, 7)}, "patch_embed.proj.weight"),
    ],
)  # fmt: skip
def test_what_timm_has_not_is_refused(family: str, tensors: dict[str, tuple[int, ...]], said: str) -> None:
    filled = {name: torch.zeros(shape) for name, shape in tensors.items()}
    if family == "chexzero":
        filled["visual.positional_embedding"] = torch.zeros(50, 768)
    error = KeyError if family == "dino" else WeightsError  # which `open_foreign` turns into a message
    with pytest.raises(error, match=said):
        read(family, filled)


def test_a_plain_vit_with_more_than_that_is_refused() -> None:
    tensors = timm.create_model("vit_tiny_patch16_224", qk_norm=True, depth=1).state_dict()
    with pytest.raises(WeightsError, match=r"no plain ViT, for it has blocks\.0\.attn\.q_norm"):
        read("timm_vit", tensors)


def test_a_norm_of_the_mean_travels_with_the_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = Encoder("test_vit", InputSpec(side=64), options={"global_pool": "avg"}, norm=True).eval()
    nn.init.normal_(encoder.net.fc_norm.weight)
    (tmp_path / "encoder.safetensors").write_bytes(to_bytes(encoder))
    again = load(tmp_path / "encoder.safetensors").eval()
    images = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(again(images), encoder(images))
        torch.testing.assert_close(encoder(images), encoder.net(images))
