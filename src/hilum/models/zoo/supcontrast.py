"""SupContrast: ResNets trained by supervised contrast (SupCon) or by cross entropy (SupCE).

Khosla et al. 2020, https://github.com/HobbitLong/SupContrast. Files: {opt, model, optimizer, epoch}, where
model has `encoder.*` and `head.*` (SupCon) or `fc.*` (SupCE), with `module.` wherever several GPUs put it.
The repository's own ResNets are for images of 32 pixels (a stem of 3x3 pixels, `shortcut`): they are refused.
The embedding is the mean over places.

`opt` may say size, mean and std; what it does not say is as LoVT saw films: 224 pixels, padded, by the mean
and deviation of RSNA's.
"""

import ast

from hilum.images.spec import InputSpec
from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, counted, under, without_module
from hilum.models.zoo._networks import resnet
from hilum.models.zoo.lovt import MEAN, STD


def _read(file: ForeignFile) -> Plan:
    arch, kept = resnet(file, under(without_module(under(file.tensors, "model.")), "encoder."), "encoder")
    left = counted(file, kept, optimizer="^optimizer", head=r"^model\.(module\.)?(head|fc|encoder\..*fc)\.")
    return Plan(arch, _spec(file), kept, left=left)


def _spec(file: ForeignFile) -> InputSpec:
    size = file.facts.get("opt.size")
    side = size if isinstance(size, int) and size > 0 else 224
    mean, std = _numbers(file, "opt.mean"), _numbers(file, "opt.std")
    if not (mean and std and len(mean) == len(std) and all(std)):
        return InputSpec(side=side, fit="pad", mean=MEAN, std=STD)
    if len(mean) != 3 or len({*mean}) == len({*std}) == 1:
        return InputSpec(side=side, fit="pad", mean=mean[0], std=std[0])
    return InputSpec(side=side, fit="pad", mean=0.0, std=1.0, colour_mean=mean, colour_std=std)


def _numbers(file: ForeignFile, name: str) -> tuple[float, ...]:
    """What the file says under a name, as text like `(0.485, 0.456, 0.406)`; none where it says none."""
    said = file.facts.get(name)
    if not isinstance(said, str) or len(said) > 200:  # a parser can be broken by what is deep enough
        return (float(said),) if isinstance(said, int | float) else ()
    try:
        value = ast.literal_eval(said)
    except (ValueError, SyntaxError):
        return ()
    numbers = value if isinstance(value, tuple | list) else (value,)
    return tuple(float(n) for n in numbers) if all(isinstance(n, int | float) for n in numbers) else ()


FAMILY = Family(
    name="SupContrast (SupCon, SupCE)",
    source="https://github.com/HobbitLong/SupContrast",
    licence="BSD-2-Clause (code); weights by the terms of their films",
    keys=(
        r"model\.(module\.)?encoder\.(module\.)?conv1\.weight$",
        r"model\.(module\.)?encoder\.(module\.)?layer4\.1\.bn2\.weight$",
        r"model\.(module\.)?(head|fc)\.",
    ),
    read=_read,
)
