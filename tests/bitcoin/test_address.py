"""Addresses of every kind, and every way in which they are mistyped or meant for another chain."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from railwatch.rail import BadAddress
from railwatch_bitcoin import base58, bech32, cashaddr
from railwatch_bitcoin.address import parse_address, script_address, witness_program
from railwatch_bitcoin.cashaddr import CashKind
from railwatch_bitcoin.chains import (
    BITCOIN,
    BITCOIN_CASH,
    BITCOIN_CASH_TESTNET4,
    BITCOIN_REGTEST,
    BITCOIN_SIGNET,
    BITCOIN_TESTNET3,
    BITCOIN_TESTNET4,
    CHAINS,
    DOGECOIN,
    ECASH,
    LITECOIN,
    LITECOIN_REGTEST,
    LITECOIN_TESTNET,
    Chain,
    chain_of,
)
from tests.bitcoin.build import bare_multisig, data, p2pk, p2pkh, p2sh, p2tr, p2wpkh, p2wsh

BIP350 = [
    ("BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4", "0014751e76e8199196d454941c45d1b3a323f1433bd6"),
    (
        "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7",
        "00201863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262",
    ),
    (
        "bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y",
        "5128751e76e8199196d454941c45d1b3a323f1433bd6751e76e8199196d454941c45d1b3a323f1433bd6",
    ),
    ("BC1SW50QGDZ25J", "6002751e"),
    ("bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs", "5210751e76e8199196d454941c45d1b3a323"),
    (
        "tb1qqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesrxh6hy",
        "0020000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433",
    ),
    (
        "tb1pqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesf3hn0c",
        "5120000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433",
    ),
    (
        "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
        "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
    ),
]
BIP350_INVALID = [
    ("tc1qw508d6qejxtdg4y5r3zarvary0c5xw7kg3g4ty", "no chain here has the prefix 'tc'"),
    ("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd", "of Bech32, but witness version 1"),
    ("tb1z0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqglt7rf", "of Bech32, but witness version 2"),
    ("BC1S0XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ54WELL", "of Bech32, but witness version 16"),
    ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh", "of Bech32m, but witness version 0"),
    ("tb1q0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq24jc47", "of Bech32m, but witness version 0"),
    ("bc1p38j9r5y49hruaue7wxjce0updqjuyyx0kh56v8s25huc6995vvpql3jow4", "'o' is no character of Bech32"),
    ("BC130XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ7ZWS8R", "no witness version between 0 and 16"),
    ("bc1pw5dgrnzv", "a program of 1 bytes"),
    ("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v8n0nx0muaewav253zgeav", "a program of 41 bytes"),
    ("BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P", "a program of 16 bytes"),
    ("tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq47Zagq", "mixes upper and lower case"),
    ("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v07qwwzcrf", "bits left over"),
    ("tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vpggkg4j", "bits left over"),
    ("bc1gmk9yu", "no witness version"),
]
SAME_OWNER = [
    ("1BpEi6DfDAUFd7GtittLSdBeYJvcoaVggu", "bitcoincash:qpm2qsznhks23z7629mms6s4cwef74vcwvy22gdx6a"),
    ("1KXrWXciRDZUpQwQmuM1DbwsKDLYAYsVLR", "bitcoincash:qr95sy3j9xwd2ap32xkykttr4cvcu7as4y0qverfuy"),
    ("16w1D5WRVKJuZUsSRzdLp9w3YGcgoxDXb", "bitcoincash:qqq3728yw0y47sqn6l2na30mcw6zm78dzqre909m2r"),
    ("3CWFddi6m4ndiGyKqzYvsFYagqDLPVMTzC", "bitcoincash:ppm2qsznhks23z7629mms6s4cwef74vcwvn0h829pq"),
    ("3LDsS579y7sruadqu11beEJoTjdFiFCdX4", "bitcoincash:pr95sy3j9xwd2ap32xkykttr4cvcu7as4yc93ky28e"),
    ("31nwvkZwyPdgzjBJZXfDmSWsC4ZLKpYyUw", "bitcoincash:pqq3728yw0y47sqn6l2na30mcw6zm78dzq5ucqzc37"),
]
"""The CashAddr specification's table of translations."""
MWEB = (
    "tmweb1qqwerp6l4nnj7tma9z835wpf7v60ac7ry5v6h8s4nstfw9j4pw5fay"
    "q4yhwh6j7u5w5gn4cevnqzp8ssd0hsgak60rgnp0tfn3t23whcc8ggu3tfa"
)
"""Made by Litecoin Core on regtest."""
GENESIS_OWNER = "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"
SEGWIT = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"


