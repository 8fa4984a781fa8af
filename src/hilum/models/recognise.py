"""Whose checkpoint a file is, and the encoder that it becomes: all of it, or a message that says why not."""

import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from hilum import find
from hilum.durable import sha256
from hilum.errors import ConfigError, WeightsError
from hilum.images.spec import InputSpec
from hilum.models.encoder import Encoder
from hilum.models.fit_tensors import SHOWN, differences, fit_tensors, some, way_out
from hilum.models.foreign import ForeignFile, read_foreign
from hilum.models.pooling import Pooling
from hilum.models.zoo._family import (
    CLIP,
    COUNTER,
    Family,
    Plan,
    counted,
    fitting,
    matches,
    prefixes_of,
    under,
    without_module,
)

log = logging.getLogger(__name__)

ZOO = "hilum.models.zoo"
NEW_SCORER = "pooled by top_k from here on; the scorer of patches is new"
_OPTIMISER = r"(.*\.)?(exp_avg(_sq)?|max_exp_avg_sq|momentum_buffer|square_avg|acc_delta|sum|mu|step)$"
"""Names that torch's optimisers give to what they keep of each weight."""
Preprocessing = Literal["own", "clip", "settings"]
"""own: as the family saw films. clip: 224 pixels squeezed, CLIP's normalisation, as cxrlearn does for all.
settings: as image_size, image_fit, mean and std say."""


@dataclass(frozen=True)
class Loaded:
    """What was found in a file, and what became of it."""

    path: Path
    sha256: str
    family: str
    """The file of `hilum.models.zoo`; empty: a plain state dict of the architecture that was named."""
    about: Family | None
    plan: Plan
    input: InputSpec
    matched: int
    """Tensors of the encoder that came from the file: all of them."""
    left: Mapping[str, int]
    """Tensors of the file that are no part of the encoder, by what they are."""
    unexpected: tuple[str, ...]
    """Names that the family gave to tensors, and its encoder does not have."""
    adapted: tuple[str, ...]
    stubs: tuple[str, ...]
    """What the file names besides tensors, and was not imported."""

    def lines(self) -> list[str]:
        """It in words."""
        own = (
            ""
            if self.plan.input
            else "; as the settings say, for the file does not (--image-size, --image-fit, --mean, --std)"
        )
        rest = ", ".join(f"{count} {what}" for what, count in self.left.items())
        about = self.about
        told = {
            "family": f"{about.name} ({self.family})" if about else "a plain state dict",
            "may be": about.namesakes if about else "",
            "source": about.source if about else "",
            "licence": about.licence if about else "",
            "encoder": self.plan.arch,
            "tensors": f"all {self.matched} of the encoder are in the file",
            "left out": rest,
            "unexpected": ", ".join(self.unexpected[:SHOWN]),
            "adapted": "; ".join(self.adapted),
            "sees": seen(self.input) + own,
            "not imported": ", ".join(self.stubs[:SHOWN]),
            "sha256": self.sha256,
        }
        return [f"{name}: {value}" for name, value in told.items() if value]


def seen(spec: InputSpec) -> str:
    """How an encoder sees films, in words."""
    said = f"{spec.side} pixels, {spec.fit}, mean {spec.mean:.6g}, std {spec.std:.6g}"
    if spec.colour_mean:
        said += f", then three channels by {spec.colour_mean} and {spec.colour_std}"
    said += f", the middle {spec.crop:g} of the film" if spec.crop < 1 else ""
    return said + (f", enlarged to {spec.upsample}" if spec.upsample else "")


@cache
def families() -> dict[str, Family]:
    """All families, by their files."""
    return {name: find.module(ZOO, name).FAMILY for name in find.names(ZOO)}


def recognise(file: ForeignFile) -> str:
    """The family that a file is of; empty if none that is not generic knows it.

    Raises:
        ConfigError: several do.
    """
    known = [name for name, one in families().items() if not one.generic and one.share(file) == 1]
    if len(known) > 1:
        raise ConfigError(f"{file.path}: could be of {', '.join(known)}; choose with --family")
    return known[0] if known else ""


