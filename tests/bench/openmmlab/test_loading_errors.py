"""What is said of an error in a loading process: its own words, as without such a process."""

from pathlib import Path
from typing import Any

import pytest
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader, Dataset

from bench.errors import BenchError
from bench.openmmlab import measuring, runner
from bench.openmmlab.loading_errors import plain_loading_errors
from bench.protocols import load_protocol

WORDS = "data/JPEGImages/7.jpg is damaged: image file is truncated"


class Damaged(Dataset[int]):
    """An image whose reading fails deep inside, with a longer traceback than our errors keep."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        return self.decode(20)

    def decode(self, calls: int) -> int:
        if calls:
            return self.decode(calls - 1)
        try:
            raise OSError("broken data stream")
        except OSError as cause:
            raise self.error from cause


def load(error: Exception) -> None:
    """Raise what PyTorch raises for an error in a loading process."""
    try:
        Damaged(error)[0]
    except Exception:
        ExceptionWrapper(where="in DataLoader worker process 0").reraise()


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (BenchError(WORDS), BenchError, WORDS),
        (BenchError("two lines:\n  do this"), BenchError, r"two lines:\n  do this"),
        (OSError("truncated"), OSError, "truncated"),
        (AssertionError(), AssertionError, "no message"),
        (
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no start"),
            RuntimeError,
            "UnicodeDecodeError: 'utf-8' codec can't",
        ),
    ],
    ids=["ours", "lines", "system", "empty", "not built again"],
)
def test_it_has_its_own_words_alone(error: Exception, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as raised, plain_loading_errors():
        load(error)
    said = str(raised.value).replace("\n", r"\n")
    assert said.startswith(words) and "Traceback" not in said and len(said) < 120
    assert "Original Traceback" in str(raised.value.__cause__)


def test_pytorch_says_them_so() -> None:
    with pytest.raises(BenchError) as raised, plain_loading_errors():
        next(iter(DataLoader(Damaged(BenchError(WORDS)), num_workers=1, multiprocessing_context="fork")))
    assert str(raised.value) == WORDS


def test_other_errors_stay_as_they_are() -> None:
    for error in (ValueError("Caught a cold"), ValueError(), KeyError(3)):
        with pytest.raises(type(error)) as raised, plain_loading_errors():
            raise error
        assert raised.value is error


@pytest.mark.parametrize("name", ["run_transfer", "evaluate_stored", "measure"])
def test_runs_evaluations_and_rehearsals_say_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = measuring if name == "measure" else runner
    monkeypatch.setattr(module, "prepare_openmmlab", lambda: load(BenchError(WORDS)))
    inputs: dict[str, tuple[Any, ...]] = {
        "run_transfer": (Path(), Path(), None, 0, Path()),
        "evaluate_stored": (Path(), Path(), Path(), Path()),
        "measure": (Path(), Path(), Path()),
    }
    options = {"batch": 2, "most_seconds": 1.0} if name == "measure" else {}
    with pytest.raises(BenchError) as raised:
        getattr(module, name)(load_protocol("mini_voc_seg_fcn"), *inputs[name], **options)
    assert str(raised.value) == WORDS
