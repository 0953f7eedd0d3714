"""Tracks: what a table has in common."""

from contextlib import suppress

import pytest

from bench.errors import BenchError
from bench.openmmlab.adapting import with_backbone
from bench.probes.plans import ProbePlan
from bench.protocols import TrainingPlan, load_protocol
from bench.submit import choose_protocols
from bench.tracks import TRACKS, Track, find_track


@pytest.mark.parametrize("track", TRACKS, ids=lambda track: track.id)
def test_a_track_is_complete(track: Track) -> None:
    assert find_track(track.id) is track
    assert track.purpose.endswith(".")
    assert all(rule.endswith(".") for rule in track.rules)
    every = (*track.protocols, *track.further)
    assert len(set(every)) == len(every)
    assert {load_protocol(protocol_id).track for protocol_id in every} == {track.id}


TUNED = [track for track in TRACKS if track.id != "frozen"]


@pytest.mark.parametrize("track", TUNED, ids=lambda track: track.id)
def test_rule_8_three_seeds_at_least(track: Track) -> None:
    assert len(set(track.seeds)) == len(track.seeds) >= 3


def test_probes_draw_next_to_nothing_and_need_one_seed() -> None:
    """Their intervals come from the validation images."""
    assert len(find_track("frozen").seeds) == 1
    frozen = find_track("frozen")
    plans = [load_protocol(name).plan for name in (*frozen.protocols, *frozen.further)]
    assert all(isinstance(plan, ProbePlan) or plan.frozen for plan in plans)


@pytest.mark.parametrize("track", [track for track in TUNED if track.id != "heads"], ids=lambda track: track.id)
def test_rule_10_several_dense_tasks(track: Track) -> None:
    protocols = [load_protocol(protocol_id) for protocol_id in track.protocols]
    assert {protocol.task for protocol in protocols} == {"detection", "instance segmentation", "semantic segmentation"}
    assert len({protocol.dataset for protocol in protocols}) >= 3


def test_the_rule_of_track_mini_on_learning_rates() -> None:
    plans = [load_protocol(protocol_id).plan for protocol_id in find_track("mini").protocols]
    rates = [(plan.learning_rate, plan.head_learning_rate) for plan in plans if isinstance(plan, TrainingPlan)]
    assert len(rates) == 5 and all(head == pytest.approx(10 * rate) for rate, head in rates)


@pytest.mark.parametrize("track_id", ["paper", "heads"])
def test_the_rule_on_architectures(track_id: str) -> None:
    """A ResNet that the OpenMMLab libraries do not have stands for networks with maps of strides 4 to 32."""
    track, networks = find_track(track_id), ("resnet152", "wide_resnet50_2", "vit_small_patch16")
    for protocol_id in (*track.protocols, *track.further):
        protocol = load_protocol(protocol_id)
        taken = set()
        for name in networks:
            with suppress(BenchError):
                with_backbone(protocol.config["model"], name, protocol_id, synchronised=False)
                taken.add(name)
        refused = set()
        if "_c4_" in protocol_id:
            refused = {"wide_resnet50_2", "vit_small_patch16"}
        elif protocol.task == "semantic segmentation":
            refused = {"wide_resnet50_2"}
        assert taken == set(networks) - refused, protocol_id


def test_further_protocols_run_where_they_are_named() -> None:
    usual, seeds = choose_protocols("frozen", (), None)
    assert [protocol.id for protocol in usual] == list(find_track("frozen").protocols)
    named, same = choose_protocols("frozen", ["frozen_voc_rank", "frozen_voc_seg_knn"], None)
    assert [protocol.id for protocol in named] == ["frozen_voc_rank", "frozen_voc_seg_knn"] and same == seeds
    with pytest.raises(BenchError, match="track mini has no protocol 'frozen_voc_rank': it is one of track frozen"):
        choose_protocols("mini", ["frozen_voc_rank"], None)


def test_unknown_track_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BenchError, match="choose one of mini"):
        find_track("maxi")