def home_of(text: str) -> Chain:
    """Return the chain that a vector is of, by its prefix."""
    return BITCOIN if text.lower().startswith("bc") else BITCOIN_TESTNET3


def reason(text: str, chain: Chain) -> str:
    """Why the address is refused."""
    with pytest.raises(BadAddress) as refused:
        parse_address(text, chain)
    return str(refused.value)


@pytest.mark.parametrize(("text", "script"), BIP350)
def test_bip350_valid(text: str, script: str) -> None:
    address = parse_address(text, home_of(text))
    assert (address.key.hex(), address.text) == (script, text.lower())


@pytest.mark.parametrize(("text", "why"), BIP350_INVALID)
def test_bip350_invalid(text: str, why: str) -> None:
    assert why in reason(text, home_of(text))


@pytest.mark.parametrize(("legacy", "cash"), SAME_OWNER)
def test_cashaddr_and_the_older_form_are_one_address(legacy: str, cash: str) -> None:
    bare = cash.partition(":")[2]
    for text in (legacy, cash, bare, cash.upper(), bare.upper()):
        address = parse_address(text, BITCOIN_CASH)
        assert (address.text, address.key) == (cash, parse_address(legacy, BITCOIN).key), text


CASHADDR_BY_SIZE = [
    ("bitcoincash:qr6m7j9njldwwzlg9v7v53unlr4jkmx6eylep8ekg2", 0, "f5bf48b397dae70be82b3cca4793f8eb2b6cdac9"),
    ("bchtest:pr6m7j9njldwwzlg9v7v53unlr4jkmx6eyvwc0uz5t", 1, "f5bf48b397dae70be82b3cca4793f8eb2b6cdac9"),
    (
        "bitcoincash:qh3krj5607v3qlqh5c3wq3lrw3wnuxw0sp8dv0zugrrt5a3kj6ucysfz8kxwv2k53krr7n933jfsunqex2w82sl",
        0,
        "e361ca9a7f99107c17a622e047e3745d3e19cf804ed63c5c40c6ba763696b98241223d8ce62ad48d863f4cb18c930e4c",
    ),
]


@pytest.mark.parametrize(("text", "kind", "content"), CASHADDR_BY_SIZE)
def test_cashaddr_of_every_size_is_read_and_written(text: str, kind: int, content: str) -> None:
    prefix = text.partition(":")[0]
    assert cashaddr.decode(text, prefix) == (CashKind(kind), bytes.fromhex(content))
    assert cashaddr.encode(prefix, CashKind(kind), bytes.fromhex(content)) == text


def test_a_wallet_that_knows_tokens_is_paid_by_the_same_script() -> None:
    digest = bytes(range(20))
    for kind, plain in ((CashKind.TOKEN_P2PKH, CashKind.P2PKH), (CashKind.TOKEN_P2SH, CashKind.P2SH)):
        address = parse_address(cashaddr.encode("bitcoincash", kind, digest), BITCOIN_CASH)
        assert address.text == cashaddr.encode("bitcoincash", plain, digest)


def test_cash_scripts_with_long_hashes_have_addresses() -> None:
    text = cashaddr.encode("bitcoincash", CashKind.P2SH, bytes(range(32)))
    address = parse_address(text, BITCOIN_CASH)
    assert address.key == b"\xaa\x20" + bytes(range(32)) + b"\x87"
    assert address.text == text
    long_key = cashaddr.encode("bitcoincash", CashKind.P2PKH, bytes(range(32)))
    assert "a hash of 32 bytes" in reason(long_key, BITCOIN_CASH)