def open_foreign(
    path: Path,
    *,
    family: str = "",
    preprocessing: Preprocessing = "own",
    arch: str,
    input_spec: InputSpec,
    options: Mapping[str, str] | None = None,
    pooling: Pooling | None = None,
) -> tuple[Encoder, Loaded]:
    """The encoder in somebody else's file, and what was found there.

    Args:
        path: the file.
        family: whose it is; empty: it is recognised by its keys.
        preprocessing: how films are seen.
        arch: what a plain state dict is of that no family knows.
        input_spec: how that sees films, and others where they are told to.
        options: of the constructor of `arch`.
        pooling: in the place of the family's; None: as the family has it.

    Raises:
        MissingError: there is no such file.
        ConfigError: there is no such family, or the file could be of several.
        WeightsError: the file is damaged, or is not all that an encoder needs.
    """
    file = read_foreign(path)
    name = family or recognise(file)
    about: Family | None = None
    if name:
        if name not in families():
            raise ConfigError(
                f"--family {name}: there are {', '.join(families())}{find.did_you_mean(name, families())}"
            )
        about = families()[name]
        plan = _read(about, file)
        about = replace(about, namesakes="") if family else about
    else:
        name, about, plan = _generic(file, arch, input_spec, options or {})
    digest, stubs = sha256(path), file.stubs
    del file  # its heads, queues and optimisers take as much memory as what is kept
    spec = plan.input or input_spec
    if preprocessing == "clip":
        spec = InputSpec(side=224, fit="squash", upsample=spec.upsample, **CLIP)  # type: ignore[arg-type]
    elif preprocessing == "settings":
        spec = replace(input_spec, upsample=spec.upsample)
    used = plan.pooling if pooling is None else pooling
    if used.project != plan.pooling.project and used.project:
        raise ConfigError(f"{path}: came with no projection of {used.project} numbers")
    encoder = Encoder(plan.arch, spec, options=plan.options, **asdict(used))
    tensors = dict(plan.tensors)
    projection = tensors.pop("projection.weight", None)
    unexpected, adapted = fit_tensors(encoder, tensors, path)
    if encoder.projection is not None:
        assert projection is not None
        encoder.projection.load_state_dict({"weight": projection})
    if about is not None:
        encoder.notes = f"{about.name}, {about.source}; licence: {about.licence}"
    loaded = Loaded(
        path, digest, name, about, plan, spec, len(encoder.net.state_dict()), plan.left, unexpected,
        (*plan.adapted, *adapted, *([NEW_SCORER] if encoder.top_k is not None else [])),
        stubs,
    )  # fmt: skip
    return encoder.eval(), loaded


def _read(about: Family, file: ForeignFile) -> Plan:
    try:
        return about.read(file)
    except KeyError as error:
        raise WeightsError(f"{file.path}: is no file of {about.name}: it has no {error}") from None


def _plain(file: ForeignFile, arch: str, spec: InputSpec, options: Mapping[str, str]) -> Plan | None:
    """The file as a state dict of the architecture that was named, if it is one and no larger one's."""
    own = Encoder(arch, spec, options=options).net.state_dict()
    tensors = without_module(file.tensors)
    prefixes = prefixes_of(tensors, next(iter(own), "nothing"))
    given = next((one for p in prefixes if matches(one := under(tensors, p), own)), None)
    if given is None:
        return None
    return Plan(arch, None, given, options=options, left=counted(file, given, optimizer="^optim"))


def _generic(
    file: ForeignFile, arch: str, spec: InputSpec, options: Mapping[str, str]
) -> tuple[str, Family | None, Plan]:
    """The file as the architecture that was named, or else as what its names and shapes say."""
    plain = _plain(file, arch, spec, options)
    for name, one in families().items():
        if one.generic and one.share(file) == 1:
            if plain is None:
                return name, one, _read(one, file)
            try:
                found = _read(one, file)
            except WeightsError:
                continue  # what it cannot tell, --arch did
            if found.arch == plain.arch:
                return name, one, plain if options else found
    if plain is None:
        raise WeightsError(unknown(file, arch))
    return "", None, plain


def unknown(file: ForeignFile, arch: str) -> str:
    """What can be said of a file that nobody knows, and what to do about it."""
    count = f"{len(file.tensors):,} tensor{'s' if len(file.tensors) > 1 else ''}"
    if all(re.match(_OPTIMISER, name) for name in file.tensors):
        return (
            f"{file.path}: the state of an optimiser ({count}, the first: {next(iter(file.tensors))}) and no "
            "network; give the file with the model's weights, which usually lies beside it"
        )
    net = Encoder(arch, InputSpec()).net.state_dict()
    tensors = without_module(file.tensors)
    given = under(tensors, next(iter(prefixes_of(tensors, next(iter(net), "nothing"))), ""))
    wrong, count_fit = differences(given, net), fitting(given, net)
    shares = sorted(((one.share(file), name) for name, one in families().items()), reverse=True)[:3]
    near = ", ".join(f"{name} ({share:.0%} of its keys)" for share, name in shares if share > 0)
    if count_fit > len(net) / 2:
        return (
            f"{file.path}: {count_fit} of {len(net)} tensors of --arch {arch} fit; {some(wrong)}. Nothing "
            f"was loaded: {way_out(wrong)}" + (f". Nearest families: {near}" if near else "")
        )
    weights = {name: tensor for name, tensor in file.tensors.items() if not name.endswith(COUNTER)}
    shown = [f"{name} {tuple(tensor.shape)}" for name, tensor in list(weights.items())[:SHOWN]]
    itself = [str(file.facts[key]) for key in ("arch", "model_name", "opt.model") if key in file.facts]
    return (
        f"{file.path}: a checkpoint of no known family; {count}, the first: {', '.join(shown)}. "
        + (f"It calls itself {itself[0]}. " if itself else "")
        + f"Nearest families: {near or 'none'}. If you know whose it is, say --family. If it is a plain "
        f"state dict of a network of timm or torchvision (not of {arch}, which was tried), say of which, as "
        "--arch mixnet_s or --arch torchvision/squeezenet1_0. Else rename its tensors to those of such a "
        "network and save them again"
    )
