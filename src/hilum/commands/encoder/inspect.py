"""hilum encoder inspect: whose a weights file is, and what would become of it."""

import logging
from pathlib import Path

from hilum.commands._open import input_spec, pooling_of
from hilum.config import EncoderConfig
from hilum.errors import ConfigError
from hilum.models.recognise import open_foreign, seen
from hilum.models.weights import locate, read_header

EXAMPLE = "hilum encoder inspect chexzero.pt"
TAKES = "file"

log = logging.getLogger(__name__)


class Settings(EncoderConfig):
    """Says what a weights file is, what of it would be used, and how it sees films; nothing is written.

    Every tensor of the encoder has to be in the file, or it is refused with what is missing and the nearest
    families. Nothing in the file is run.
    """

    file: Path
    """A checkpoint of anybody's, one of this library's files, or a run."""


def inspect(config: Settings) -> None:
    """Prints what was found.

    Raises:
        WeightsError: the file is of no known family, or lacks something; the message says what there is.
        ConfigError: a family is named for a file of ours.
    """
    path = locate(config.file)
    header = read_header(path)
    if header is not None:
        if config.family or config.preprocessing != "own":
            raise ConfigError(
                f"{path}: is this library's own file, and says itself what it is and how it sees films; "
                "leave out --family and --preprocessing"
            )
        pooling = pooling_of(config) or header.pooling
        projected = f", projected to {pooling.project} numbers" if pooling.project else ""
        log.info(
            "%s: a file of this library\n  kind: %s\n  encoder: %s\n  sees: %s\n  embedding: %s%s%s%s%s",
            path, header.kind, header.arch, seen(header.input), pooling.pool, projected,
            f"\n  findings: {', '.join(header.findings)}" if header.findings else "",
            f"\n  began as: {header.parent}" if header.parent else "",
            f"\n  notes: {header.notes}" if header.notes else "",
        )  # fmt: skip
        return
    encoder, loaded = open_foreign(
        path,
        family=config.family,
        preprocessing=config.preprocessing,
        arch=config.arch,
        input_spec=input_spec(config),
        options=config.arch_options,
        pooling=pooling_of(config),
    )
    weights = sum(p.numel() for p in encoder.parameters())
    log.info(
        "%s:\n  %s\n  embedding: %d numbers (%s); %.1f million weights",
        path,
        "\n  ".join(loaded.lines()),
        encoder.num_features,
        encoder.pooling.pool + (", projected" if encoder.pooling.project else ""),
        weights / 1e6,
    )
