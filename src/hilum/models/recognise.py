"""Whose checkpoint a file is, and the encoder that it becomes: all of it, or a message that says why not."""

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from hilum import find
from hilum.errors import ConfigError, WeightsError
from hilum.images.spec import InputSpec
from hilum.models.encoder import Encoder, sum_stem
from hilum.models.foreign import ForeignFile, read_foreign
from hilum.models.pooling import Pooling
from hilum.models.zoo._family import CLIP, Family, Plan

log = logging.getLogger(__name__)

ZOO = "hilum.models.zoo"
SHOWN = 6
NEW_SCORER = "pooled by top_k from here on; the scorer of patches is new"
COUNTER = "num_batches_tracked"
"""Many published files are older than it; only a cumulative BatchNorm reads it."""
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
        rest = ", ".join(f"{count} {what}" for what, count in self.left.items())
        about = self.about
        told = {
            "family": f"{about.name} ({self.family})" if about else "a plain state dict",
            "source": about.source if about else "",
            "licence": about.licence if about else "",
            "encoder": self.plan.arch,
            "tensors": f"all {self.matched} of the encoder are in the file",
            "left out": rest,
            "unexpected": ", ".join(self.unexpected[:SHOWN]),
            "adapted": "; ".join(self.adapted),
            "sees": seen(self.input),
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
    elif (plain := _plain(file, arch, input_spec, options or {})) is not None:
        plan = plain
    else:
        name, about, plan = _generic(file, arch)
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
        path, _hash(path), name, about, plan, spec, len(encoder.net.state_dict()), plan.left, unexpected,
        (*plan.adapted, *adapted, *([NEW_SCORER] if encoder.top_k is not None else [])),
        file.stubs,
    )  # fmt: skip
    return encoder.eval(), loaded


def fit_tensors(
    encoder: Encoder, tensors: Mapping[str, Tensor], path: Path
) -> tuple[tuple[str, ...], list[str]]:
    """Loads every tensor of the network; what was unexpected, and what was adapted on the way.

    Raises:
        WeightsError: one is missing or of another shape. Nothing is loaded then.
    """
    own = encoder.net.state_dict()
    given, adapted = dict(tensors), []
    stem = next((n for n, t in own.items() if t.ndim == 4 and n in given), "")
    if stem and given[stem].shape[1] == 3 and own[stem].shape[1] == 1:
        adapted.append(f"{stem}: three channels summed to one grey channel")
    given = sum_stem(given, own)
    if stem and given[stem].shape[1] == 1 and own[stem].shape[1] == 3:
        given[stem] = given[stem].expand(-1, 3, -1, -1) / 3
        adapted.append(f"{stem}: one grey channel spread over three")
    positions = given.get("pos_embed")
    if positions is not None and "pos_embed" in own and positions.shape != own["pos_embed"].shape:
        given["pos_embed"] = _resampled(positions, own["pos_embed"].shape, encoder.net)
        adapted.append(f"positions of {positions.shape[-2]} places resampled to {own['pos_embed'].shape[-2]}")
    missing = [n for n in own if n not in given and not n.endswith(COUNTER)]
    misfit = [
        f"{n} is {tuple(given[n].shape)}, expected {tuple(own[n].shape)}"
        for n in own
        if n in given and given[n].shape != own[n].shape
    ]
    if missing or misfit:
        some = "; ".join([*(f"{n} is missing" for n in missing[:SHOWN]), *misfit[:SHOWN]])
        raise WeightsError(
            f"{path}: {len(own) - len(missing) - len(misfit)} of {len(own)} tensors of {encoder.arch} fit; "
            f"{some}. Nothing was loaded"
        )
    encoder.net.load_state_dict({n: given.get(n, own[n]) for n in own})
    return tuple(sorted(set(given) - set(own))), adapted


def _resampled(positions: Tensor, shape: tuple[int, ...], net: nn.Module) -> Tensor:
    prefix = 0 if getattr(net, "no_embed_class", False) else int(getattr(net, "num_prefix_tokens", 1))
    side = round((shape[-2] - prefix) ** 0.5)
    out: Tensor = resample_abs_pos_embed(positions, [side, side], num_prefix_tokens=prefix)
    return out


def _read(about: Family, file: ForeignFile) -> Plan:
    try:
        return about.read(file)
    except KeyError as error:
        raise WeightsError(f"{file.path}: is no file of {about.name}: it has no {error}") from None


def _plain(file: ForeignFile, arch: str, spec: InputSpec, options: Mapping[str, str]) -> Plan | None:
    """The file as a state dict of the architecture that was named, if it is one."""
    own = Encoder(arch, spec, options=options).net.state_dict()
    for prefix in ("", "state_dict.", "model."):
        tensors = {n.removeprefix(prefix): t for n, t in file.tensors.items() if n.startswith(prefix)}
        if all(n in tensors and _alike(tensors[n], t) for n, t in own.items() if not n.endswith(COUNTER)):
            return Plan(arch, None, tensors, options=options)
    return None


def _alike(given: Tensor, own: Tensor) -> bool:
    """Whether one can stand for the other: of equal shape, or a stem of three channels for one."""
    return given.shape == own.shape or (given.ndim == 4 and given.shape[1] == 3 and own.shape[1] == 1)


def _generic(file: ForeignFile, arch: str) -> tuple[str, Family, Plan]:
    for name, one in families().items():
        if one.generic and one.share(file) == 1:
            return name, one, _read(one, file)
    raise WeightsError(unknown(file, arch))


def unknown(file: ForeignFile, arch: str) -> str:
    """What can be said of a file that nobody knows."""
    nearest = sorted(((one.share(file), name) for name, one in families().items()), reverse=True)[:3]
    near = ", ".join(f"{name} ({share:.0%} of its keys)" for share, name in nearest if share > 0) or "none"
    net = Encoder(arch, InputSpec()).net.state_dict()
    own = [name for name in net if not name.endswith(COUNTER)]
    plain = [name for name in own if name in file.tensors]
    misfit = [
        f"{name} is {tuple(file.tensors[name].shape)}, expected {tuple(net[name].shape)}"
        for name in plain
        if not _alike(file.tensors[name], net[name])
    ]
    if len(plain) > len(own) / 2:
        absent = [f"{name} is missing" for name in own if name not in file.tensors]
        return (
            f"{file.path}: {len(plain) - len(misfit)} of {len(own)} tensors of --arch {arch} fit; "
            f"{'; '.join((absent + misfit)[:SHOWN])}. Nothing was loaded. Nearest families: {near}"
        )
    starts = r"^.*?(?=(conv1|layer1|features|blocks|patch_embed|stages|conv_stem))"
    ends = {re.sub(starts, "", name) for name in file.tensors}
    shown = [f"{name} {tuple(tensor.shape)}" for name, tensor in list(file.tensors.items())[:SHOWN]]
    return (
        f"{file.path}: a checkpoint of no known family; {len(file.tensors):,} tensors, the first: "
        f"{', '.join(shown)}. {len(ends.intersection(own))} of {len(own)} names of --arch {arch} are in it "
        f"under some prefix. Nearest families: {near}. Choose with --family, name the architecture of a "
        "plain state dict with --arch, or rename its keys to timm's"
    )


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
