"""Weights files: one self-describing .safetensors, and what is read from other people's files.

The header says what they are (`kind`, `arch`, `findings`, `input`, …): the file alone rebuilds the model.
An encoder's tensors have timm's own names: a plain timm model loads them. A scorer of patches lies beside.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
from torch import Tensor, nn

from hilum import find
from hilum.errors import ConfigError, MissingError, WeightsError
from hilum.images.spec import InputSpec
from hilum.models.classifier import Classifier
from hilum.models.detector import Detector
from hilum.models.encoder import Encoder, sum_stem
from hilum.models.pooling import MEAN, Pooling
from hilum.models.recognise import Preprocessing, open_foreign

log = logging.getLogger(__name__)

HEADER = "hilum"
MODEL_FILE = "model.safetensors"

_BESIDE = ("top_k", "projection")
"""Parts of an encoder beside its network."""


@dataclass(frozen=True)
class Header:
    """What a weights file says of itself."""

    kind: Literal["encoder", "classifier", "detector"]
    arch: str
    input: InputSpec
    findings: tuple[str, ...] = ()
    exclusive: bool = False
    parent: str = ""
    """Where training started: a run, a weights file, imagenet or random."""
    notes: str = ""
    """Licence and terms that came with the parent's weights."""
    pooling: Pooling = MEAN
    """How the last map becomes an embedding."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Further arguments of the architecture's constructor."""
    detector: Mapping[str, Any] = field(default_factory=dict)
    """Of a detector: the file that defines it, the classes of films, and what it was built with."""

    def to_json(self) -> str:
        """One line, keys in order: equal models make equal files."""
        values: dict[str, Any] = {**asdict(self), "format": 1}
        new = asdict(InputSpec())
        for name in ("crop", "colour_mean", "colour_std", "upsample"):  # left out where they say nothing, too
            if values["input"][name] == new[name]:
                values["input"].pop(name)
        for name in ("project", "norm"):
            if not values["pooling"][name]:
                values["pooling"].pop(name)
        if self.pooling == MEAN:  # left out where they say nothing, so that older versions read the file
            values.pop("pooling")
        for name in ("options", "detector"):
            if not values[name]:
                values.pop(name)
        return json.dumps(values, sort_keys=True)


Model = Encoder | Classifier | Detector


def describe(model: Model, *, parent: str = "", notes: str = "") -> Header:
    """The header of a model."""
    encoder = model if isinstance(model, Encoder) else model.encoder
    built = {}
    if isinstance(model, Detector):
        built = {"name": model.name, "classes": model.classes, "settings": model.settings}
    return Header(
        "encoder" if isinstance(model, Encoder) else "detector" if built else "classifier",
        encoder.arch,
        encoder.input,
        findings=() if isinstance(model, Encoder) else model.findings,
        exclusive=model.exclusive if isinstance(model, Classifier) else False,
        parent=parent,
        notes=notes,
        pooling=encoder.pooling,
        options=encoder.options,
        detector=built,
    )


def to_bytes(model: Model, *, parent: str = "", notes: str = "") -> bytes:
    """The whole weights file; without notes it has those of the weights that its encoder began with."""
    notes = notes or (model if isinstance(model, Encoder) else model.encoder).notes
    part = model.net if isinstance(model, Encoder) else model
    named = dict(part.state_dict())
    if isinstance(model, Encoder):
        named |= {f"{name}.{key}": t for name, part in _beside(model) for key, t in part.state_dict().items()}
    tensors = {name: t.detach().cpu().contiguous() for name, t in named.items()}
    return safetensors.torch.save(tensors, {HEADER: describe(model, parent=parent, notes=notes).to_json()})


def locate(source: Path) -> Path:
    """The weights file of a run, or the file itself.

    Raises:
        MissingError: neither is there.
    """
    path = source / MODEL_FILE if source.is_dir() else source
    if path.is_file():
        return path
    cure = "give a run or a weights file"
    if not source.exists():
        beside = [other.name for other in source.parent.iterdir()] if source.parent.is_dir() else []
        near = find.nearest(source.name, beside)
        cure = f"did you mean {str(source.with_name(near))!r}?" if near else cure
    elif (source / "checkpoints").is_dir():
        cure = "the run is unfinished; its own command, given again, finishes it"
    elif (source / "cells").is_dir():
        cure = _way_to_a_cell(source)
    elif (source / "predictions.csv").is_file():
        cure = (
            "the run kept its predictions and no model: knn has none, and a logistic fit keeps its own only "
            "where it is alone, with one label fraction and one seed"
        )
    raise MissingError(f"{path}: no such weights file; {cure}")


def _way_to_a_cell(source: Path) -> str:
    cells = sorted(path.name for path in (source / "cells").iterdir() if path.is_dir())
    kept = [name for name in cells if (source / "cells" / name / MODEL_FILE).is_file()]
    if kept:
        return (
            f"the run holds {len(cells)} cells, and {len(kept)} have a model: {', '.join(kept[:6])}"
            f"{f' and {len(kept) - 6} more' if len(kept) > 6 else ''}; name one, as in "
            f"{source / 'cells' / kept[-1]}"
        )
    return (
        f"the run holds {len(cells)} cells and no model: of several only those fitted by gradient "
        "descent keep one, at their end. Fit one alone: one --label-fraction, one of --seeds, another --out"
    )