def test_the_older_kinds() -> None:
    address = parse_address(f"  {GENESIS_OWNER}\n", BITCOIN)
    assert address.key.hex() == "76a91462e907b15cbf27d5425399ebf6f0fb50ebb88f1888ac"
    assert address.text == GENESIS_OWNER
    assert parse_address("3P14159f73E4gFr7JterCCQh9QjiTjiZrG", BITCOIN).key[:2] == b"\xa9\x14"
    doge = parse_address("DH5yaieqoZN36fDVciNyRueRGvGLR3mr7L", DOGECOIN)
    assert doge.text == "DH5yaieqoZN36fDVciNyRueRGvGLR3mr7L"


def test_litecoin_shows_one_form_of_a_script_address_and_accepts_both() -> None:
    shared = parse_address("3P14159f73E4gFr7JterCCQh9QjiTjiZrG", LITECOIN)
    own = parse_address("MVDCJxZd4A5VUm81QmeC1qf6U7LASsr7LT", LITECOIN)
    assert shared == own
    assert own.text == "MVDCJxZd4A5VUm81QmeC1qf6U7LASsr7LT"


@pytest.mark.parametrize(
    ("text", "chain", "why"),
    [
        (SEGWIT, LITECOIN, "an address of Bitcoin"),
        (SEGWIT, BITCOIN_REGTEST, "an address of Bitcoin"),
        (SEGWIT, DOGECOIN, "an address of Bitcoin"),
        (BIP350[1][0], BITCOIN, "an address of Bitcoin testnet3 or Bitcoin testnet4 or Bitcoin signet"),
        (GENESIS_OWNER, LITECOIN, "an address of Bitcoin or Bitcoin Cash"),
        (GENESIS_OWNER, BITCOIN_TESTNET3, "an address of Bitcoin or Bitcoin Cash"),
        ("DH5yaieqoZN36fDVciNyRueRGvGLR3mr7L", BITCOIN, "an address of Dogecoin"),
        ("bitcoincash:qpm2qsznhks23z7629mms6s4cwef74vcwvy22gdx6a", BITCOIN, "an address of Bitcoin Cash"),
        ("bitcoincash:qpm2qsznhks23z7629mms6s4cwef74vcwvy22gdx6a", BITCOIN_CASH_TESTNET4, "prefix is 'bitcoincash'"),
        ("bchtest:pr6m7j9njldwwzlg9v7v53unlr4jkmx6eyvwc0uz5t", BITCOIN_CASH, "prefix is 'bchtest'"),
        ("pr6m7j9njldwwzlg9v7v53unlr4jkmx6eyvwc0uz5t", BITCOIN_CASH, "checksum is wrong for the prefix"),
    ],
)
def test_the_wrong_chain_is_named(text: str, chain: Chain, why: str) -> None:
    assert why in reason(text, chain)


@pytest.mark.parametrize(
    ("text", "chain", "why"),
    [
        ("", BITCOIN, "empty"),
        ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb", BITCOIN, "checksum is wrong"),
        ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfN", BITCOIN, "checksum is wrong"),
        ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfN0", BITCOIN, "'0' is no character of Base58"),
        ("111", BITCOIN, "too short"),
        ("1" * 53, BITCOIN, "too long"),
        (SEGWIT[:-1] + "5", BITCOIN, "checksum is wrong"),
        (SEGWIT[:-1] + "T", BITCOIN, "mixes upper and lower case"),
        ("bc1" + "q" * 100, BITCOIN, "no address has more than 90"),
        ("bitcoin:" + GENESIS_OWNER, BITCOIN, "payment request"),
        (SEGWIT + "?amount=1", BITCOIN, "payment request"),
        ("адрес", BITCOIN, "characters that no address has"),
        ("qpM2qsznhks23z7629mms6s4cwef74vcwvy22gdx6a", BITCOIN_CASH, "mixes upper and lower case"),
        ("bitcoincash:qpm2", BITCOIN_CASH, "checksum is wrong"),
        ("q" * 141, BITCOIN_CASH, "too long"),
        (base58.encode(b"\x00" + bytes(19)), BITCOIN, "19 bytes instead of 20"),
        (base58.encode(b"\x80" + bytes(20)), BITCOIN, "version byte 128"),
    ],
)
def test_the_reason_says_what_to_fix(text: str, chain: Chain, why: str) -> None:
    assert why in reason(text, chain)


