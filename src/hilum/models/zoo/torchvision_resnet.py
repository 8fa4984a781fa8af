"""A plain ResNet, ResNeXt or wide ResNet by torchvision's and timm's names, with or without its classifier.

He et al. 2016, https://arxiv.org/abs/1512.03385. Nothing in such a file says how it saw films: that is as the
settings say (image_size, image_fit, mean, std), or as `--family convirt` and the like know it. Of several in
a file that is read which is no momentum encoder or teacher, and then the one with the shortest name.
"""

from hilum.images.spec import InputSpec
from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, counted, prefixes_of, under, without_module
from hilum.models.zoo._networks import resnet, resnet_arch


def plain_resnet(file: ForeignFile, spec: InputSpec | None) -> Plan:
    """The ResNet of a file, under whatever one prefix it is."""
    tensors = without_module(file.tensors)
    prefixes = prefixes_of(tensors, "conv1.weight")
    found = [one for one in prefixes if resnet_arch(under(tensors, one))] or ["network."]
    names = [one.rstrip(".") or "the one without a prefix" for one in found]
    arch, kept = resnet(file, under(tensors, found[0]), "network" if not found[0] else names[0])
    adapted = (f"of several networks {names[0]} is read, not {', '.join(names[1:])}",) if names[1:] else ()
    return Plan(arch, spec, kept, left=counted(file, kept, head=r"(^|\.)fc\."), adapted=adapted)


FAMILY = Family(
    name="torchvision or timm ResNet",
    source="https://github.com/pytorch/vision",
    licence="as its publisher says",
    keys=(r"(.*\.)?conv1\.weight$", r"(.*\.)?layer1\.0\.conv1\.weight$", r"(.*\.)?layer4\.1\.bn2\.weight$"),
    read=lambda file: plain_resnet(file, None),
    generic=True,
    namesakes="a plain file of ConVIRT (cxrlearn's convirt_chest_mimic.pt), LoVT (backbone_weights.pt) or "
    "Barlow Twins (resnet50.pth), which have the same names: if it is one, say --family convirt, lovt or "
    "barlow_twins, and films are seen as it saw them",
)
