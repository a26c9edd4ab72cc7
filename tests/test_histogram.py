"""That a quantile of a histogram is what was put in, a fifth too much at most."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispycos.histogram import BUCKETS, bucket_of, quantile, sparse

times = st.floats(2e-6, 1e5)


@given(times)
def test_a_time_is_at_most_a_fifth_below_the_edge_of_its_bucket(seconds: float) -> None:
    edge = quantile([(bucket_of(seconds), 1)], 0.5)
    assert edge is not None and seconds <= edge * 1.0001 and edge <= seconds * 1.2


@given(st.lists(times, min_size=1, max_size=50), st.sampled_from([0.5, 0.99]))
def test_so_is_a_quantile(several: list[float], share: float) -> None:
    histogram = list(Counter(map(bucket_of, several)).items())
    told = quantile(histogram, share)
    true = sorted(several)[max(0, -int(-share * len(several) // 1) - 1)]
    assert told is not None and true * 0.99 <= told <= true * 1.2


@pytest.mark.parametrize(("seconds", "bucket"), [(-1.0, 0), (0.0, 0), (1e-9, 0), (1e30, BUCKETS - 1)])
def test_what_is_out_of_range_is_at_an_end(seconds: float, bucket: int) -> None:
    assert bucket_of(seconds) == bucket


def test_an_empty_one_has_no_quantile() -> None:
    assert quantile([], 0.5) is None
    assert sparse([0, 2, 0, 1]) == [(1, 2), (3, 1)]