def test_addresses_inside_mweb_are_refused_because_those_payments_are_invisible() -> None:
    for text, chain in ((MWEB, LITECOIN_REGTEST), (MWEB.upper(), LITECOIN_TESTNET), ("ltcmweb1qqf", LITECOIN)):
        assert "not visible" in reason(text, chain)
    assert "not visible" in reason(MWEB, BITCOIN)


@pytest.mark.parametrize("version", [8, 9])
def test_witness_versions_of_mweb_itself_are_refused_on_litecoin_only(version: int) -> None:
    assert "belongs to MWEB" in reason(bech32.encode("ltc", version, bytes(32)), LITECOIN)
    assert parse_address(bech32.encode("bc", version, bytes(32)), BITCOIN).key[0] == 0x50 + version


def test_test_chains_share_their_older_addresses() -> None:
    text = base58.encode(b"\x6f" + bytes(range(20)))
    chains = (BITCOIN_TESTNET3, BITCOIN_TESTNET4, BITCOIN_SIGNET, BITCOIN_REGTEST, LITECOIN_TESTNET, LITECOIN_REGTEST)
    assert {parse_address(text, chain).text for chain in chains} == {text}


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.name)
def test_every_script_with_an_address_has_one_on_every_chain_that_knows_it(chain: Chain) -> None:
    kinds = [p2pkh, p2sh, *((p2wpkh, p2wsh, p2tr) if chain.hrp else ())]
    for kind in kinds:
        text = script_address(kind(7), chain)
        assert text is not None
        assert parse_address(text, chain).key == kind(7)
        assert parse_address(text, chain).text == text


def test_scripts_without_an_address_have_none() -> None:
    odd = [b"", b"\x6a", data(b"hello"), p2pk(1), bare_multisig(1), p2pkh(1) + b"\x61", p2wpkh(1)[:-1], b"\x4c" * 200]
    for chain in CHAINS:
        assert [script_address(script, chain) for script in odd] == [None] * len(odd)
    assert script_address(p2wpkh(1), DOGECOIN) is None
    assert script_address(p2tr(1), BITCOIN_CASH) is None


@given(st.binary(max_size=60))
def test_whatever_has_an_address_is_what_the_address_pays(script: bytes) -> None:
    for chain in (BITCOIN, LITECOIN, BITCOIN_CASH):
        text = script_address(script, chain)
        if text is not None and (witness_program(script) or (0,))[0] not in (8, 9):
            assert parse_address(text, chain).key == script


@given(st.text(max_size=100))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    for chain in (BITCOIN, LITECOIN, DOGECOIN, BITCOIN_CASH):
        try:
            address = parse_address(text, chain)
        except BadAddress:
            continue
        assert parse_address(address.text, chain) == address


@given(st.integers(0, 16), st.binary(min_size=2, max_size=40), st.data())
def test_one_mistyped_character_of_bech32_is_always_noticed(version: int, program: bytes, draw: st.DataObject) -> None:
    if version == 0:
        program = program.ljust(20, b"\0")[:20]
    text = bech32.encode("bc", version, program)
    assert bech32.decode(text) == ("bc", version, program)
    place = draw.draw(st.integers(3, len(text) - 1))
    wrong = draw.draw(st.sampled_from([char for char in bech32.CHARSET if char != text[place]]))
    with pytest.raises(ValueError, match="checksum"):
        bech32.decode(text[:place] + wrong + text[place + 1 :])


