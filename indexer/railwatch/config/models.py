"""The tables of the configuration. An error quotes a field's description as the fix.

Validators raise ValueError with a predicate ("is no CAIP-2 id"), which follows the path and the value.
"""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from railwatch.config.base import NAME, Table
from railwatch.config.nodes import NodeConfig, revealed, secrets_of
from railwatch.config.parsing import check_dsn, host_and_port, require_visible, seconds_of, url_secrets
from railwatch.config.webhooks import DeliverConfig, WebhookConfig
from railwatch.core.policy import Policy
from railwatch.dsn import dsn_secrets
from railwatch.known_chains import paces
from railwatch.rail.printable import quoted
from railwatch.rail.types import AssetSpec, ChainId

CAIP_2 = re.compile(r"[-a-z0-9]{3,8}:[-_a-zA-Z0-9]{1,32}")
TEN_YEARS = 315_360_000


class DatabaseConfig(Table):
    """The database. ``url``: a DSN, which may contain a password, or ``embedded``."""

    url: SecretStr = Field(
        default=SecretStr("embedded"), description='"embedded" or a DSN that starts with postgresql://'
    )
    data_dir: Path = Field(
        default=Path(".railwatch/postgres"), validate_default=True, description="a folder for the embedded database"
    )

    @property
    def embedded(self) -> bool:
        """True if the daemon runs Postgres itself."""
        return self.url.get_secret_value() == "embedded"

    @field_validator("url")
    @classmethod
    def _url(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() != "embedded":
            check_dsn(value.get_secret_value())
        return value

    @field_validator("data_dir")
    @classmethod
    def _beside_the_file(cls, value: Path, info: ValidationInfo) -> Path:
        folder: Path = (info.context or {}).get("folder", Path())
        return (folder / value).absolute()


class AssetConfig(Table):
    """An asset to watch. Without ``contract`` it is the chain's native one."""

    symbol: str = Field(min_length=1, max_length=30, description='what people call it, such as "USDC"')
    contract: str | None = Field(default=None, min_length=1, max_length=200, description="the token's contract address")
    decimals: int | None = Field(default=None, ge=0, le=77, description="the token's decimals, from 0 to 77")
    min_amount: int = Field(
        default=0, ge=0, lt=10**78, description="base units: a smaller transfer is counted, but changes no state"
    )
    unallocated_min: int = Field(
        default=0,
        ge=0,
        lt=10**78,
        description="base units: a smaller transfer without its reference is recorded, but opens no exception",
    )

    @property
    def spec(self) -> AssetSpec:
        """The asset in the types of the seam."""
        return AssetSpec(self.symbol, self.contract, self.decimals)

    @field_validator("symbol", "contract")
    @classmethod
    def _seen(cls, value: str | None) -> str | None:
        if value is not None:
            require_visible(value)
        return value


class RailConfig(Table):
    """One rail: its chain, adapter, nodes and assets."""

    name: str = Field(description="a name of letters, digits, dots, hyphens and underscores")
    adapter: str = Field(description='the adapter, such as "evm"')
    chain_id: ChainId = Field(description='the CAIP-2 id, such as "eip155:1"')
    nodes: tuple[NodeConfig, ...] = Field(
        min_length=1, description='at least one node, such as [{ http = "http://..." }]'
    )
    assets: tuple[AssetConfig, ...] = Field(default=(), alias="asset", description="[[rail.asset]] tables")
    poll_interval: float | None = Field(
        default=None,
        ge=0.01,
        le=3600,
        description="seconds between polls, from 0.01 to 3600; default: 1, more at a metered node",
    )
    stall_after: float | None = Field(
        default=None,
        ge=0,
        le=TEN_YEARS,
        description="seconds without a block until the rail is stalled, 0 for never; default: by the known chain, else "
        "by its own block times",
    )
    finality_stall_after: float | None = Field(
        default=None,
        ge=0,
        le=TEN_YEARS,
        description="seconds that finality may be behind the newest block, 0 for no limit; default: by the known chain",
    )
    time_margin: Annotated[int, BeforeValidator(seconds_of)] = Field(
        default=5,
        ge=0,
        le=86_400,
        description='how long after its own time a block may arrive, such as "10s"; expiry waits for that',
    )
    stuck_after: Annotated[int, BeforeValidator(seconds_of)] = Field(
        default=7_200,
        ge=1,
        le=TEN_YEARS,
        description='how long a payment may stay unconfirmed before it opens stuck_confirming, such as "2h"',
    )
    blind_after: Annotated[int, BeforeValidator(seconds_of)] = Field(
        default=300,
        ge=30,
        le=TEN_YEARS,
        description='how long a rail may be blind before it opens detection_delayed, at least "30s"',
    )
    reconcile_every: Annotated[int, BeforeValidator(seconds_of)] = Field(
        default=600,
        ge=0,
        le=TEN_YEARS,
        description='how often balances are compared with detected payments, such as "10m"; 0 for never',
    )
    start_height: int | None = Field(
        default=None, ge=0, description="the first block to follow; default: the first above finality"
    )
    lookback: int | None = Field(default=None, ge=1, description="how many blocks a registration looks back")
    span_max: int | None = Field(default=None, ge=1, description="the most blocks of one query")
    horizon: int | None = Field(
        default=None, ge=1, description="the depth that counts as final on a rail without finality"
    )
    extra: dict[str, Any] = Field(default_factory=dict, alias="options", description="the adapter's own options")

    @property
    def options(self) -> Mapping[str, Any]:
        """The adapter's options, as `RailSettings` has them."""
        ours = {"lookback": self.lookback, "span_max": self.span_max, "horizon": self.horizon}
        return {**revealed(self.extra), **{key: value for key, value in ours.items() if value is not None}}

    def with_assets(self, more: Iterable[tuple[AssetSpec, int]]) -> Self:
        """Return the same rail with ``more`` assets, each with its minimum amount in base units."""
        added = [
            AssetConfig(symbol=each.symbol, contract=each.contract, decimals=each.decimals, min_amount=least)
            for each, least in more
        ]
        return self.model_copy(update={"assets": (*self.assets, *added)})

    @field_validator("name", "adapter")
    @classmethod
    def _name(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError("is no name")
        return value

    @field_validator("chain_id")
    @classmethod
    def _caip_2(cls, value: str) -> ChainId:
        if not CAIP_2.fullmatch(value):
            raise ValueError("is no CAIP-2 id")
        return ChainId(value)

    @model_validator(mode="before")
    @classmethod
    def _of_the_chain(cls, data: Any) -> Any:
        return {**paces(str(data.get("chain_id"))), **data} if isinstance(data, dict) else data


class PolicyConfig(Table):
    """The policy of a rail: for all its assets or one, for all totals or those up to ``up_to``."""

    rail: str = Field(description="the name of a rail")
    asset: str | None = Field(default=None, description="the symbol of an asset of that rail; default: all of them")
    up_to: Decimal | None = Field(
        default=None,
        gt=0,
        max_digits=40,
        decimal_places=8,
        description='the fiat total up to which it holds, such as "100"',
    )
    confirmations: int | None = Field(default=None, ge=1, le=999_999, description="a depth of at least 1")
    finalized: Literal[True] | None = Field(default=None, description="true, or leave it out")
    plus: int | None = Field(default=None, ge=0, le=999_999, description="how many blocks below finality")

    @property
    def policy(self) -> Policy:
        """The policy in the types of the core."""
        return Policy(self.confirmations, self.plus or 0)

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.confirmations is None) == (self.finalized is None):
            raise ValueError("give either confirmations = n or finalized = true")
        if self.plus is not None and self.finalized is None:
            raise ValueError("plus goes with finalized = true only")
        return self


class InvoicesConfig(Table):
    """Defaults of invoices. ``keep_watching``: seconds after the payment window."""

    keep_watching: Annotated[int, BeforeValidator(seconds_of)] = Field(
        default=30 * 86_400, le=TEN_YEARS, description='a duration of at most ten years, such as "30d"'
    )
    unfollowed_rails: tuple[str, ...] = Field(
        default=(), description="names of rails that are no longer followed although they have open invoices"
    )

    @field_validator("unfollowed_rails")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            if not NAME.fullmatch(each):
                raise ValueError(f"holds {quoted(each)}, which is no name")
        return value


class HttpConfig(Table):
    """Metrics and health pages. Without ``listen`` there are none."""

    listen: str | None = Field(default=None, description='HOST:PORT, such as "127.0.0.1:9464"')

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port, or None."""
        return None if self.listen is None else host_and_port(self.listen)

    @field_validator("listen")
    @classmethod
    def _listen(cls, value: str | None) -> str | None:
        if value is not None:
            host_and_port(value)
        return value


class LogConfig(Table):
    """The log. ``auto``: for people on a terminal, JSON elsewhere."""

    format: Literal["auto", "json", "console"] = Field(default="auto", description='"auto", "json" or "console"')
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description='"debug", "info", "warning" or "error"'
    )


class Config(Table):
    """The whole file."""

    database: DatabaseConfig = DatabaseConfig()
    rails: tuple[RailConfig, ...] = Field(min_length=1, alias="rail", description="at least one [[rail]] table")
    policies: tuple[PolicyConfig, ...] = Field(default=(), alias="policy", description="[[policy]] tables")
    invoices: InvoicesConfig = InvoicesConfig()
    http: HttpConfig = HttpConfig()
    log: LogConfig = LogConfig()
    deliver: DeliverConfig = DeliverConfig()
    webhooks: tuple[WebhookConfig, ...] = Field(
        default=(), alias="webhook", max_length=100, description="at most 100 [[webhook]] tables"
    )

    _exposed: tuple[str, ...] = PrivateAttr(default=())

    def rail(self, name: str) -> RailConfig | None:
        """Return the rail of that name; None if there is none."""
        return next((each for each in self.rails if each.name == name), None)

    @property
    def exposed(self) -> tuple[str, ...]:
        """A sentence for each file with a secret that others can read; for logs, and for `railwatch check`."""
        return self._exposed

    def note_exposed(self, sentences: Iterable[str]) -> None:
        """Store the sentences for `exposed`."""
        self._exposed = tuple(sentences)

    def secrets(self) -> frozenset[str]:
        """Return every secret value, for `railwatch.redaction`; those in the file itself too."""
        found = {secret for rail in self.rails for node in rail.nodes for secret in node.secrets()}
        found.update(secret for rail in self.rails for secret in secrets_of(rail.extra))
        if not self.database.embedded:
            found.update(dsn_secrets(self.database.url.get_secret_value()))
        if self.deliver.proxy is not None:
            found.update(url_secrets(self.deliver.proxy.get_secret_value()))
        for webhook in self.webhooks:
            found.update((*url_secrets(webhook.url.get_secret_value()), *webhook.secrets))
        return frozenset(found)
