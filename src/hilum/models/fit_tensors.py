"""Puts tensors of a file into an encoder: one for every weight of it, or none and a message that says why."""

from collections.abc import Mapping
from pathlib import Path

from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from hilum.errors import WeightsError
from hilum.models.encoder import Encoder, sum_stem
from hilum.models.zoo._family import COUNTER, alike, fitting, surplus

SHOWN = 6
"""Names in a message."""


def fit_tensors(
    encoder: Encoder, tensors: Mapping[str, Tensor], path: Path
) -> tuple[tuple[str, ...], list[str]]:
    """Loads every tensor of the network; what was unexpected, and what was adapted on the way.

    Raises:
        WeightsError: one is missing or of another shape, or the file has more layers. Nothing is loaded then.
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
    wrong = differences(given, own)
    if wrong:
        raise WeightsError(
            f"{path}: {fitting(given, own)} of {len(own)} tensors of {encoder.arch} fit; {some(wrong)}. "
            f"Nothing was loaded: {way_out(wrong)}"
        )
    encoder.net.load_state_dict({n: given.get(n, own[n]) for n in own})
    return tuple(sorted(set(given) - set(own))), adapted


def _resampled(positions: Tensor, shape: tuple[int, ...], net: nn.Module) -> Tensor:
    prefix = 0 if getattr(net, "no_embed_class", False) else int(getattr(net, "num_prefix_tokens", 1))
    side = round((shape[-2] - prefix) ** 0.5)
    out: Tensor = resample_abs_pos_embed(positions, [side, side], num_prefix_tokens=prefix)
    return out


def differences(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Why tensors are not those of a network, in words: what is missing, misshapen or too much."""
    return [
        *(f"{n} is missing" for n in own if n not in given and not n.endswith(COUNTER)),
        *(
            f"{n} is {tuple(given[n].shape)}, expected {tuple(own[n].shape)}"
            for n in own
            if n in given and not alike(given[n], own[n])
        ),
        *([f"its layers have {len(more)} more, as {more[0]}"] if (more := surplus(given, own)) else []),
    ]


def some(wrong: list[str]) -> str:
    """The first of the differences, and how many more there are."""
    return "; ".join(wrong[:SHOWN]) + (f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else "")


def way_out(wrong: list[str]) -> str:
    """What to do about differences."""
    if all(one.endswith("is missing") for one in wrong):
        return "download it again, or ask for one that was saved whole"
    return "it is of another architecture; say of which with --arch"
