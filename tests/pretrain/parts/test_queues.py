from collections import deque

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pretrain.errors import PretrainError
from pretrain.parts.queues import Queue


def test_starts_with_unit_rows_from_the_seed() -> None:
    torch.manual_seed(3)
    first = Queue(64, 8)
    torch.manual_seed(3)
    assert torch.equal(first.keys, Queue(64, 8).keys)
    torch.testing.assert_close(first.keys.norm(dim=1), torch.ones(64))
    assert first.pointer == 0
    assert list(first.parameters()) == []
    assert abs(first.keys.mean()) < 0.1  # directions, not one point


@given(batches=st.lists(st.sampled_from([1, 2, 3, 4, 6, 12]), max_size=12))
def test_first_in_first_out(batches: list[int]) -> None:
    """Against a deque: after any batches that divide the size, also where one wraps around the end."""
    queue = Queue(12, 3)
    oldest_first = deque(map(tuple, queue.keys.tolist()), maxlen=12)
    count = 0
    for n in batches:
        keys = torch.randn(n, 3)
        queue.enqueue(keys)
        oldest_first.extend(map(tuple, keys.tolist()))
        count += n
        assert queue.pointer == count % 12
    rows = [tuple(row) for row in queue.keys.tolist()]
    start = count % 12
    assert rows[start:] + rows[:start] == list(oldest_first)


def test_after_n_steps_the_first_rows_are_the_keys_in_order() -> None:
    queue = Queue(20, 4)
    start = queue.keys.clone()
    keys = torch.nn.functional.normalize(torch.randn(8, 4), dim=1)
    queue.enqueue(keys[:4])
    queue.enqueue(keys[4:])
    assert torch.equal(queue.keys[:8], keys)
    assert torch.equal(queue.keys[8:], start[8:])


@pytest.mark.parametrize("n", [5, 24])
def test_a_batch_that_does_not_divide_the_size_is_refused(n: int) -> None:
    queue = Queue(12, 3)
    before = queue.keys.clone()
    with pytest.raises(PretrainError, match=rf"queue of 12 keys must be a multiple of the global batch of {n}"):
        queue.enqueue(torch.zeros(n, 3))
    assert torch.equal(queue.keys, before)
    assert queue.pointer == 0


def test_state_dict_resumes_exactly() -> None:
    queue, resumed = Queue(8, 2), Queue(8, 2)
    queue.enqueue(torch.randn(2, 2))
    resumed.load_state_dict(queue.state_dict())
    for n in (2, 4, 2):
        keys = torch.randn(n, 2)
        queue.enqueue(keys)
        resumed.enqueue(keys)
    assert torch.equal(queue.keys, resumed.keys)
    assert queue.pointer == resumed.pointer == 2


def test_keys_are_constants_and_copied() -> None:
    queue = Queue(4, 2)
    keys = torch.randn(2, 2, requires_grad=True)
    queue.enqueue(keys)
    assert not queue.keys.requires_grad
    keys.data.zero_()
    assert queue.keys[:2].any()
