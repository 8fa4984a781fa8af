"""What commands, methods and detectors can be told: typed settings, and those that several of them share."""

from hilum.config.base import Config, flag, joined, read_yaml, settings_in
from hilum.config.films import EncoderConfig, PairsConfig, RecordsConfig, StoreConfig, ViewsConfig
from hilum.config.scoring import ScoringConfig
from hilum.config.training import CellsConfig, PretextConfig, StepConfig, TextConfig, TrainConfig

__all__ = [
    "CellsConfig",
    "Config",
    "EncoderConfig",
    "PairsConfig",
    "PretextConfig",
    "RecordsConfig",
    "ScoringConfig",
    "StepConfig",
    "StoreConfig",
    "TextConfig",
    "TrainConfig",
    "ViewsConfig",
    "flag",
    "joined",
    "read_yaml",
    "settings_in",
]
