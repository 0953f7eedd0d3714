"""What is printed of a run that has ended."""

from types import SimpleNamespace

from bench.report import _waited


def test_the_share_of_waiting_for_data() -> None:
    fine_tuned = SimpleNamespace(seconds={"data": 5.0, "forward_backward": 15.0, "evaluation": 80.0})
    assert _waited(fine_tuned) == ", 25% of the training waiting for data"  # type: ignore[arg-type]
    assert _waited(SimpleNamespace(seconds={"evaluation": 3.0})) == ""  # type: ignore[arg-type]
