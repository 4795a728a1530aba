"""The configuration: one TOML file, which is read, checked as a whole, and then frozen."""

from railwatch.config.errors import ConfigError, Problem
from railwatch.config.loading import VARIABLE, find_config, load_config
from railwatch.config.models import (
    AssetConfig,
    Config,
    DatabaseConfig,
    HttpConfig,
    InvoicesConfig,
    LogConfig,
    PolicyConfig,
    RailConfig,
)
from railwatch.config.nodes import NodeConfig
from railwatch.config.parsing import seconds_of
from railwatch.config.webhooks import DeliverConfig, WebhookConfig

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
