"""litefleet.yaml: its shape, and how it is read and checked."""

from .load import config_schema, load_config, runtimes_for
from .model import Config, ModelConfig

__all__ = ["Config", "ModelConfig", "config_schema", "load_config", "runtimes_for"]
