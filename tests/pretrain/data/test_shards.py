"""Tar shards: the same ids, crops and fingerprint as the folder that was packed, and no image lost in silence."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from toy import toy_recipe

from pretrain.data import shards
from pretrain.data.augment import MOCO_V2_COLOUR
from pretrain.data.batches import ImageSource, Loading, crop_batches, open_images
from pretrain.data.decode import DamagedImageError
from pretrain.data.shards import ShardSource, expand_shards
from pretrain.data.views import Crop, ViewPlan, ViewSpec
from pretrain.errors import PretrainError
from pretrain.run.train import train

COUNT = 19
PLAN = ViewPlan((ViewSpec("query", 16, (0.2, 1.0), colour=MOCO_V2_COLOUR), ViewSpec("key", 12, (0.5, 1.0))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("folder") / "images"
    rng = np.random.default_rng(0)
    for k in range(COUNT):
        path = root / f"class{k % 3}" / f"{k:02d}.{'png' if k % 2 else 'JPEG'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20 + k, 45 - k, 3), dtype=np.uint8)).save(path)
        path.with_suffix(".cls").write_text(str(k % 3))
    (root / "class0" / "._00.JPEG").write_bytes(b"resource fork")
    return root


def pack(folder: Path, target: Path, count: int = 3, prefix: str = "") -> Path:
    """The files of `folder` in `count` shards in `target`, dealt out like cards."""
    target.mkdir()
    archives = [tarfile.open(target / f"part-{k:03d}.tar", "w") for k in range(count)]  # noqa: SIM115
    for k, path in enumerate(sorted((p for p in folder.rglob("*") if p.is_file()), reverse=True)):
        archives[k % count].add(path, prefix + path.relative_to(folder).as_posix())
    for archive in archives:
        archive.close()
    return target


@pytest.fixture(scope="module")
def packed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(folder, tmp_path_factory.mktemp("packed") / "shards")


def add(tar: tarfile.TarFile, name: str, data: bytes = b"x", **fields: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for key, value in fields.items():
        setattr(member, key, value)
    tar.addfile(member, io.BytesIO(data))


def names(source: ImageSource) -> list[str]:
    return [source.name(k) for k in range(len(source))]


def epoch(source: ImageSource, epoch: int = 1, first_step: int = 0, **options: int) -> list[list[Crop]]:
    loading = Loading(**({"batch_size": 4, "seed": 7, "workers": 0} | options))  # type: ignore[arg-type]
    return list(crop_batches(source, PLAN, loading, epoch=epoch, first_step=first_step))


def open_shards(path: Path) -> ShardSource:
    source = open_images(path)
    assert isinstance(source, ShardSource)
    return source


def assert_same(a: Sequence[Sequence[Crop]], b: Sequence[Sequence[Crop]]) -> None:
    assert len(a) == len(b) > 0
    for first, second in zip(a, b, strict=True):
        for x, y in zip(first, second, strict=True):
            for field in ("pixels", "box", "flip", "image_id", "colour"):
                assert torch.equal(getattr(x, field), getattr(y, field))


# The same as a folder


def test_shards_are_the_folder_that_was_packed(folder: Path, packed: Path) -> None:
    source, shards = open_images(folder), open_images(packed)
    assert isinstance(shards, ShardSource) and len(shards) == COUNT
    assert names(shards) == names(source)
    assert shards.fingerprint() == source.fingerprint()
    for k in range(COUNT):
        assert torch.equal(shards.decode(k), source.decode(k))
        assert shards.size(k) == source.size(k)
        assert ".tar: " + shards.name(k) in shards.where(k)
    for outside in (-1, COUNT):
        with pytest.raises(IndexError):
            shards.name(outside)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_are_the_folders_bit_for_bit_with_any_number_of_workers(
    folder: Path, packed: Path, workers: int
) -> None:
    assert_same(epoch(open_images(packed), workers=workers), epoch(open_images(folder)))


def test_two_ranks_share_the_folders_global_batch(folder: Path, packed: Path) -> None:
    """Each opens the shards itself, and has another number of workers."""
    parts = [epoch(open_images(packed), batch_size=2, rank=rank, world=2, workers=rank) for rank in range(2)]
    whole = epoch(open_images(folder))
    assert len(whole) == len(parts[0]) == len(parts[1])
    for step, crops in enumerate(whole):
        for view, crop in enumerate(crops):
            for field in ("pixels", "box", "flip", "image_id", "colour"):
                joined = torch.cat([getattr(part[step][view], field) for part in parts])
                assert torch.equal(joined, getattr(crop, field))


def test_a_run_on_shards_is_the_run_on_the_folder(folder: Path, packed: Path, tmp_path: Path) -> None:
    runs = [
        train(toy_recipe(epochs=1), open_images(data), tmp_path / name, data_name="toy", device="cpu", workers=0)
        for name, data in (("folder", folder), ("shards", packed))
    ]
    records = [(run / "run.json").read_text() for run in runs]
    assert records[0] == records[1]
    first, second = (torch.load(run / "checkpoint.pt", weights_only=True)["method"] for run in runs)
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_another_distribution_over_shards_is_the_same_set(folder: Path, packed: Path, tmp_path: Path) -> None:
    one = open_images(pack(folder, tmp_path / "one", count=1, prefix="./"))
    five = open_images(pack(folder, tmp_path / "five", count=5))
    assert names(one) == names(five) == names(open_images(packed))
    assert one.fingerprint() == five.fingerprint()
    assert_same(epoch(one), epoch(five, workers=1))


def test_a_pickled_source_opens_its_shards_again(packed: Path) -> None:
    source = open_images(packed)
    first = source.decode(3)
    copy = pickle.loads(pickle.dumps(source))
    assert torch.equal(copy.decode(3), first)
    assert copy.fingerprint() == source.fingerprint()


def test_few_descriptors_serve_many_shards_and_are_closed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "OPEN_SHARDS", 2)
    source, plain = open_images(pack(folder, tmp_path / "shards", count=7)), open_images(folder)
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("open files cannot be counted on this system")
    before = len(list(descriptors.iterdir()))
    for k in (*range(COUNT), *range(COUNT)):
        assert torch.equal(source.decode(k), plain.decode(k))
        assert len(list(descriptors.iterdir())) <= before + 2
    del source
    assert len(list(descriptors.iterdir())) == before


letters = st.characters(exclude_characters="\0\n/", exclude_categories=())
file_names = st.text(letters, min_size=1, max_size=40).filter(lambda text: not text.startswith("."))


def _holds(name: str) -> bool:
    """Whether a file system can hold the name: encodable, and no longer than 255 bytes."""
    try:
        return len(os.fsencode(name)) < 250
    except UnicodeEncodeError:
        return False


def _path(entry: tuple[list[str], str]) -> str:
    return "/".join((*entry[0], entry[1]))


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.lists(file_names.filter(_holds), max_size=2), file_names.filter(_holds)),
        min_size=1,
        max_size=6,
        unique_by=_path,
    ),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    st.integers(1, 3),
    st.randoms(),
)
def test_any_names_in_any_order_are_read_back(entries, format, count, random) -> None:  # type: ignore[no-untyped-def]
    images = {_path(entry) + ".png": os.fsencode(entry[1])[:9] for entry in entries}
    with tempfile.TemporaryDirectory() as here:
        listed = list(images.items())
        random.shuffle(listed)
        for k in range(count):
            with tarfile.open(Path(here) / f"{k}.tar", "w", format=format, errors="surrogateescape") as tar:
                add(tar, "readme.txt", b"y" * 700)
                for name, data in listed[k::count]:
                    add(tar, name, data)
        source = ShardSource(Path(here), [Path(here) / f"{k}.tar" for k in range(count)])
        assert names(source) == sorted(images, key=os.fsencode)
        for k, name in enumerate(names(source)):
            assert source.size(k) == len(images[name])
            read = source._read(source._descriptor(int(source._shard[k])), k)
            assert read.tobytes() == images[name]


def test_a_name_in_several_shards_counts_in_each(tmp_path: Path) -> None:
    for k, shard in enumerate(("b.tar", "a.tar")):
        with tarfile.open(tmp_path / shard, "w") as tar:
            add(tar, "0.png", b"x" * (k + 1))
            add(tar, f"{k + 1}.png", b"x" * 9)
    source = open_images(tmp_path)
    assert names(source) == ["0.png", "0.png", "1.png", "2.png"]
    assert [source.size(k) for k in range(4)] == [2, 1, 9, 9]
    assert source.where(0).startswith(str(tmp_path / "a.tar"))


# Finding shards


def test_patterns(folder: Path, tmp_path: Path) -> None:
    target = pack(folder, tmp_path / "shards", count=12)
    every = sorted(target.iterdir())
    assert sorted(expand_shards(f"{target}/part-{{000..011}}.tar")) == every
    assert sorted(expand_shards(f"{target}/part-{{011..000}}.tar")) == every
    assert sorted(expand_shards(f"{target}/*.tar")) == every
    assert sorted(expand_shards(f"{target}/part-0{{0*,1[01]}}.tar")) == every
    assert sorted(expand_shards(f"{target}/part-{{00{{0..9}},010,011}}.tar")) == every
    assert expand_shards(f"{target}/part-00{{1,1}}.tar") == [target / "part-001.tar"]
    source = open_images(target / "part-{000..011}.tar")
    assert source.fingerprint() == open_images(folder).fingerprint()
    assert source.root == target
    assert open_images(target / "part-003.tar").root.name == "part-003.tar"
    with pytest.raises(PretrainError, match=r"part-012\.tar does not exist; it is one of"):
        expand_shards(f"{target}/part-{{000..020}}.tar")
    with pytest.raises(PretrainError, match="does not exist"):
        open_images(tmp_path / "none-*.tar")
    (target / "notes.txt").write_text("")
    with pytest.raises(PretrainError, match=r"notes\.txt, which is not a \.tar file"):
        open_images(target / "*")


@given(st.integers(0, 120), st.integers(0, 120), st.booleans())
def test_a_range_counts_from_end_to_end(first: int, last: int, padded: bool) -> None:
    width = 3 if padded else 0
    got = list(shards._expand_braces(f"x-{{{first:0{width}d}..{last:0{width}d}}}.tar"))
    step = 1 if first <= last else -1
    assert got == [f"x-{k:0{width}d}.tar" for k in range(first, last + step, step)]


def test_a_folder_with_images_is_a_folder_of_images(folder: Path, tmp_path: Path) -> None:
    target = pack(folder, tmp_path / "both")
    Image.new("RGB", (4, 4)).save(target / "one.png")
    assert names(open_images(target)) == ["one.png"]


# What cannot be read


def refused(path: Path) -> str:
    with pytest.raises(PretrainError) as caught:
        open_images(path)
    message = str(caught.value)
    assert str(path) in message and 1 <= len(message.splitlines()) <= 2
    return message


def test_compressed_shards_are_refused_with_a_remedy(packed: Path, tmp_path: Path) -> None:
    data = gzip.compress((packed / "part-000.tar").read_bytes())
    for name in ("a.tar.gz", "a.tgz", "named-wrongly.tar"):
        (tmp_path / name).write_bytes(data)
        message = refused(tmp_path / name)
        assert "compressed tar file" in message and "gunzip" in message
    (tmp_path / "named-wrongly.tar").unlink()
    with pytest.raises(PretrainError, match=r"a\.t(ar\.)?gz is a compressed tar file"):
        open_images(tmp_path)
    with pytest.raises(PretrainError, match="compressed tar file"):
        open_images(tmp_path / "*.gz")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"type": tarfile.SYMTYPE, "linkname": "other.jpg"}, "as a link to other.jpg"),
        ({"type": tarfile.LNKTYPE, "linkname": "other.jpg"}, "--hard-dereference"),
        ({"type": tarfile.FIFOTYPE}, "not a plain file"),
        ({"pax_headers": {"GNU.sparse.map": "0,1", "GNU.sparse.size": "1"}}, "without --sparse"),
    ],
)
def test_links_and_special_files_are_refused(tmp_path: Path, fields: dict[str, object], words: str) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        add(tar, "good.jpg")
        add(tar, "bad.jpg", b"" if "type" in fields else b"x", **fields)
    message = refused(path)
    assert "bad.jpg" in message and words in message


def test_what_is_no_image_may_be_anything(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        add(tar, "a.jpg")
        add(tar, "folder.jpg", b"", type=tarfile.DIRTYPE)
        add(tar, "a.json", b"", type=tarfile.SYMTYPE, linkname="elsewhere")
        add(tar, ".hidden/b.jpg")
        add(tar, "../c.jpg")
    assert names(open_images(tmp_path)) == ["../c.jpg", "a.jpg"]


def test_names_that_no_file_could_have(tmp_path: Path) -> None:
    for name in ("two\nlines.png", "nul\0.png"):
        with tarfile.open(tmp_path / "x.tar", "w") as tar:
            add(tar, "plain", b"", pax_headers={"path": name})
            add(tar, "a.png", pax_headers={"path": name})
        assert ascii(name) in refused(tmp_path / "x.tar")


def test_the_same_name_twice_in_a_shard(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        add(tar, "a/b.png")
        add(tar, "./a//b.png")
    assert "holds a/b.png more than once" in refused(tmp_path / "x.tar")


def test_no_images_and_no_tar(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        add(tar, "labels.json")
    assert "no images in 1 shard" in refused(tmp_path / "x.tar")
    for data in (b"", b"no tar at all", bytes(600)):
        (tmp_path / "x.tar").write_bytes(data)
        refused(tmp_path / "x.tar")
    (tmp_path / "missing").mkdir()
    with pytest.raises(PretrainError, match="cannot read shard"):
        ShardSource(tmp_path, [tmp_path / "gone.tar"])


def test_joined_tar_files_are_refused(packed: Path, tmp_path: Path) -> None:
    parts = sorted(packed.iterdir())
    (tmp_path / "x.tar").write_bytes(b"".join(part.read_bytes() for part in parts))
    assert "goes on after its end mark" in refused(tmp_path / "x.tar")


def small_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for k in range(3):
            add(tar, f"{'long/' * (15 * k)}{k}.png", bytes([k + 1]) * (100 + 700 * k))
    return buffer.getvalue()


SMALL = small_tar()
with tarfile.open(fileobj=io.BytesIO(SMALL)) as _tar:
    END = max(m.offset_data + -(-m.size // 512) * 512 for m in _tar.getmembers())
    LAST_DATA = max(m.offset_data for m in _tar.getmembers())


@settings(max_examples=60)
@given(st.integers(0, END + 511))
def test_a_shard_cut_anywhere_is_noticed(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.tar"
    path.write_bytes(SMALL[:length])
    message = refused(path)
    assert "cut short" in message or "damaged" in message


@settings(max_examples=120)
@given(st.integers(0, END - 1), st.binary(min_size=1, max_size=20))
def test_damage_is_an_error_or_leaves_the_index_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, start: int, junk: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.tar"
    path.write_bytes(SMALL[:start] + junk + SMALL[start + len(junk) :])
    with tarfile.open(fileobj=io.BytesIO(SMALL)) as tar:
        listed = sorted((m.size, m.offset_data) for m in tar.getmembers())
    try:
        source = open_shards(path)
    except PretrainError as error:
        assert str(path) in str(error) and len(str(error).splitlines()) <= 2
    else:
        # Headers carry check sums, which cover names too, except the long ones of pax and GNU tar.
        assert sorted(zip(source._length.tolist(), source._offset.tolist(), strict=True)) == listed


def test_a_damaged_image_is_named_with_its_shard(folder: Path, tmp_path: Path) -> None:
    target = pack(folder, tmp_path / "shards")
    source = open_shards(target)
    victim = 5
    path = Path(source.where(victim).split(": ")[0])
    times = path.stat()
    with path.open("r+b") as file:
        file.seek(int(source._offset[victim]))
        file.write(bytes(source.size(victim)))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(DamagedImageError) as caught:
        source.decode(victim)
    assert source.where(victim) in str(caught.value)
    crops = list(crop_batches(source, PLAN, Loading(COUNT, workers=1, on_damaged="skip")))  # the next one stands in
    assert sorted(crops[0][0].image_id.tolist()) == sorted([*(k for k in range(COUNT) if k != victim), victim + 1])


def test_a_shard_that_changes_under_the_run_is_noticed(folder: Path, tmp_path: Path) -> None:
    target = pack(folder, tmp_path / "shards")
    source = open_images(target)
    path = target / "part-001.tar"
    path.write_bytes(path.read_bytes() + bytes(512))
    index = next(k for k in range(COUNT) if str(path) in source.where(k))
    with pytest.raises(PretrainError, match=r"part-001\.tar was changed since it was indexed") as caught:
        source.decode(index)
    assert not isinstance(caught.value, DamagedImageError)
    path.unlink()
    with pytest.raises(PretrainError, match="cannot read shard"):
        source.decode(index)
