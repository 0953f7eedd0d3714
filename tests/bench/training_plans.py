"""The plan of a protocol that trains."""

from bench.protocols import Protocol, TrainingPlan


def plan_of(protocol: Protocol) -> TrainingPlan:
    """The plan of `protocol`, which is no probe."""
    assert isinstance(protocol.plan, TrainingPlan)
    return protocol.plan
