"""The configuration: the meaning of a good one; a bad one is reported whole, with remedies, and without secrets."""

from decimal import Decimal
from pathlib import Path

import pytest

from railwatch.config import Config, ConfigError, find_config, load_config, seconds_of
from railwatch.core.policy import Policy
from railwatch.known_chains import default_tiers, known_chain

GOOD = """
[database]
url = "embedded"
data_dir = "data"

[[rail]]
name = "local-evm"
adapter = "evm"
chain_id = "eip155:31337"
nodes = [{ http = "http://127.0.0.1:8545", ws = "ws://127.0.0.1:8545" }]
span_max = 500
[[rail.asset]]
symbol = "ETH"
[[rail.asset]]
symbol = "USDC"
contract = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
decimals = 6

[[policy]]
rail = "local-evm"
confirmations = 3
[[policy]]
rail = "local-evm"
asset = "USDC"
up_to = 99.95
finalized = true
plus = 2
"""


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAILWATCH_CONFIG", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


def written(folder: Path, text: str) -> Path:
    path = folder / "railwatch.toml"
    path.write_text(text)
    return path


def load(folder: Path, text: str) -> Config:
    return load_config(written(folder, text))


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return [str(each) for each in caught.value.problems]


def with_node(node: str) -> str:
    return f'[[rail]]\nname = "r"\nadapter = "evm"\nchain_id = "eip155:5"\nnodes = [{{ {node} }}]\n'


def test_the_configuration_of_the_manual(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD)
    (rail,) = config.rails
    assert config.database.embedded
    assert config.database.data_dir == tmp_path / "data"
    assert (rail.name, rail.adapter, rail.chain_id, rail.poll_interval) == ("local-evm", "evm", "eip155:31337", None)
    assert rail.nodes[0].reveal() == {"http": "http://127.0.0.1:8545", "ws": "ws://127.0.0.1:8545"}
    assert [asset.spec.symbol for asset in rail.assets] == ["ETH", "USDC"]
    assert rail.options == {"span_max": 500}
    assert [each.policy for each in config.policies] == [Policy(3), Policy(None, 2)]
    assert config.policies[1].up_to == Decimal("99.95")
    assert config.invoices.keep_watching == 30 * 86_400
    assert config.http.address is None


def test_what_is_left_out_has_a_default(tmp_path: Path) -> None:
    config = load(tmp_path, with_node('http = "http://a"'))
    assert config.database.embedded
    assert config.database.data_dir == tmp_path / ".railwatch/postgres"
    assert config.rails[0].stall_after is None
    known = load(tmp_path, with_node('http = "http://a"').replace("eip155:5", "eip155:137"))
    assert known.rails[0].stall_after == 60
    own = load(tmp_path, with_node('http = "http://a"').replace("eip155:5", "eip155:137") + "stall_after = 9")
    assert own.rails[0].stall_after == 9


def test_three_errors_are_reported_at_once_each_with_place_and_remedy(tmp_path: Path) -> None:
    text = GOOD.replace('chain_id = "eip155:31337"', 'chain_id = "ethereum"')
    text = text.replace("decimals = 6", "").replace('asset = "USDC"', 'asset = "USDT"')
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert str(caught.value) == "\n".join(
        [
            f"{tmp_path / 'railwatch.toml'} has 3 errors:",
            "  rail[local-evm].asset[USDC].decimals: is missing. A token needs it: query decimals() of its contract.",
            "  policy[2].asset: rail local-evm has no asset 'USDT'. It has: ETH, USDC.",
            "  rail[local-evm].chain_id: 'ethereum' is no CAIP-2 id. Give the CAIP-2 id, such as \"eip155:1\".",
        ]
    )


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        ("span_max", "span_maxx", 'rail[local-evm].span_maxx: unknown key. Did you mean "span_max"?'),
        ("[database]", "[databse]", 'databse: unknown key. Did you mean "database"?'),
        ("span_max = 500", "span_max = 0", "rail[local-evm].span_max: 0 should be greater than or equal to 1"),
        ('name = "local-evm"', "", "rail[1].name: is missing. Give a name of letters"),
        ('name = "local-evm"', 'name = "local evm"', "'local evm' is no name"),
        ("confirmations = 3", "confirmations = 0", "policy[1].confirmations: 0 should be greater than or equal to 1"),
        ("confirmations = 3", "", "policy[1]: give either confirmations = n or finalized = true."),
        ("confirmations = 3", "confirmations = 3\nfinalized = true", "policy[1]: give either"),
        ("confirmations = 3", "confirmations = 3\nplus = 1", "policy[1]: plus goes with finalized = true only."),
        ('rail = "local-evm"\nconf', 'rail = "elsewhere"\nconf', "policy[1].rail: there is no rail 'elsewhere'"),
        ('"USDC"\ncontract', '"ETH"\ncontract', "rail[local-evm].asset[ETH].symbol: 'ETH' is there twice"),
        ('contract = "0x5', '# "', "is a second asset without a contract"),
        (
            '"http://127.0.0.1:8545"',
            '"127.0.0.1:8545"',
            "nodes[1]: http is no URL that starts with http:// or https://",
        ),
        ('"ws://127.0.0.1:8545"', '"http://127.0.0.1:8545"', "nodes[1]: ws is no URL that starts with ws:// or wss://"),
        ('"embedded"', '"mysql://localhost/x"', "database.url: is no URL that starts with postgresql://"),
        ("up_to = 99.95", 'up_to = "many"', "policy[2].up_to: 'many' should be a valid decimal. Give the fiat total"),
        ("[[policy]]", '[http]\nlisten = "9464"\n[[policy]]', "http.listen: '9464' is not HOST:PORT. Give HOST:PORT"),
        ("[[policy]]", '[invoices]\nkeep_watching = "1y"\n[[policy]]', "invoices.keep_watching: '1y' is no duration"),
        ("[[policy]]", '[log]\nlevel = "loud"\n[[policy]]', "log.level: 'loud' should be 'debug'"),
        ("span_max = 500", "[rail", "the file: is not TOML"),
    ],
)
def test_a_mistake_is_reported_with_its_place(tmp_path: Path, was: str, becomes: str, message: str) -> None:
    found = problems(tmp_path, GOOD.replace(was, becomes, 1))
    assert any(message in each for each in found), found


