"""Short courses of events in which two mechanisms meet, and which chance alone would bring once in a thousand stories.

Each is a list of verbs of `World`, which stories begin with and weave between others. ``n``, from 0 to 7, varies it.
Orders are numbered from the newest.
"""

from collections.abc import Mapping
from inspect import getmembers, isgeneratorfunction
from types import ModuleType

from tests.model.episodes import orders, transfers, two_daemons, two_rails, windows
from tests.model.episodes.calls import Episode


def _of(module: ModuleType) -> dict[str, Episode]:
    own = getmembers(module, lambda each: isgeneratorfunction(each) and each.__module__ == module.__name__)
    return {name: episode for name, episode in own if not name.startswith("_")}


ON_TWO_RAILS: Mapping[str, Episode] = _of(two_rails)
"""Episodes that need a second rail. Where there is none, the first one takes its part."""

EPISODES: Mapping[str, Episode] = {
    **_of(transfers), **_of(windows), **_of(orders), **_of(two_daemons), **ON_TWO_RAILS
}  # fmt: skip
