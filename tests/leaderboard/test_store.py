"""The store: what goes in comes out, nothing is lost or overwritten, bad files are named."""

import json
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fabricate import make_card, make_protocol, make_result
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderboard.base.errors import FileError
from leaderboard.errors import LeaderboardError
from leaderboard.records import Pretraining
from leaderboard.store import MOST_NAMED, ResultStore

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,20}", fullmatch=True)
percent = st.floats(0, 100)
lines = st.from_regex(r"[^\x00-\x20\x7f-\x9f\u2028\u2029][^\x00-\x1f\x7f-\x9f\u2028\u2029]{0,20}", fullmatch=True)
results = st.builds(
    lambda name, method, data, seed, value, metrics, when: make_result(
        make_card(name, method=method, pretraining=Pretraining.known(data=data)),
        make_protocol(),
        seed,
        value,
        metrics={key: number for key, number in metrics.items() if key != "mIoU"},
        finished_at=when,
    ),
    names,
    lines,
    st.none() | lines,
    st.integers(0, 10**6),
    st.none() | percent,
    st.dictionaries(lines, percent, max_size=3),
    st.datetimes(timezones=st.just(UTC)),
)


@settings(deadline=None)
@given(st.lists(results, max_size=5, unique_by=lambda result: result.key))
def test_what_goes_in_comes_out(added):
    with tempfile.TemporaryDirectory() as folder:
        store = ResultStore(Path(folder) / "new")
        for result in added:
            assert store.add(result).name == result.file_name
        assert list(store) == sorted(added, key=lambda result: result.file_name)
        assert store.keys() == {result.key for result in added}
        assert all(store.find(result.key) == result for result in added)
        assert len(list(Path(folder).iterdir())) <= 1


def test_a_store_without_folder_is_empty(tmp_path):
    store = ResultStore(tmp_path / "none")
    assert list(store) == []
    assert store.keys() == frozenset()
    assert store.find("0" * 16) is None


def test_adding_again_changes_nothing(tmp_path):
    store, result = ResultStore(tmp_path), make_result()
    before = store.add(result).stat().st_mtime_ns
    assert store.add(result).stat().st_mtime_ns == before


def test_a_finished_result_is_never_overwritten(tmp_path):
    store = ResultStore(tmp_path)
    path = store.add(make_result(value=50.0))
    stored = path.read_bytes()
    with pytest.raises(LeaderboardError, match=path.name):
        store.add(make_result(value=51.0))
    same_weights = make_card("other", sha256=make_card().sha256)
    with pytest.raises(LeaderboardError, match=path.name):
        store.add(make_result(same_weights, value=50.0))
    assert path.read_bytes() == stored
    assert len(list(store)) == 1


def test_of_racing_writers_of_a_run_one_succeeds(tmp_path):
    """Under the file's own name and under another name of the checkpoint; each writer has a store of its own."""
    keys, writers = 6, 8
    names = [make_card(), make_card("renamed", sha256=make_card().sha256)]
    start, succeeded = threading.Barrier(writers), []

    def write(number):
        start.wait()
        for seed in range(keys):
            try:
                ResultStore(tmp_path).add(make_result(names[number % 2], seed=seed, value=float(number)))
                succeeded.append(seed)
            except LeaderboardError as error:
                assert "stored already" in str(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(succeeded) == list(range(keys))
    assert len(list(ResultStore(tmp_path))) == keys


def test_what_killed_writers_left_goes_with_the_next_result(tmp_path):
    left = tmp_path / ".x.json.12.34.tmp"
    left.write_text("half")
    path = ResultStore(tmp_path).add(make_result())
    assert {file.name for file in tmp_path.iterdir()} == {path.name}


def test_a_failed_result_gives_way(tmp_path):
    store = ResultStore(tmp_path)
    store.add(make_result(value=None))
    store.add(make_result(make_card("renamed", sha256=make_card().sha256), value=None))
    assert [result.card.name for result in store] == ["renamed"]
    store.add(make_result(value=50.0))
    assert [(result.card.name, result.status) for result in store] == [("moco", "finished")]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: text.replace('"seed": 1', '"seed": 2', 1),
        lambda text: text.replace('"mIoU": 50.0', '"mIoU": NaN'),
        lambda text: text.replace('"status"', '"state"'),
        lambda text: text.replace('"schema_version": 2', '"schema_version": 3', 1),
        lambda text: "\udcff" + text,
    ],
    ids=["half", "empty", "seed edited", "not finite", "unknown field", "other schema", "not UTF-8"],
)
def test_damaged_files_are_named_and_the_others_usable(tmp_path, damage):
    store = ResultStore(tmp_path)
    good, bad = make_result(seed=0), make_result(seed=1)
    store.add(good)
    path = store.add(bad)
    path.write_text(damage(path.read_text()), encoding="utf-8", errors="surrogateescape")
    with pytest.raises(LeaderboardError, match=path.name):
        list(store)
    with pytest.raises(LeaderboardError, match=path.name):
        store.find(bad.key)
    usable, problems = store.load()
    assert usable == [good]
    assert len(problems) == 1


def test_a_renamed_file_and_a_second_copy_are_named(tmp_path):
    store, result = ResultStore(tmp_path), make_result()
    path = store.add(result)
    other_name = make_result(make_card("alias", sha256=result.card.sha256))
    (tmp_path / other_name.file_name).write_text(other_name.to_json())
    path.with_name(f"copy--{result.key}.json").write_bytes(path.read_bytes())
    usable, problems = store.load()
    assert usable == [other_name]
    assert "belongs into" in problems[0].reason
    assert "same run" in problems[1].reason
    assert {problem.key for problem in problems} == {result.key}


def test_many_bad_files_are_counted(tmp_path):
    for i in range(MOST_NAMED + 3):
        (tmp_path / f"bad{i:02d}.json").write_text("{}")
    with pytest.raises(LeaderboardError, match=r"and 3 more") as raised:
        list(ResultStore(tmp_path))
    assert len(str(raised.value).splitlines()) == MOST_NAMED + 1


def test_other_and_unfinished_files_are_left_alone(tmp_path):
    (tmp_path / ".gitkeep").touch()
    (tmp_path / ".x.json").write_text("half")
    (tmp_path / "README.md").write_text("text")
    assert list(ResultStore(tmp_path)) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot make the folder"):
        ResultStore(tmp_path / "file" / "results").add(make_result())


def test_a_result_is_readable_json(tmp_path):
    result = make_result(finished_at=datetime(2026, 1, 2, tzinfo=UTC))
    text = ResultStore(tmp_path).add(result).read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert json.loads(text)["metrics"]["mIoU"] == 50.0
