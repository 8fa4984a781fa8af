"""The blocks of a network, in the order that an image passes them, and how to train only the last of them.

Frozen means whole: weights get no gradient, and the block stays in evaluation mode, so that its BatchNorm
keeps its statistics too.
"""

from torch import nn

from hilum.errors import ConfigError
from hilum.find import did_you_mean
from hilum.models.encoder import Encoder


def blocks(net: nn.Module) -> dict[str, nn.Module]:
    """The parts of a network that hold weights, by name: conv1, bn1, layer1, … of a ResNet, for example.

    They are its children; one that is a row of stages (features of a DenseNet, blocks of a ViT) stands there
    as those. Its own classifier is none of them.
    """
    return {name: part for name, part in _parts(net).items() if _sizes(part)}


def freeze_before(encoder: Encoder, name: str) -> list[nn.Module]:
    """Takes the gradient from all that comes before a block.

    Class tokens and positions, which are in no block, count with the first one.

    Returns:
        What has to stay in evaluation mode.

    Raises:
        ConfigError: the encoder has no such block.
    """
    known = list(blocks(encoder.net))
    if name not in known:
        named = f"its blocks are {', '.join(known)}" if known else "it has none to train"
        near = did_you_mean(name, known)
        raise ConfigError(f"--train-from: {encoder.arch} has no block {name!r}{near} ({named})")
    if name == known[0]:
        return []
    parts = _parts(encoder.net)
    order = list(parts)
    trained = {id(w) for part in order[order.index(name) :] for w in parts[part].parameters()}
    for weight in encoder.net.parameters():
        weight.requires_grad_(id(weight) in trained)
    return [parts[part] for part in order[: order.index(name)]]


def distances(net: nn.Module) -> dict[str, int]:
    """How many blocks there are from each weight, by its name, to the head; the last block is 1.

    As in BEiT and MAE, whose ViT of 12 blocks has its patches at 13, its first block at 12, and its last norm
    with the head at 0. A norm that stands alone elsewhere counts with the block before it.
    """
    of_block: dict[str, int] = {}
    after = 0
    for name, part in reversed(blocks(net).items()):
        lone_norm = max(_sizes(part)) <= 1
        after += not lone_norm
        of_block[name] = after + (lone_norm and after > 0)
    first = max(of_block.values(), default=0)
    return {
        weight: next((n for block, n in of_block.items() if weight.startswith(f"{block}.")), first)
        for weight, _ in net.named_parameters()
    }


def _parts(net: nn.Module) -> dict[str, nn.Module]:
    """All parts in order, those without weights too: dropout before a trained block has to rest with it."""
    config = getattr(net, "pretrained_cfg", None) or {}
    heads = config.get("classifier") or ()
    heads = {head.split(".")[0] for head in ((heads,) if isinstance(heads, str) else heads)}
    stages = [stage["module"] for stage in getattr(net, "feature_info", ())]
    children = {name: child for name, child in net.named_children() if name not in heads}
    alone = sum(bool(_sizes(child)) for child in children.values()) == 1
    found: dict[str, nn.Module] = {}
    for name, child in children.items():
        inner = dict(child.named_children())
        if inner and (alone or any(stage.startswith(f"{name}.") for stage in stages)):
            found |= {f"{name}.{place}": part for place, part in inner.items()}
        else:
            found[name] = child
    return found


def _sizes(part: nn.Module) -> list[int]:
    """How many dimensions each weight has."""
    return [weight.ndim for weight in part.parameters()]
