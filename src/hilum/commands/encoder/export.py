"""hilum encoder export: an encoder as files that other programs read."""

import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Float
from pydantic import PositiveFloat, field_validator
from torch import Tensor, nn

from hilum.commands._open import open_encoder
from hilum.config import EncoderConfig
from hilum.durable import write_atomically
from hilum.errors import DependencyError, NumericalError, OutputError
from hilum.models.encoder import Encoder
from hilum.models.weights import describe, to_bytes

EXAMPLE = "hilum encoder export runs/simclr --out exported"
TAKES = "init"

log = logging.getLogger(__name__)


class Settings(EncoderConfig):
    """Writes an encoder for other programs, with a card that says how it has to be fed."""

    init: str
    """The encoder: a run, or a weights file of ours or of others."""
    out: Path
    """The folder that is written; it must not exist."""
    formats: list[Literal["safetensors", "timm", "onnx"]] = ["safetensors", "timm"]
    """safetensors: encoder.safetensors, which --init takes. timm: timm.safetensors, a state dict by timm's
    names. onnx: encoder.onnx, from films to embeddings, checked (needs the extra onnx)."""
    tolerance: PositiveFloat = 1e-4
    """onnx: the largest difference from the encoder's embeddings that is let pass, relative to their size."""

    @field_validator("formats")
    @classmethod
    def _check_formats(cls, given: list[str]) -> list[str]:
        if not given:
            raise ValueError("expected one or more of safetensors, timm, onnx")
        return given


def export(config: Settings) -> Path:
    """Writes the files and returns their folder.

    Raises:
        NumericalError: the ONNX file computes something else.
        DependencyError: onnx or onnxruntime is not installed.
    """
    if config.out.exists():
        raise OutputError(f"{config.out}: is there already; give another --out or remove it")
    encoder = open_encoder(config.init, config, seed=0).eval()
    config.out.mkdir(parents=True)
    if "safetensors" in config.formats:
        write_atomically(config.out / "encoder.safetensors", to_bytes(encoder, parent=config.init))
    if "timm" in config.formats:
        plain = {name: tensor.contiguous() for name, tensor in encoder.net.state_dict().items()}
        write_atomically(config.out / "timm.safetensors", safetensors.torch.save(plain))
    card = {
        **json.loads(describe(encoder, parent=config.init, notes=encoder.notes).to_json()),
        "embedding": encoder.num_features,
        "channels": 3 if encoder.input.colour_mean else 1,
        "feed": _feed(encoder, config.formats),
    }
    if "onnx" in config.formats:
        card["onnx_largest_difference"] = _write_onnx(encoder, config.out / "encoder.onnx", config.tolerance)
    write_atomically(config.out / "card.json", (json.dumps(card, indent=1, sort_keys=True) + "\n").encode())
    log.info("%s: %s and card.json", config.out, ", ".join(config.formats))
    return config.out


def _feed(encoder: Encoder, formats: Sequence[str]) -> dict[str, str]:
    """How each of the files is fed, in words."""
    spec = encoder.input
    film = f"one grey channel in [0, 1] of {spec.side} by {spec.side} pixels, fitted as input.fit says"
    if spec.crop < 1:
        film += f", of which the middle {spec.crop:g} is taken"
    normalised = f"{film}, minus {spec.mean:g}, over {spec.std:g}"
    bare = normalised
    if spec.colour_mean:
        bare += ", three times, minus input.colour_mean, over input.colour_std"
    if spec.upsample:
        bare += f", then enlarged to {spec.upsample} pixels (bilinear, corners aligned)"
    absent = [
        name
        for name, part in (("projection", encoder.projection), ("scorer of patches", encoder.top_k))
        if part
    ]
    if absent:
        bare += f"; the {' and '.join(absent)} of the encoder is not in this file"
    told = {
        "safetensors": ("encoder.safetensors", normalised),
        "timm": ("timm.safetensors", bare),
        "onnx": ("encoder.onnx", f"{film}; it is normalised inside"),
    }
    return dict(told[name] for name in formats)


class _Normalised(nn.Module):
    """Grey levels in [0, 1] in, embeddings out: who runs the file need not know mean and deviation."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Float[Tensor, "B 1 S S"]) -> Float[Tensor, "B E"]:
        spec = self.encoder.input
        embedding: Tensor = self.encoder((images - spec.mean) / spec.std)
        return embedding


def _write_onnx(encoder: Encoder, path: Path, tolerance: float) -> float:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise DependencyError(f"{error.name} is not installed; pip install 'hilum[onnx]'") from None
    side = encoder.input.side
    torch.manual_seed(0)
    films = torch.rand(2, 1, side, side)
    told = _Normalised(encoder).eval()
    for name in ("onnxscript", "onnx_ir", "torch.onnx"):  # they tell each node that they fold
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch about itself
        torch.onnx.export(
            told,
            (films,),
            path,
            input_names=["images"],
            output_names=["embeddings"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for count in (2, 3):
        films = torch.rand(count, 1, side, side)
        with torch.inference_mode():
            ours = told(films).numpy()
        (theirs,) = session.run(None, {"images": films.numpy()})
        worst = max(worst, float(np.abs(ours - theirs).max() / max(float(np.abs(ours).max()), 1e-12)))
    if worst > tolerance:
        path.unlink()
        raise NumericalError(
            f"{path}: differs from the encoder by {worst:.2g}, more than {tolerance:g}; not kept"
        )
    return worst
