"""The configuration: one TOML file, read whole, checked whole, and frozen."""

from indexer.config.loading import VARIABLE, find_config, load_config
from indexer.config.models import (
    AssetConfig,
    Config,
    DatabaseConfig,
    HttpConfig,
    InvoicesConfig,
    LogConfig,
    PolicyConfig,
    RailConfig,
)
from indexer.config.nodes import NodeConfig
from indexer.config.problems import ConfigError, Problem
from indexer.config.units import seconds_of
from indexer.config.webhooks import DeliverConfig, WebhookConfig

__all__ = [
    "VARIABLE",
    "AssetConfig",
    "Config",
    "ConfigError",
    "DatabaseConfig",
    "DeliverConfig",
    "HttpConfig",
    "InvoicesConfig",
    "LogConfig",
    "NodeConfig",
    "PolicyConfig",
    "Problem",
    "RailConfig",
    "WebhookConfig",
    "find_config",
    "load_config",
    "seconds_of",
]