def load(source: Path) -> Model:
    """The model in a run or in one of this library's weights files, in evaluation mode.

    Raises:
        MissingError: there is no such file.
        WeightsError: it is no weights file of this library, is damaged, or does not fit its own header.
    """
    path = locate(source)
    header = read_header(path)
    if header is None:
        raise WeightsError(
            f"{path}: no {HEADER!r} header; weights of other libraries go to --init with --arch"
        )
    encoder = Encoder(header.arch, header.input, options=header.options, **asdict(header.pooling))
    tensors = read_tensors(path)
    if header.kind != "encoder":
        model: Classifier | Detector
        if header.kind == "detector":
            built = header.detector
            kind = detector_in(built["name"])
            model = kind(encoder, header.findings, tuple(built["classes"]), **built["settings"])
        else:
            model = Classifier(encoder, header.findings, exclusive=header.exclusive)
        fill(model, tensors, where=str(path))
        return model.eval()
    for name, part in _beside(encoder):
        keys = [key for key in tensors if key.startswith(f"{name}.")]
        fill(part, {key.removeprefix(f"{name}."): tensors.pop(key) for key in keys}, where=str(path))
    fill(encoder.net, tensors, where=str(path))
    encoder.notes = header.notes
    return encoder.eval()


def _beside(encoder: Encoder) -> list[tuple[str, nn.Module]]:
    parts = ((name, getattr(encoder, name)) for name in _BESIDE)
    return [(name, part) for name, part in parts if part is not None]


def detector_in(name: str) -> Any:
    """The detector that a file of `hilum.detectors` defines.

    Raises:
        ConfigError: there is no such file.
    """
    module = find.module("hilum.detectors", name)
    (found,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Detector) and value.__module__ == module.__name__
    )
    return found


def load_encoder(
    source: Path,
    *,
    arch: str,
    input_spec: InputSpec,
    options: Mapping[str, str] | None = None,
    pooling: Pooling | None = None,
    family: str = "",
    preprocessing: Preprocessing = "own",
) -> Encoder:
    """The encoder in a run, in this library's weights file, or in somebody else's (`open_foreign`).

    Of our own files everything is the header's, but for a pooling that is given. Where patches are scored and
    the file has no such scorer, it is new.

    Raises:
        WeightsError: a tensor of the encoder is not in the file, or has another shape.
        ConfigError: a family is named for a file of ours.
    """
    path = locate(source)
    if read_header(path) is None:
        encoder, loaded = open_foreign(
            path,
            family=family,
            preprocessing=preprocessing,
            arch=arch,
            input_spec=input_spec,
            options=options,
            pooling=pooling,
        )
        _tell(f"{path}:\n  " + "\n  ".join(loaded.lines()))
        return encoder
    if family or preprocessing != "own":
        raise ConfigError(
            f"{path}: is this library's own file, and says itself what it is and how it sees films"
        )
    model = load(path)
    encoder = model if isinstance(model, Encoder) else model.encoder
    if pooling not in (None, encoder.pooling):
        assert pooling is not None
        new = "; the scorer of patches is new" if encoder.top_k is None and pooling.pool == "top_k" else ""
        encoder.set_pooling(pooling)
        log.info("%s: pooled by %s from here on%s", path, pooling.pool, new)
    return encoder.eval()


@cache
def _tell(what: str) -> None:
    """Once in a process: every cell of a transfer opens the file."""
    log.info("%s", what)


def fill(module: nn.Module, tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Loads every tensor of a module from a mapping, and says which of the mapping were not used.

    Raises:
        WeightsError: a tensor is missing or of another shape; the message counts and names them.
    """
    own = module.state_dict()
    given = sum_stem(tensors, own)
    # Many published files are older than this counter, which only a cumulative BatchNorm reads.
    missing = [name for name in own if name not in given and not name.endswith("num_batches_tracked")]
    misfit = [
        f"{name} is {tuple(given[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own
        if name in given and given[name].shape != own[name].shape
    ]
    if missing or misfit:
        some = "; ".join([*(f"{name} is missing" for name in missing[:5]), *misfit[:5]])
        raise WeightsError(
            f"{where}: {len(own) - len(missing) - len(misfit)} of {len(own)} tensors fit; {some}. "
            "Nothing was loaded. Is --arch the one these weights belong to?"
        )
    module.load_state_dict({name: given.get(name, own[name]) for name in own})
    unused = sorted(set(given) - set(own))
    _tell(f"{where}: all {len(own)} tensors loaded" + (f", not used: {', '.join(unused)}" if unused else ""))


def read_header(path: Path) -> Header | None:
    """The header of one of this library's files; None for anybody else's.

    Raises:
        WeightsError: the file is damaged, or its header is from a newer version.
    """
    if path.suffix != ".safetensors":
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path}: not readable as safetensors ({error}); the file is damaged or cut off"
        ) from None
    if HEADER not in metadata:
        return None
    values: dict[str, Any] = json.loads(metadata[HEADER])
    version = values.pop("format", None)
    if version != 1:
        raise WeightsError(f"{path}: weights format {version}, this version reads format 1; update hilum")
    values["input"] = InputSpec.from_dict(values["input"])
    values["findings"] = tuple(values["findings"])
    values["pooling"] = Pooling(**values.get("pooling", {}))
    return Header(**values)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of one of this library's files.

    Raises:
        WeightsError: the file is damaged.
    """
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not readable as weights: {str(error).splitlines()[0]}") from None
