"""The fake node's faults, each as one of the seam's errors, and what `create_adapter` says of a wrong table."""

import pytest

from railwatch.conformance import ChainHarness
from railwatch.rail import BlockGone, ChainId, RailFault, RailSettings, RailUnavailable, Span
from railwatch_fake import FakeChain, FakeNode, Output, Rules, create_adapter, forget, node_of, register
from railwatch_fake.dev.simulator import FakeSimulator

SHOP = RailSettings("shop", ChainId("fake:shop"))


@pytest.fixture
def chain():
    yield register(FakeChain("shop", Rules(safe=1, finality=2)))
    forget("shop")


@pytest.fixture
async def story(chain):
    sim = FakeSimulator(chain=chain, node=node_of("shop"))
    async with sim, create_adapter(SHOP, {"chain": "shop", "timeout": 0.1, "silence": 0.1}) as rail:
        yield await ChainHarness.begin(sim, rail, unit=1)


@pytest.mark.parametrize("fault", ["down", "hangs", "misshapen"])
async def test_a_node_that_does_not_answer_rightly_is_unavailable_until_it_does(story, fault):
    setattr(story.sim.node, fault, True)
    with pytest.raises(RailUnavailable):
        await story.rail.heads()
    setattr(story.sim.node, fault, False)
    assert await story.head() == story.start


async def test_a_block_that_is_not_whole_is_never_accepted(story):
    address = await story.address()
    await story.paid(address)
    story.sim.node.truncates = True
    with pytest.raises(RailUnavailable, match="1 transactions, but 0 came"):
        await story.scan(address)


async def test_a_block_that_cannot_be_read_is_a_fault_with_its_hash(story):
    await story.paid(await story.address())
    story.sim.node.undecodable = True
    with pytest.raises(RailFault, match=story.sim.chain.tip.hash):
        await story.scan()


async def test_the_chain_id_is_asked_again_at_each_connection(story):
    story.sim.node.impersonate("fake:elsewhere")
    with pytest.raises(RailUnavailable, match="elsewhere"):
        await story.rail.heads()
    story.sim.node.impersonate(None)
    assert await story.head() == story.start


async def test_a_lagging_node_goes_back_on_the_same_branch(story):
    await story.sim.mine(3)
    ahead = await story.line()
    story.sim.node.lag = 2
    assert await story.line() == ahead[:2]
    with pytest.raises(BlockGone):
        await story.rail.scan(Span(story.start, ahead[-1]), story.watch())


async def test_a_node_on_a_branch_of_its_own_answers_from_it(story):
    await story.sim.mine(2)
    stayed = story.sim.chain.tip
    story.sim.node.pin(stayed.hash)
    await story.reorg(2)
    assert (await story.head()).hash == stayed.hash
    story.sim.node.pin(None)
    assert (await story.head()).hash == story.sim.chain.tip.hash


async def test_a_branch_can_be_left_and_come_back(story):
    address = await story.address()
    await story.paid(address)
    first = story.sim.chain.tip
    await story.reorg(1, keep=False)
    assert list((await story.scan(address)).transfers) == []
    story.sim.chain.adopt(first.hash)
    assert (await story.scan(address)).transfers[0].block.hash == first.hash


async def test_a_node_that_fell_silent_is_not_believed(story):
    story.sim.node.silent = True
    await story.sim.mine()
    with pytest.raises(RailUnavailable, match="silent"):
        await story.rail.wait_for_change()


async def test_skipped_heights_answer_with_the_block_below(story):
    story.sim.chain.skip(3)
    await story.sim.mine()
    head = await story.head()
    assert head.height == story.start.height + 4
    assert await story.rail.block_at(head.height - 1) == story.start


async def test_one_transaction_may_pay_many_and_say_for_whom(story):
    first, second = await story.address(), await story.address()
    story.sim.chain.send(Output(first.key, 5, reference="order-1"), Output(second.key, 7, "gold"), maturity=100)
    await story.sim.mine()
    transfers = (await story.scan(first, second)).transfers
    assert [(t.tx_index, t.amount, t.reference, t.maturity) for t in transfers] == [
        ("out:0", 5, "order-1", 100),
        ("out:1", 7, None, 100),
    ]


async def test_a_double_spend_after_a_reorg_names_its_rival(story):
    address = await story.address()
    old = await story.paid(address)
    [paid] = (await story.scan(address)).transfers
    await story.reorg(1, keep=False)
    rival = await story.replace(old)
    await story.sim.mine()
    watches = story.watch(address, spends={coin: {old} for coin in paid.spends})
    [transfers] = (await story.scan_for(watches)).transfers
    assert (transfers.tx_id, transfers.amount, transfers.rivals) == (rival, 0, (old,))


def test_the_same_story_gives_the_same_hashes():
    def outputs_of(seed):
        chain = FakeChain("shop", seed=seed)
        chain.send(Output(chain.new_key(), 5))
        chain.mine(3)
        return chain.reorg(2).hash

    assert outputs_of(1) == outputs_of(1) != outputs_of(2)


@pytest.mark.parametrize(
    ("node", "key"),
    [({}, "chain"), ({"chain": "nowhere"}, "chain"), ({"chain": "shop", "http": ""}, "node")]
    + [({"chain": "shop", "timeout": value}, "timeout") for value in (0, "soon", True)],
)
def test_a_wrong_node_table_is_refused_by_the_name_of_its_key(chain, node, key):
    with pytest.raises(ValueError, match=f"^{key}: "):
        create_adapter(SHOP, node)


def test_the_name_says_which_node(chain):
    assert node_of("shop") is node_of("shop", "main")
    assert isinstance(node_of("shop", "second"), FakeNode)
    assert node_of("shop", "second") is not node_of("shop")