def test_a_rail_cannot_be_there_twice(tmp_path: Path) -> None:
    twice = GOOD + with_node('http = "http://a"').replace('"r"', '"local-evm"')
    assert problems(tmp_path, twice) == [
        "rail[local-evm].name: 'local-evm' is there twice. Give each a different name."
    ]


def test_secrets_come_by_file_variable_and_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pw").write_text("from-file\n")
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials/db").write_text("postgresql://u:from-credential@db/railwatch")
    monkeypatch.setenv("NODE_URL", "https://node/from-env")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    text = '[database]\nurl_credential = "db"\n' + with_node('http_env = "NODE_URL", user = "u", password_file = "pw"')
    config = load(tmp_path, text)
    assert config.database.url.get_secret_value() == "postgresql://u:from-credential@db/railwatch"
    node = config.rails[0].nodes[0]
    assert node.reveal() == {"http": "https://node/from-env", "user": "u", "password": "from-file"}
    assert node.name == "https://node"
    assert "from-" not in f"{config!r} {config} {node} {node!r}"
    whole = {"from-file", "https://node/from-env", config.database.url.get_secret_value()}
    assert config.secrets() == {*whole, "from-env", "from-credential"}


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            'password_file = "nowhere"',
            "password_file: {folder}/nowhere cannot be read: No such file or directory. Give",
        ),
        ('password_file = "empty"', "{folder}/empty is empty. It must contain only the secret"),
        ('password_env = "NOT_THERE"', "the environment has no variable NOT_THERE, or it is empty. Set it"),
        ('password_credential = "x"', "systemd passed no credentials. Add LoadCredential="),
        ('password = "p", password_file = "pw"', "password is given twice. Keep one of password, password_file"),
        ("password_file = 5", "is not a text. Name a file"),
    ],
)
def test_a_reference_that_leads_nowhere_is_reported(tmp_path: Path, node: str, message: str) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "pw").write_text("p")
    (found,) = problems(tmp_path, with_node(f'rpc = "http://a", {node}'))
    assert message.format(folder=tmp_path) in found


def test_a_wrong_secret_is_never_repeated(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("htp://user:hunter2@node")
    (tmp_path / "dsn").write_text("pg://user:hunter2@db")
    text = '[database]\nurl_file = "dsn"\n' + with_node('http_file = "url"')
    found = problems(tmp_path, text)
    assert len(found) == 2
    assert "hunter2" not in str(found)


def test_the_file_is_named_by_option_or_variable_or_lies_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"no configuration is named.* Give --config FILE, set RAILWATCH_CONFIG"):
        find_config(None)
    written(tmp_path, GOOD)
    assert find_config(None) == Path("railwatch.toml")
    monkeypatch.setenv("RAILWATCH_CONFIG", "/etc/other.toml")
    assert find_config(None) == Path("/etc/other.toml")
    assert find_config(Path("mine.toml")) == Path("mine.toml")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_config(Path("mine.toml"))


def test_the_example_is_good() -> None:
    config = load_config(Path(__file__).parents[1] / "config/railwatch.example.toml")
    assert [rail.adapter for rail in config.rails] == ["evm", "bitcoin"]


@pytest.mark.parametrize(("text", "seconds"), [("30d", 2_592_000), ("90s", 90), ("15m", 900), (60, 60), ("60", 60)])
def test_durations(text: object, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "-1d", "1.5h", True, -1, None, "1 d"])
def test_no_durations(text: object) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        seconds_of(text)


def test_the_default_policies_are_those_of_the_manual() -> None:
    ethereum = default_tiers("eip155:1", has_finality=True)
    assert [(each.up_to, each.policy) for each in ethereum] == [
        (Decimal(100), Policy(12)),
        (Decimal(5000), Policy(32)),
        (Decimal(50000), Policy(None)),
        (None, Policy(None)),
    ]
    assert [each.policy for each in default_tiers("eip155:137", has_finality=True)][2:] == [
        Policy(None, 128),
        Policy(None, 256),
    ]
    bitcoin = known_chain("bip122:000000000019d6689c085ae165831e93")
    assert bitcoin is not None
    assert [each.policy.confirmations for each in bitcoin.tiers] == [1, 2, 3, 6]


def test_an_unknown_chain_waits_for_finality_or_six_blocks() -> None:
    assert [each.policy for each in default_tiers("eip155:99999", has_finality=True)] == [Policy(None)]
    assert [each.policy for each in default_tiers("eip155:99999", has_finality=False)] == [Policy(6)]
