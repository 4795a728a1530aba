"""What one transfer says: the payment that was made, all of it, and nothing that was not one."""

import json
from dataclasses import replace

import pytest

from railwatch.conformance.base import Conformance
from railwatch.conformance.harness import ChainHarness, amounts, ids, single
from railwatch.rail import SupportsPaymentCheck

EVIDENCE_MAX = 4096
"""Characters of JSON: the facts a person asks for, not the transaction."""


class TransferChecks(Conformance):
    """Payments, each as it was made."""

    async def test_a_payment_is_told_as_it_was_made(self, story: ChainHarness) -> None:
        address = await story.address()
        tx_id = await story.paid(address, 3)
        transfer = single((await story.scan(address)).transfers)
        assert transfer.tx_id == tx_id
        assert transfer.to == address.key
        assert transfer.asset == story.sim.native
        assert transfer.amount == 3 * story.unit
        assert transfer.block == await story.head()
        assert transfer.maturity >= 1

    async def test_each_asset_is_told_under_its_own_id(self, story: ChainHarness) -> None:
        address = await story.address()
        for units, asset in enumerate(story.sim.assets, start=1):
            await story.pay(address, units, asset)
        await story.sim.mine()
        found = sorted((transfer.amount, transfer.asset) for transfer in (await story.scan(address)).transfers)
        assert found == [(units * story.unit, asset) for units, asset in enumerate(story.sim.assets, start=1)]

    async def test_a_token_that_is_not_configured_is_never_told_as_one_that_is(self, story: ChainHarness) -> None:
        if len(story.sim.assets) < 2:
            pytest.skip("this rail has one asset")
        address, token = await story.address(), story.sim.assets[1]
        await story.paid(address, 1, token)
        native_only = replace(story.watch(address), assets={"": story.sim.native})
        # It may be reported or not, depending on what the rail requests. Its id may not change.
        assert {transfer.asset for transfer in (await story.scan_for(native_only)).transfers} <= {token}

    async def test_amounts_are_exact_integers(self, story: ChainHarness) -> None:
        address = await story.address()
        # Odd amounts, and where the unit is small enough one beyond what a float can hold (HAZARDS B13, I9).
        exact = [story.unit + 1, 29 * story.unit + 7]
        if story.rail.traits.native_decimals >= 16:
            exact.append(2**53 + 1)
        for amount in exact:
            await story.sim.pay(address.text, amount)
        await story.sim.mine()
        transfers = (await story.scan(address)).transfers
        assert all(type(transfer.amount) is int for transfer in transfers), "an amount is not an int"
        assert amounts(transfers, address) == sorted(exact)

    async def test_several_payments_in_one_block_are_all_told(self, story: ChainHarness) -> None:
        addresses = [await story.address() for _ in range(5)]
        for units, address in enumerate(addresses, start=1):
            await story.pay(address, units)
        await story.sim.mine()
        transfers = (await story.scan(*addresses)).transfers
        assert len(transfers) == len(addresses)
        for units, address in enumerate(addresses, start=1):
            assert amounts(transfers, address) == [units * story.unit]

    async def test_one_address_paid_twice_in_a_block_is_two_transfers(self, story: ChainHarness) -> None:
        address = await story.address()
        await story.pay(address, 2)
        await story.pay(address, 2)
        await story.sim.mine()
        transfers = (await story.scan(address)).transfers
        assert amounts(transfers, address) == [2 * story.unit, 2 * story.unit]
        assert len(set(ids(transfers))) == 2

    async def test_a_failed_transaction_is_invisible(self, story: ChainHarness) -> None:
        address = await story.address()
        await story.fail(address)
        await story.sim.mine()
        assert list((await story.scan(address)).transfers) == []

    async def test_a_failed_transaction_hides_no_other(self, story: ChainHarness) -> None:
        address = await story.address()
        await story.fail(address, 7)
        await story.pay(address, 3)
        await story.sim.mine()
        assert amounts((await story.scan(address)).transfers, address) == [3 * story.unit]

    async def test_what_nobody_watches_is_not_told(self, story: ChainHarness) -> None:
        watched, noise = await story.address(), await story.address()
        await story.pay(noise, 5)
        await story.pay(watched, 1)
        await story.sim.mine()
        transfers = (await story.scan(watched)).transfers
        assert {transfer.to for transfer in transfers} == {watched.key}

    async def test_what_can_be_paid_is_not_refused(self, story: ChainHarness) -> None:
        """Refusing is for what could never arrive, and the simulator has these amounts arrive."""
        if not isinstance(story.rail, SupportsPaymentCheck):
            pytest.skip("this rail refuses nothing but bad addresses")
        for asset in story.sim.assets:
            assert await story.rail.check_payment(await story.address(), asset, story.unit, None) is None

    async def test_evidence_is_bounded_json(self, story: ChainHarness) -> None:
        address = await story.address()
        await story.paid(address)
        transfer = single((await story.scan(address)).transfers)
        text = json.dumps(dict(transfer.evidence), allow_nan=False)
        assert json.loads(text) == transfer.evidence, "the evidence changes on its way through JSON"
        assert len(text) <= EVIDENCE_MAX
        assert json.loads(json.dumps(transfer.raw, allow_nan=False)) == transfer.raw, "what the node said changes too"
