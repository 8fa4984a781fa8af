"""Weights files: one self-describing .safetensors, and what is read from other people's files.

The header says what they are (`kind`, `arch`, `findings`, `input`, …): the file alone rebuilds the model.
An encoder's tensors have timm's own names: a plain timm model loads them. A scorer of patches lies beside.
"""

import json
import logging
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from hilum import find
from hilum.errors import MissingError, WeightsError
from hilum.images.spec import InputSpec
from hilum.models.classifier import Classifier
from hilum.models.detector import Detector
from hilum.models.encoder import Encoder, sum_stem
from hilum.models.pooling import MEAN, Pooling

log = logging.getLogger(__name__)

HEADER = "hilum"
MODEL_FILE = "model.safetensors"

_SCORER = "top_k."


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
        values = {**asdict(self), "format": 1}
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
    """The whole weights file."""
    part = model.net if isinstance(model, Encoder) else model
    named = dict(part.state_dict())
    if isinstance(model, Encoder) and model.top_k is not None:
        named |= {_SCORER + name: t for name, t in model.top_k.state_dict().items()}
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
    if (source / "checkpoints").is_dir():
        cure = "the run is unfinished; its own command, given again, finishes it"
    elif (source / "predictions.csv").is_file():
        cure = (
            "the run kept its predictions and no model: knn has none, and a logistic fit keeps its own only "
            "where it is alone, with one label fraction and one seed"
        )
    raise MissingError(f"{path}: no such weights file; {cure}")


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
    scorer = {name: tensors.pop(name) for name in list(tensors) if name.startswith(_SCORER)}
    fill(encoder.net, tensors, where=str(path))
    if encoder.top_k is not None:
        fill(encoder.top_k, {n.removeprefix(_SCORER): t for n, t in scorer.items()}, where=str(path))
    return encoder.eval()


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
    pooling: Pooling = MEAN,
) -> Encoder:
    """The encoder in a run, in this library's weights file, or in a plain timm or torchvision state dict.

    For our own files everything is the header's, but a pooling that is not the mean replaces the file's;
    for others' it is the arguments'. Where patches are scored and the file has no such scorer, it is new.

    Raises:
        WeightsError: a tensor of the encoder is not in the file, or has another shape.
    """
    path = locate(source)
    header = read_header(path)
    if header is not None:
        model = load(path)
        encoder = model if isinstance(model, Encoder) else model.encoder
    else:
        encoder = Encoder(arch, input_spec, options=options)
        fill(encoder.net, read_tensors(path), where=str(path))
    if pooling not in (MEAN, encoder.pooling):
        new = "; the scorer of patches is new" if encoder.top_k is None and pooling.pool == "top_k" else ""
        encoder.set_pooling(pooling)
        log.info("%s: pooled by %s from here on%s", path, pooling.pool, new)
    return encoder.eval()


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
    log.info(
        "%s: all %d tensors loaded%s", where, len(own), f", not used: {', '.join(unused)}" if unused else ""
    )


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
    """The tensors of a .safetensors file, or of a state dict saved by torch (read without running its code).

    Raises:
        WeightsError: the file is damaged, or holds anything but tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (safetensors.SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise WeightsError(f"{path}: not readable as weights: {str(error).splitlines()[0]}") from None
    except pickle.UnpicklingError:
        raise WeightsError(
            f"{path}: holds more than tensors and is refused, since reading it could run code"
        ) from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(t, Tensor) for t in content.values()):
        raise WeightsError(
            f"{path}: expected a state dict, names with tensors; found {type(content).__name__}"
        )
    return content
