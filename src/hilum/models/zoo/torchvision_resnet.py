"""A plain ResNet by torchvision's and timm's names, with or without its classifier.

He et al. 2016, https://arxiv.org/abs/1512.03385. Nothing in such a file says how it saw films: that is as the
settings say (image_size, image_fit, mean, std), or as `--family convirt` and the like know it.
"""

from hilum.errors import WeightsError
from hilum.images.spec import InputSpec
from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, counted, dropped, resnet_arch, under, without_module


def plain_resnet(file: ForeignFile, spec: InputSpec | None) -> Plan:
    """The ResNet of a file, under whatever one prefix it is."""
    tensors = without_module(file.tensors)
    stems = [name for name in tensors if name == "conv1.weight" or name.endswith(".conv1.weight")]
    stems = [name for name in stems if ".layer" not in f".{name}"]
    prefixes = sorted(
        {name.removesuffix("conv1.weight") for name in stems}, key=lambda prefix: (len(prefix), prefix)
    )
    for prefix in prefixes:
        kept = dropped(under(tensors, prefix), r"fc\.")
        arch = resnet_arch(kept)
        if arch:
            of_resnet = {n: t for n, t in kept.items() if n.startswith(("conv1.", "bn1.", "layer"))}
            return Plan(arch, spec, of_resnet, left=counted(file, of_resnet, head=r"(^|\.)fc\."))
    raise WeightsError(
        f"{file.path}: there is a conv1, but not the layers of a ResNet-18, 34, 50, 101 or 152"
    )


FAMILY = Family(
    name="torchvision or timm ResNet",
    source="https://github.com/pytorch/vision",
    licence="as its publisher says",
    keys=(r"(.*\.)?conv1\.weight$", r"(.*\.)?layer1\.0\.conv1\.weight$", r"(.*\.)?layer4\.1\.bn2\.weight$"),
    read=lambda file: plain_resnet(file, None),
    generic=True,
)
