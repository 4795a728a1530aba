"""Evidence for people: the rule and numbers of a transition, and each node's report of a transfer."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rich.text import Text

from railwatch.ops.formatting import format_amount, format_time, policy_words, printable_text
from railwatch.store.read_models import Dossier, Record

SUMS = ("seen", "confirmed", "late")


def render_grounds(row: Record, dossier: Dossier, indent: int = 10) -> Iterator[Text]:
    """Return why a transition was emitted: an invoice's rule and sums by destination, else the facts."""
    evidence = dict(row["evidence"])
    rule, sums = evidence.pop("rule", None), evidence.pop("destinations", [])
    if rule is not None:
        yield _dim(f"because {printable_text(rule)}", indent)
    for each in sums:
        yield from _sums(each, dossier, indent)
    if rule is not None:
        heights = [
            f"{name} {evidence[name]}" for name in ("cursor", "finalized", "tip") if evidence.get(name, -1) != -1
        ]
        yield _dim(f"the rail was at {', '.join(heights)}", indent)
        # The page omits what its heading and its destinations say; the JSON has it.
        evidence = {name: evidence[name] for name in ("held", "covered_until", "actor", "note") if name in evidence}
    yield from render_facts(evidence, indent)


def _sums(each: Mapping[str, Any], dossier: Dossier, indent: int) -> Iterator[Text]:
    """Return one destination's sums at that moment, in display units if the asset is configured."""
    same = [way for way in dossier.destinations if (way["rail"], way["asset"]) == (each["rail"], each["asset"])]
    units = same[0] if same else {"asset": each["asset"], "decimals": None, "symbol": None}

    def shown(name: str) -> str:
        return format_amount({**units, "sum": int(each[name])}, "sum")

    asked = shown("least") if each["least"] == each["most"] else f"{shown('least')} to {shown('most')}"
    yield _dim(f"asked {asked} on {printable_text(each['rail'])} at {policy_words(each['policy'])}", indent)
    yield _dim("  " + ", ".join(f"{name} {shown(name)}" for name in SUMS), indent)


def render_observations(detection: Record, dossier: Dossier) -> Iterator[Text]:
    """Return each observation of one transfer: block, time and node."""
    for each in dossier.observations:
        if each["detection_id"] != detection["id"]:
            continue
        place = "in the mempool" if each["block_height"] is None else f"in block {each['block_height']}"
        node = f" by {printable_text(each['node'])}" if each["node"] else ""
        yield Text(f"    {each['observation']}. seen {place} at {format_time(each['recorded_at'])}{node}")
        if each["block_hash"] is not None and each["block_hash"] != detection["block_hash"]:
            yield Text(f"       {printable_text(each['block_hash'])}, not the block that holds it now", "yellow")
        yield from render_facts({name: fact for name, fact in each["facts"].items() if name != "node"}, indent=7)


def render_facts(evidence: Mapping[str, Any], indent: int = 4) -> Iterator[Text]:
    """Return a line for each fact."""
    for key, value in evidence.items():
        shown = value if isinstance(value, str) else json.dumps(value)
        yield _dim(f"{printable_text(key)}: {printable_text(shown)}", indent)


def _dim(text: str, indent: int) -> Text:
    return Text(" " * indent + text, "dim")
