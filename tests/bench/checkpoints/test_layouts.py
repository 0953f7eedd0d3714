import string

import pytest
import torch
import torchvision
from hypothesis import example, given, settings
from hypothesis import strategies as st
from synthetic_nets import StateDict, shapes_only

from bench.checkpoints.choice import choose
from bench.checkpoints.containers import Leaf
from bench.checkpoints.families import architecture
from bench.checkpoints.formats import recognize
from bench.checkpoints.layouts import find_candidates
from bench.checkpoints.resnets import RESNET, RESNETS, structure
from bench.errors import BenchError
from pretrain.nets.architectures import build_backbone

with torch.device("meta"):
    RESNET18 = torchvision.models.resnet18()
EXPECTED = set(architecture("resnet18").shapes)

words = st.text(string.ascii_lowercase + string.digits + "_", min_size=1, max_size=12)
prefixes = st.lists(words, max_size=4).map(lambda parts: "".join(part + "." for part in parts))


def leaves(names: dict[str, torch.Tensor], location: str = "") -> dict[str, Leaf]:
    found = [Leaf(location, name, tensor) for name, tensor in names.items()]
    return {leaf.name: leaf for leaf in found}


@pytest.mark.parametrize("name", RESNETS)
def test_expected_tensors_are_those_of_the_backbone(name: str) -> None:
    with torch.device("meta"):
        net = build_backbone(name)
    expected = architecture(name)
    assert {key: tuple(value.shape) for key, value in net.state_dict().items()} == dict(expected.shapes)
    assert sum(p.numel() for p in net.parameters()) == expected.parameters


@pytest.mark.parametrize("name", RESNETS)
def test_structure_names_each_architecture(name: str) -> None:
    with torch.device("meta"):
        tensors = build_backbone(name).state_dict()
    assert structure(tensors).depth_name == name.removeprefix("wide_").removesuffix("_2")
    assert RESNET.nearest(tensors).name == name


@settings(max_examples=60, deadline=None)
@given(prefix=prefixes, location=prefixes)
@example(prefix="0.", location="4.")
def test_any_prefix_is_found(prefix: str, location: str) -> None:
    location = location.removesuffix(".")
    # `4.0.conv1.weight` also reads as the first block of an nn.Sequential: such fragments are found but never whole
    (candidate,) = (c for c in find_candidates(leaves(shapes_only(RESNET18, prefix), location)) if c.whole())
    assert (candidate.prefix, candidate.location) == (prefix, location)
    assert candidate.tensors.keys() == EXPECTED
    assert candidate.whole()
    assert all(candidate.sources[name].endswith(prefix + name) for name in EXPECTED)


@settings(max_examples=20, deadline=None)
@given(prefix=prefixes)
def test_any_prefix_of_positional_names_is_found(prefix: str) -> None:
    with torch.device("meta"):
        sequence = torch.nn.Sequential(*list(torchvision.models.resnet18().children())[:-1])
    (candidate,) = find_candidates(leaves(shapes_only(sequence, prefix)))
    assert candidate.prefix == prefix
    assert candidate.tensors.keys() == EXPECTED
    assert candidate.sources["layer3.1.bn2.bias"] == f"{prefix}6.1.bn2.bias"
    assert candidate.whole()


def test_one_dictionary_a_module() -> None:
    nested = {}
    for name, tensor in shapes_only(RESNET18).items():
        location, _, key = f"net.{name}".rpartition(".")
        nested[f"{location}.{key}"] = Leaf(location, key, tensor)
    (candidate,) = find_candidates(nested)
    assert (candidate.full_prefix, candidate.location) == ("net.", "")
    assert candidate.whole()


def two_networks(first: str, second: str) -> dict[str, Leaf]:
    """`first` is filled with 1 and `second` with 2."""
    names = {}
    for prefix, value in ((first, 1.0), (second, 2.0)):
        names.update({n: t + value for n, t in shapes_only(RESNET18, prefix).items()})
    return leaves(names)