def test_every_chain_is_found_by_its_id_and_by_nothing_else() -> None:
    assert len({chain.id for chain in CHAINS}) == len(CHAINS)
    for chain in CHAINS:
        assert chain_of(chain.id) is chain
    assert chain_of("bip122:000000000019d6689c085ae165831e93") is BITCOIN
    assert chain_of("bip122:000000000000000000651ef99cb9fcbe") is BITCOIN_CASH
    with pytest.raises(ValueError, match=r"bip122:0+19d6689c085ae165831e93 \(Bitcoin\)"):
        chain_of("bip122:beef")


def test_a_long_hash_of_bitcoin_cash_has_its_older_form_too() -> None:
    """Bitcoin Cash Node, src/test/data/key_io_valid.json: 32 bytes under the version byte of scripts."""
    text = "Brc3AngqMnEgM3xi4ANgu1coWvSRwgXvK3uMxidgWALk72ihur"
    address = parse_address(text, BITCOIN_CASH)
    assert address.key.hex() == "aa209597d6599cfcec094a56d68a262f351e1377bd3015f946daf11053301e6501c087"
    assert parse_address(address.text, BITCOIN_CASH) == address
    for other in (BITCOIN, ECASH):
        assert "32 bytes instead of 20" in reason(text, other)


def test_ecash_knows_neither_long_hashes_nor_tokens() -> None:
    for kind, digest in ((CashKind.P2SH, bytes(32)), (CashKind.TOKEN_P2PKH, bytes(20))):
        with pytest.raises(BadAddress):
            parse_address(cashaddr.encode("ecash", kind, digest), ECASH)
    assert script_address(b"\xaa\x20" + bytes(32) + b"\x87", ECASH) is None


def every_form(chain: Chain) -> list[str]:
    """Every address of a chain's: each version byte, each witness version of note, each kind of CashAddr."""
    short, long = bytes(range(20)), bytes(range(32))
    texts = [base58.encode(bytes((version,)) + short) for version in (chain.p2pkh, *chain.p2sh)]
    if chain.hrp:
        programs = [(0, short), (0, long), (1, long), (1, b"\x4e\x73"), (2, long), (16, short)]
        texts += [bech32.encode(chain.hrp, version, program) for version, program in programs]
    if chain.cash_tokens:
        texts.append(base58.encode(bytes((chain.p2sh[0],)) + long))
    if chain.cash_prefix:
        kinds = [(kind, short) for kind in CashKind if chain.cash_tokens or kind in (CashKind.P2PKH, CashKind.P2SH)]
        kinds += [(kind, long) for kind in (CashKind.P2SH, CashKind.TOKEN_P2SH) if chain.cash_tokens]
        texts += [cashaddr.encode(chain.cash_prefix, kind, digest) for kind, digest in kinds]
    return texts


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.name)
def test_an_address_is_one_however_it_is_spelled_and_none_when_anything_in_it_is_another(chain: Chain) -> None:
    """Spaces around it, upper case and a prefix say nothing; a similar letter, a space within, a typing error do."""
    for text in every_form(chain):
        address = parse_address(text, chain)
        folds = text == text.lower()
        bare = text.partition(":")[2] or text
        same = [f"\u00a0{text}\t\n", address.text, bare, *((text.upper(), bare.upper()) if folds else ())]
        assert {parse_address(each, chain) for each in same} == {address}
        wrong = [f"{text[:8]}{odd}{text[8:]}" for odd in (" ", "\u200b", "\ufeff", "\n", "1")]
        wrong += [text.replace(char, like, 1) for char, like in (("a", "\u0430"), ("q", "\u0501"), ("3", "\u0417"))]
        wrong += [text[:-1], text[1:], text + "q", f"{chain.name.lower()}:{text}", f"{text}?amount=1"]
        wrong += [text[:-5] + text[-5:].upper()] if folds else [text.lower(), text.upper()]
        for each in set(wrong) - {text}:
            assert reason(each, chain)
