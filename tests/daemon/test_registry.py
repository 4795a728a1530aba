"""Adapters that come from elsewhere: what is wrong with one is told in words, with its name, and at the start."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from railwatch.config import RailConfig
from railwatch.config.loading import load_config
from railwatch.daemon import registry
from railwatch.daemon.registry import UnknownAdapter, open_rail
from railwatch_fake import FakeChain, register

BITCOIN = "bip122:000000000019d6689c085ae165831e93"
CHAINS = {
    "evm": ("eip155:1", {"http": "http://127.0.0.1:8545"}),
    "bitcoin": (
        "bip122:000000000019d6689c085ae165831e93",
        {"rpc": "http://localhost:8332", "user": "u", "password": "p"},
    ),
    "solana": ("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", {"http": "http://127.0.0.1:8899"}),
    "fake": ("fake:options", {"chain": "options"}),
}


def rail(adapter: str, chain_id: str, node: dict[str, Any], **more: Any) -> RailConfig:
    table = {"name": "story", "adapter": adapter, "chain_id": chain_id, "nodes": [node], "asset": [{"symbol": "COIN"}]}
    return RailConfig.model_validate({**table, **more})


@pytest.mark.parametrize("adapter", CHAINS)
def test_an_option_that_an_adapter_does_not_know_is_refused_by_name(adapter: str) -> None:
    register(FakeChain("options"))
    open_rail(rail(adapter, *CHAINS[adapter], options={"horizon": 50}))
    with pytest.raises(ValueError, match=r"rail story: unknown option 'lokback'; known are .*lookback"):
        open_rail(rail(adapter, *CHAINS[adapter], options={"lokback": 50}))


PLUGINS = {
    "import": ("import a_library_that_is_not_there", 'adapter "odd".* cannot be loaded .*a_library_that_is_not_there'),
    "attribute": ("", 'adapter "odd".* cannot be loaded .*open_node'),
    "opening": ("def open_node(rail, node):\n    return {}['view_key']", 'adapter "odd" failed .*KeyError.*view_key'),
}


@pytest.mark.parametrize("fault", PLUGINS)
def test_a_plugin_that_cannot_be_used_is_named_with_its_reason(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `railwatch check` and `railwatch run` tell every ValueError of the configuration: without a traceback."""
    source, told = PLUGINS[fault]
    (tmp_path / f"odd_{fault}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("odd", f"odd_{fault}:open_node", registry.GROUP)
    monkeypatch.setattr(registry, "_installed", lambda: (point,))
    with pytest.raises(UnknownAdapter, match=told):
        open_rail(rail("odd", "odd:1", {"url": "x"}))
    sys.modules.pop(f"odd_{fault}", None)


def test_a_rails_option_may_come_by_reference_and_is_shown_to_nobody(tmp_path: Path) -> None:
    (tmp_path / "view.key").write_text("the-view-key\n")
    (tmp_path / "railwatch.toml").write_text("""
        [[rail]]
        name = "xmr"
        adapter = "odd"
        chain_id = "odd:1"
        nodes = [{ url = "x" }]
        options = { view_key_file = "view.key", depth = 3 }
        """)
    config = load_config(tmp_path / "railwatch.toml")
    assert config.rails[0].options == {"view_key": "the-view-key", "depth": 3}
    assert "the-view-key" in config.secrets()
    assert "the-view-key" not in repr(config)
