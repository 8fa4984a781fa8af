"""MAE, pretrained or fine-tuned: Meta's on ImageNet, and Medical MAE's on chest radiographs.

He et al. 2022, https://arxiv.org/abs/2111.06377; Xiao et al. 2023, https://arxiv.org/abs/2210.12843. Files:
{model, optimizer, epoch, scaler, args}, model with timm's names. Pretrained: a decoder beside the encoder;
the embedding is the class token after the last norm, as in MAE's linear probe. Fine-tuned: fc_norm and a
head; the embedding is the mean over patches after fc_norm. Films: the middle 224 of 256 pixels, normalised
as ImageNet, or by 0.5056 and 0.252 where the file's arguments name a data set of films: Medical MAE's
fine-tuning has those for all, its pretraining only for NIH's (ImageNet's for CheXpert and MIMIC-CXR). Its
published files were not seen. A file with neither decoder nor fc_norm is a plain ViT; `--family mae` reads
it as MAE's.
"""

from hilum.images.spec import InputSpec
from hilum.models.foreign import ForeignFile
from hilum.models.pooling import Pooling
from hilum.models.zoo._family import Family, Plan, counted, dropped, in_colour, under, without_module
from hilum.models.zoo._networks import plain_vit

FILMS = ("chexpert", "chestxray", "chestxray_nih", "mimic_cxr", "covidx", "node21")


def _read(file: ForeignFile) -> Plan:
    tensors = without_module(file.tensors)
    tensors = under(tensors, "model.") or tensors
    kept = dropped(tensors, "decoder_", r"mask_token$", r"head\.", "optimizer", "scaler")
    arch, options, side = plain_vit(file, kept)
    pooling = Pooling("token")
    if "fc_norm.weight" in kept:
        options |= {"global_pool": "avg", "fc_norm": "true"}
        pooling = Pooling(norm=True)
    films = any(name.startswith("args.dataset") and told in FILMS for name, told in file.facts.items())
    spec = InputSpec(side, crop=0.875, mean=0.5056, std=0.252) if films else in_colour(side, crop=0.875)
    left = counted(
        file,
        kept,
        optimizer=r"^(optimizer|scaler)",
        decoder="(^|\\.)(decoder_|mask_token)",
        head=r"(^|\.)head\.",
    )
    return Plan(arch, spec, kept, pooling, options, left)


FAMILY = Family(
    name="MAE, Medical MAE",
    source="https://github.com/lambert-x/medical_mae",
    licence="CC BY-NC 4.0 (MAE's code and weights); Medical MAE's weights as their authors say",
    keys=(
        r"(model\.)?(module\.)?blocks\.0\.attn\.qkv\.weight$",
        r"(model\.)?(module\.)?cls_token$",
        r"(model\.)?(module\.)?(decoder_blocks\.0\.norm1\.weight|fc_norm\.weight)$",
    ),
    without=(r"(.*\.)?blocks\.0\.(gamma_1|ls1\.gamma|attn\.q_bias|attn\.relative_position)",),
    read=_read,
)
