"""`railwatch unallocated`: an operator finds a payment without a reference, and gives it to an order."""

from railwatch.cli.errors import Exit
from tests.ops.shell import Shell
from tests.scenarios.daemon_harness import DaemonHarness


async def orders(stage: DaemonHarness, shop: str) -> None:
    """Register two orders at one address, each with a reference of its own."""
    for reference in ("R1", "R2"):
        way = {"rail": stage.chain.name, "asset": "COIN", "amount": 10, "address": shop, "reference": reference}
        await stage.invoice(to=[way])


async def test_a_transfer_is_listed_shown_and_assigned(shell: Shell, stage: DaemonHarness) -> None:
    shop = await stage.sim.new_address()
    await orders(stage, shop)
    assert await shell.output("unallocated", "list") == "no unallocated transfers\n"
    paid = await stage.sim.pay(shop, 10)
    await stage.mine(2)
    (row,) = await shell.data("unallocated", "list")
    short = str(row["id"])[:8]
    assert short in await shell.output("unallocated", "list")
    assert "no order" in await shell.output("exceptions", "list")
    shown = await shell.output("unallocated", "show", short)
    for part in ("shop/1", "shop/2", "That proves nothing"):
        assert part in shown
    assert (await shell.data("unallocated", "show", paid))["id"] == row["id"]
    explained = await shell.run("explain", paid)
    assert explained.exit_code == Exit.NOT_FOUND
    assert f"railwatch unallocated show {row['id']}" in explained.stderr
    assign = ["unallocated", "assign", short, "shop/2", "--reason", "the receipt", "--actor", "ann"]
    said = await shell.output(*assign)
    assert said.startswith("assigned to invoice ")
    assert (await shell.data(*assign))["detection"] == row["id"]
    assert await shell.data("unallocated", "list") == []
    (row,) = await shell.data("unallocated", "list", "--all")
    assert row["assigned_by"] == "ann"
    assert "by ann" in await shell.output("unallocated", "show", short)
    assert await shell.data("exceptions", "list") == []


async def test_a_wrong_name_is_refused_with_what_to_do(shell: Shell, stage: DaemonHarness) -> None:
    shop = await stage.sim.new_address()
    await orders(stage, shop)
    await stage.sim.pay(shop, 10)
    await stage.sim.pay(shop, 11)
    await stage.mine(1)
    nothing = await shell.run("unallocated", "show", "ffff")
    assert nothing.exit_code == Exit.NOT_FOUND
    assert "railwatch unallocated list" in nothing.stderr
    elsewhere = await stage.invoice(10)
    (row, _) = await shell.data("unallocated", "list")
    refused = await shell.run("unallocated", "assign", row["id"], str(elsewhere.id), "--reason", "guess")
    assert refused.exit_code == Exit.REJECTED
    assert "has no destination at address" in refused.stderr
