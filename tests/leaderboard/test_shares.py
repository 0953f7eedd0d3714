"""Shares of images: what goes in comes out, errors are the formula's, damage is named, nothing is unpacked blindly."""

import hashlib
import io
import math
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fabricate import make_result
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderboard.base.errors import FileError
from leaderboard.errors import LeaderboardError
from leaderboard.shares import SHARES, Shares, difference_error, read_shares
from leaderboard.store import ResultStore

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


def made(seed: int = 0, names: tuple[str, ...] = ("a.jpg", "b.jpg", "ç.jpg", "d.jpg")) -> Shares:
    values = np.random.default_rng(seed).standard_normal((2, len(names)))
    return Shares(names, dict(zip(("mIoU", "aAcc"), values - values.mean(1, keepdims=True), strict=True)))


@settings(max_examples=30)
@given(st.lists(texts, max_size=6), st.lists(texts, unique=True, max_size=4), st.integers(0, 99))
def test_what_is_written_is_read(names: list[str], metrics: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    shares = Shares(tuple(names), {metric: rng.standard_normal(len(names)) for metric in metrics})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / SHARES
        file.write_bytes(shares.to_bytes())
        again = read_shares(file)
    assert again.to_bytes() == shares.to_bytes()
    assert again.names == shares.names and list(again.metrics) == metrics
    assert all(np.array_equal(again.metrics[metric], shares.metrics[metric]) for metric in metrics)


def test_the_file_is_written_whole(tmp_path: Path) -> None:
    made().write(tmp_path / SHARES)
    assert [file.name for file in tmp_path.iterdir()] == [SHARES]
    assert (tmp_path / SHARES).read_bytes() == made().to_bytes()


def test_errors_are_those_of_a_plain_loop() -> None:
    a, b = made(0), made(1)
    n = len(a.names)

    def plain(values: list[float]) -> float:
        return math.sqrt(n / (n - 1) * math.fsum(value**2 for value in values))

    assert a.standard_error("aAcc") == pytest.approx(plain(a.metrics["aAcc"].tolist()), rel=1e-12)
    assert a.standard_errors() == {name: a.standard_error(name) for name in ("mIoU", "aAcc")}
    pairs = zip(a.metrics["mIoU"].tolist(), b.metrics["mIoU"].tolist(), strict=True)
    assert difference_error(a, b, "mIoU") == pytest.approx(plain([x - y for x, y in pairs]), rel=1e-12)
    assert difference_error(a, a, "mIoU") == 0
    assert difference_error(a, made(1, ("a.jpg", "b.jpg", "d.jpg", "ç.jpg")), "mIoU") is None
    assert made(0, ("alone",)).standard_error("mIoU") == 0
    with pytest.raises(KeyError):
        difference_error(a, b, "AP")


def test_shares_are_finite_small_and_one_an_image() -> None:
    for bad in (np.zeros(3), np.array([0.0, np.nan]), np.array([1e200, -1e200]), np.zeros((2, 1))):
        with pytest.raises(ValueError, match="mIoU: one share of at most 1e\\+06 points per image"):
            Shares(("a", "b"), {"mIoU": bad})


@settings(max_examples=50)
@given(st.data())
def test_a_damaged_file_is_named(data: st.DataObject) -> None:
    content = bytearray(made().to_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / SHARES
        file.write_bytes(content)
        try:
            found = read_shares(file)
        except FileError as error:
            assert str(error).startswith(f"{file}: ")
        else:  # the change hit a time, an attribute or the like
            assert found.names == made().names


def arrays(**changes: object) -> bytes:
    content = io.BytesIO()
    values = {"names": np.array(["a", "b"]), "metrics": np.array(["mIoU"]), "shares": np.zeros((1, 2))} | changes
    np.savez(content, **{key: value for key, value in values.items() if value is not None})  # type: ignore[arg-type]
    return content.getvalue()


def packed(content: bytes, how: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A file whose shares are `content`."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(arrays())) as old, zipfile.ZipFile(out, "w", how) as new:
        for name in old.namelist():
            new.writestr(name, content if name == "shares.npy" else old.read(name))
    return out.getvalue()


def head(shape: str) -> bytes:
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a zip file"),
        (arrays(names=None), "members"),
        (arrays(extra=np.zeros(1)), "members"),
        (arrays(shares=np.zeros((2, 1))), "differ in length"),
        (arrays(shares=np.zeros((1, 2), np.float32)), "as numpy writes"),
        (arrays(shares=np.array([["a", "b"]])), "shares float64"),
        (arrays(shares=np.array([[1.0, np.inf]])), "one share of at most"),
        (arrays(names=np.array([1.0, 2.0])), "must be text"),
        (arrays(names=np.array(["a", None], object)), "as numpy writes"),
        (arrays(metrics=np.array(["mIoU", "mIoU"]), shares=np.zeros((2, 2))), "twice"),
        (packed(head("(100000000, 100000000)")), "an array is not what its head says"),
        (packed(head("(" * 200)), "as numpy writes"),
        (packed(bytes(70_000_000)), "unpacks to more"),
        (packed(head("(1, 2)") + bytes(16), zipfile.ZIP_LZMA), "packed in another way"),
    ],
)
def test_a_file_of_something_else_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    file = tmp_path / SHARES
    file.write_bytes(content)
    with pytest.raises(FileError, match=reason):
        read_shares(file)


def test_the_store_keeps_them_by_their_hash(tmp_path: Path) -> None:
    store, content = ResultStore(tmp_path), made().to_bytes()
    assert store.shares(make_result()) is None
    sha256 = hashlib.sha256(content).hexdigest()
    result = make_result(outputs={SHARES: sha256})
    with pytest.raises(LeaderboardError, match="not those whose hash"):
        store.add(result, made(1).to_bytes())
    with pytest.raises(LeaderboardError, match="not those whose hash"):
        store.add(make_result(), content)
    assert list(store) == []
    store.add(result, content)
    store.add(result, content)
    found = store.shares(result)
    assert found is not None and found.to_bytes() == content
    assert list(store) == [result]
    file = tmp_path / "shares" / f"{sha256}.npz"
    file.write_bytes(made(1).to_bytes())
    with pytest.raises(FileError, match=f"{sha256}.*was changed"):
        store.shares(result)
    file.unlink()
    assert store.shares(result) is None
