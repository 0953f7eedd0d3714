"""Diagrams of a track as SVG: ranks with tiers, scores by protocol, and what they cost."""

from __future__ import annotations

from leaderboard.board import Track
from leaderboard.diagrams.cost import cost_diagram
from leaderboard.diagrams.heat_map import heat_map
from leaderboard.diagrams.ranks import rank_diagram
from leaderboard.diagrams.svg import Diagram

__all__ = ["Diagram", "diagrams"]


def diagrams(track: Track) -> list[Diagram]:
    """The diagrams for which the track has enough rows."""
    drawn = (draw(track) for draw in (rank_diagram, heat_map, cost_diagram))
    return [diagram for diagram in drawn if diagram is not None]
