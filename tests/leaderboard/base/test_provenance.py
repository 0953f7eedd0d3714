"""Which code ran where."""

import os
import re
import subprocess

import pytest

from leaderboard.base import provenance
from leaderboard.base.provenance import available_cores, code_commit, package_versions, processor_name


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    for key in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(key, "test")

    def git(*arguments):
        return subprocess.run(["git", "-C", tmp_path, *arguments], check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    (tmp_path / "code.py").write_text("a = 1\n")
    git("add", "code.py")
    git("commit", "-q", "-m", "first")
    git("tag", "v1")
    return tmp_path, git("rev-parse", "HEAD").strip()


def test_the_commit_says_whether_files_differ_from_it(checkout):
    folder, head = checkout
    assert code_commit(folder) == head
    (folder / "code.py").write_text("a = 2\n")
    assert code_commit(folder) == f"{head}-dirty"


def test_no_commit_outside_a_checkout_or_without_git(checkout, tmp_path_factory, monkeypatch):
    assert code_commit(tmp_path_factory.mktemp("package")) is None
    monkeypatch.setenv("PATH", "")
    assert code_commit(checkout[0]) is None


def test_versions_of_what_is_installed():
    versions = package_versions(["pydantic", "no-such-package", "numpy"])
    assert list(versions) == ["pydantic", "numpy"]
    assert all(re.match(r"\d+\.\d+", version) for version in versions.values())


def test_the_machine(monkeypatch):
    assert processor_name()
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
    monkeypatch.delattr(provenance.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(provenance.os, "cpu_count", lambda: None)
    assert available_cores() == 1
