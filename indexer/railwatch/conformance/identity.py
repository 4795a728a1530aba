"""Identity checks: the chain, the traits and the addresses, all before any payment."""

import re
from contextlib import suppress

import pytest

from railwatch.conformance.base import Conformance
from railwatch.conformance.harness import ChainHarness
from railwatch.rail import BadAddress, RailUnavailable

CAIP2 = re.compile(r"[-a-z0-9]{3,8}:[-_a-zA-Z0-9]{1,32}")
CAIP19 = re.compile(r"(?P<chain>[^/]+)/(?P<space>[-a-z0-9]{3,8}):(?P<reference>[-.%a-zA-Z0-9]{1,128})")


class IdentityChecks(Conformance):
    """Identity, traits and addresses."""

    async def test_the_chain_id_is_caip2(self, story: ChainHarness) -> None:
        assert CAIP2.fullmatch(story.rail.chain_id), f"{story.rail.chain_id!r} is no CAIP-2 chain id"

    async def test_the_native_asset_is_the_one_that_the_traits_name(self, story: ChainHarness) -> None:
        assert story.sim.assets[0] == story.sim.native
        assert story.sim.native == f"{story.rail.chain_id}/{story.rail.traits.native_asset}"

    async def test_every_asset_is_caip19_on_this_chain(self, story: ChainHarness) -> None:
        traits = story.rail.traits
        for asset in story.sim.assets:
            parts = CAIP19.fullmatch(asset)
            assert parts, f"{asset!r} is no CAIP-19 asset id"
            assert parts["chain"] == story.rail.chain_id
            if asset != story.sim.native:
                assert parts["space"] == traits.token_namespace, "a token is outside of traits.token_namespace"

    async def test_the_traits_make_sense_together(self, story: ChainHarness) -> None:
        traits = story.rail.traits
        assert traits.family
        assert traits.span_max >= 1
        assert traits.lookback >= 1
        assert traits.horizon >= 1
        assert traits.native_decimals >= 0
        assert traits.native_complete or traits.native_gap, (
            "native_complete is False and native_gap is empty: describe the gap"
        )
        assert traits.max_confirmations is None or traits.max_confirmations >= 1

    async def test_a_node_of_another_chain_is_unavailable(self, story: ChainHarness) -> None:
        """Nothing may be written from the wrong chain, and the right one may come back (HAZARDS E23)."""
        stranger = self.open_wrong_chain_adapter(story.sim)
        if stranger is None:
            pytest.skip("no open_wrong_chain_adapter hook: the adapter's check of the chain id is not exercised")
        with pytest.raises(RailUnavailable):
            await stranger.__aenter__()
        await stranger.__aexit__(None, None, None)

    async def test_an_address_is_its_own_canonical_form(self, story: ChainHarness) -> None:
        address = story.rail.parse_address(await story.sim.new_address())
        assert isinstance(address.key, bytes)
        assert address.key, "the empty key is NO_RECIPIENT's"
        assert story.rail.parse_address(address.text) == address

    async def test_two_addresses_are_two_keys(self, story: ChainHarness) -> None:
        assert (await story.address()).key != (await story.address()).key

    async def test_an_address_is_parsed_without_a_node(self, story: ChainHarness) -> None:
        """Registration and the command line validate addresses while no node is available."""
        unentered = story.sim.open_adapter()
        text = await story.sim.new_address()
        assert unentered.parse_address(text) == story.rail.parse_address(text)

    async def test_case_is_folded_where_the_traits_say_so(self, story: ChainHarness) -> None:
        address = await story.address()
        if not story.rail.traits.fold_case:
            pytest.skip("case matters on this rail")
        assert story.rail.parse_address(address.text.lower()) == address
        for text in (address.text.upper(), address.text.swapcase()):
            # The other spellings may be refused, as by a checksum in the case; they may not be another address.
            with suppress(BadAddress):
                assert story.rail.parse_address(text) == address

    async def test_a_bad_address_is_refused_with_a_reason(self, story: ChainHarness) -> None:
        good = (await story.address()).text
        # Where nothing is there to check against, an address that lost its end may be another one.
        shorter = [good[:-1]] if story.rail.traits.has_checksum else []
        for bad in ("", " ", "?", *shorter, good + "0", good[: len(good) // 2], good * 2, "é" * len(good)):
            with pytest.raises(BadAddress) as refusal:
                story.rail.parse_address(bad)
            assert str(refusal.value).strip(), f"{bad!r} was refused without a reason"