@pytest.mark.parametrize(
    ("trained", "copy"),
    [
        ("module.encoder_q.", "module.encoder_k."),  # MoCo
        ("module.base_encoder.", "module.momentum_encoder."),  # MoCo v3
        ("module.encoder.", "module.encoder_k."),  # PixPro
        ("online_encoder.", "target_encoder."),  # SFC, CYBORGS
        ("module.online_network.encoder.", "module.target_network.encoder."),  # detcon-pytorch
        ("backbone.", "momentum_backbone."),  # solo-learn
        ("backbone.", "encoder_k.module.0."),  # mmpretrain
        ("state_dict.", "state_dict_ema."),  # timm
    ],
)
def test_the_trained_network_goes_before_its_momentum_copy(trained: str, copy: str) -> None:
    for file in (two_networks(trained, copy), two_networks(copy, trained)):
        choice = choose(find_candidates(file), None)
        assert choice.chosen.full_prefix == trained
        assert not choice.problems
        (note,) = choice.notes
        assert trained in note and repr(copy) in note
        named = choose(find_candidates(file), copy)
        assert named.chosen.full_prefix == copy
        assert not named.problems


def test_two_unmarked_networks_are_ambiguous() -> None:
    candidates = find_candidates(two_networks("left.", "right."))
    choice = choose(candidates, None)
    assert len(choice.problems) == 1
    assert "--prefix 'left.'" in choice.problems[0] and "--prefix 'right.'" in choice.problems[0]
    assert not choose(candidates, "right").problems


def test_an_alias_is_no_ambiguity() -> None:
    """OpenSelfSup stores the query encoder twice: `encoder_q.0.` and `backbone.`."""
    names = {**shapes_only(RESNET18, "backbone."), **shapes_only(RESNET18, "encoder_q.0.")}
    choice = choose(find_candidates(leaves(names)), None)
    assert choice.chosen.full_prefix == "encoder_q.0."
    assert not choice.problems
    assert choice.notes == ("`backbone.` holds the same weights as `encoder_q.0.`",)


def test_a_damaged_trained_network_is_not_replaced_silently() -> None:
    file = two_networks("encoder_q.", "encoder_k.")
    del file["encoder_q.layer3.0.conv1.weight"]
    choice = choose(find_candidates(file), None)
    assert choice.chosen.full_prefix == "encoder_k."
    assert "`encoder_q.` is incomplete" in choice.problems[0]
    assert not choose(find_candidates(file), "encoder_k").problems


def distilled(students: StateDict, teacher: str = "resnet34") -> dict[str, Leaf]:
    """A file of a distillation: the teacher, and beside it the student's tensors."""
    with torch.device("meta"):
        network = getattr(torchvision.models, teacher)()
    return leaves({**shapes_only(network, "module.teacher."), **students})


@pytest.mark.parametrize(
    ("students", "named"),
    [
        (shapes_only(RESNET18, "module.student."), "--prefix 'module.student.' or --prefix 'module.teacher.'"),
        ({"module.student.features.0.weight": torch.ones(2)}, "--prefix 'module.teacher.'"),
    ],
)
def test_a_teacher_that_is_no_copy_of_its_student_is_not_chosen(students: StateDict, named: str) -> None:
    file = distilled(students)
    candidates = find_candidates(file)
    choice = choose(candidates, None, file)
    (problem,) = choice.problems
    assert "is a resnet34 and the student" in problem and problem.endswith(f"choose with {named}")
    assert choice.notes == ()
    assert recognize("torchvision names", file) is None
    assert not choose(candidates, "module.teacher", file).problems
    copies = distilled(shapes_only(RESNET18, "module.student."), "resnet18")
    assert not choose(find_candidates(copies), None, copies).problems


def test_a_prefix_that_no_network_has() -> None:
    candidates = find_candidates(two_networks("encoder_q.", "encoder_k."))
    with pytest.raises(BenchError, match=r"no network has the prefix 'backbone'.*'encoder_q\.', 'encoder_k\.'"):
        choose(candidates, "backbone")


def test_a_prefix_that_two_networks_have() -> None:
    names = {
        **leaves(shapes_only(RESNET18, "module."), "student"),
        **leaves(shapes_only(RESNET18, "module."), "teacher"),
    }
    candidates = find_candidates(names)
    with pytest.raises(BenchError, match="several networks"):
        choose(candidates, "module.")
    assert choose(candidates, "teacher.module").chosen.location == "teacher"
