"""Wrong about who it is, or about addresses."""

from dataclasses import replace
from hashlib import sha256

from railwatch.rail import Address, ChainId, RailUnavailable
from railwatch_fake import Rules
from tests.conformance.mutants.base import Broken, caught_by


@caught_by("the_chain_id_is_caip2")
class ShoutsItsChainId(Broken):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.chain_id = ChainId("FAKE/STORY")

    async def _verify(self):
        self._session = self._node.session


@caught_by("the_native_asset_is_the_one_that_the_traits_name", "the_traits_make_sense_together")
class HasWrongTraits(Broken):
    async def _learn(self):
        await super()._learn()
        self.traits = replace(self.traits, native_asset="slip44:60", native_complete=False)


@caught_by("every_asset_is_caip19_on_this_chain")
class NamesTokensFreely(Broken):
    rules = Rules(tokens=("the gold one",))


@caught_by("a_node_of_another_chain_is_unavailable")
class TrustsTheNode(Broken):
    async def _verify(self):
        self._session = self._node.session


@caught_by("an_address_is_its_own_canonical_form")
class NeverSettlesOnAForm(Broken):
    def parse_address(self, text):
        return Address(super().parse_address(text).key, text.swapcase())


@caught_by("two_addresses_are_two_keys")
class CutsKeysShort(Broken):
    def parse_address(self, text):
        return replace(super().parse_address(text), key=b"fake")


@caught_by("an_address_is_parsed_without_a_node")
class ParsesByAskingTheNode(Broken):
    def parse_address(self, text):
        if not self._open:
            raise RailUnavailable("not open")
        return super().parse_address(text)


@caught_by("case_is_folded_where_the_traits_say_so")
class ForgetsToFold(Broken):
    def parse_address(self, text):
        address = super().parse_address(text)
        return Address(text.encode(), address.text.upper())


@caught_by("a_bad_address_is_refused_with_a_reason")
class TakesAnyAddress(Broken):
    def parse_address(self, text):
        return Address(sha256(text.encode()).digest(), text)
