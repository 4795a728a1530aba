"""What a detection waits for, and at which height that comes."""

from collections.abc import Mapping
from uuid import UUID

from indexer.core.model import Detection
from indexer.core.policy import Due, Policy, final_at
from indexer.core.states import DetectionState, Kind


def met_at(detection: Detection, policies: Mapping[UUID, Policy]) -> Due:
    """When the detection's policy is met. Other than payments have none to meet: a block is enough."""
    policy = policies[detection.destination_id] if detection.kind is Kind.PAYMENT else Policy(1)
    return policy.met_at(detection.block_height or 0, detection.maturity)


def next_due(detection: Detection, policies: Mapping[UUID, Policy], horizon: int, has_finality: bool) -> Due | None:
    """What the detection waits for next, as the index over due heights stores it; None where it waits for nothing."""
    if detection.state is DetectionState.INCLUDED:
        return met_at(detection, policies)
    if detection.state is DetectionState.CONFIRMED:
        return final_at(met_at(detection, policies), detection.block_height or 0, horizon, has_finality)
    return None
