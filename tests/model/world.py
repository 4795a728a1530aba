"""The world of one story: a chain, its nodes, daemons, a database, people; every verb is a thing that happens there.

A story is a list of verbs with plain arguments (`World.story`), so that it can be printed, kept and played again.
"""

from tests.model.chain_verbs import ChainVerbs
from tests.model.node_verbs import NodeVerbs
from tests.model.operator_verbs import OperatorVerbs
from tests.model.people_verbs import PeopleVerbs
from tests.model.time_verbs import TimeVerbs


class World(PeopleVerbs, ChainVerbs, NodeVerbs, TimeVerbs, OperatorVerbs):
    """One story's world, with all verbs."""
