"""SampleRing: the clock is absolute and every lost sample is counted."""

import threading

import numpy as np
import pytest

from streamasr.frontend.ring import SampleRing


def ramp(first: int, count: int) -> np.ndarray:
    """Samples that carry their own index (exact in float32 below 2**24)."""
    return np.arange(first, first + count, dtype=np.float32)


def test_reads_what_was_written_across_the_wrap() -> None:
    ring = SampleRing(10)
    for first in range(0, 70, 7):
        ring.write(ramp(first, 7))
        at, samples = ring.read()
        assert at == first
        assert np.array_equal(samples, ramp(first, 7))
    assert ring.overrun_samples == 0
    assert ring.written_samples == 70


def test_an_empty_ring_reads_nothing() -> None:
    ring = SampleRing(4)
    first, samples = ring.read()
    assert (first, len(samples)) == (0, 0)


def test_overrun_drops_the_oldest_and_jumps_the_clock() -> None:
    ring = SampleRing(8)
    ring.write(ramp(0, 6))
    ring.write(ramp(6, 6))
    assert ring.overrun_samples == 4
    first, samples = ring.read()
    assert first == 4
    assert np.array_equal(samples, ramp(4, 8))
    assert ring.overrun_samples == 4


def test_a_block_larger_than_the_ring_keeps_its_end() -> None:
    ring = SampleRing(5)
    ring.write(ramp(0, 13))
    first, samples = ring.read()
    assert first == 8
    assert np.array_equal(samples, ramp(8, 5))
    assert ring.overrun_samples == 8


def test_reads_in_portions() -> None:
    ring = SampleRing(8, dtype=np.int16)
    ring.write(np.arange(5, dtype=np.int16))
    assert ring.read(2)[1].tolist() == [0, 1]
    assert ring.unread_samples == 3
    first, samples = ring.read(100)
    assert (first, samples.tolist()) == (2, [2, 3, 4])
    assert samples.dtype == np.int16


def test_capacity_must_be_positive() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        SampleRing(0)


def test_a_writer_that_races_the_reader_never_shows_torn_samples() -> None:
    ring = SampleRing(1_000)
    total = 400_000

    def write() -> None:
        for first in range(0, total, 400):
            ring.write(ramp(first, 400))

    writer = threading.Thread(target=write)
    writer.start()
    received = 0
    previous_end = 0
    while True:
        alive = writer.is_alive()
        first, samples = ring.read()
        assert first >= previous_end
        assert np.array_equal(samples, ramp(first, len(samples)))
        received += len(samples)
        previous_end = first + len(samples)
        if not alive and len(samples) == 0:
            break
    writer.join(timeout=10)
    assert received + ring.overrun_samples == total


def test_what_is_erased_is_overwritten_and_still_counted() -> None:
    ring = SampleRing(4, dtype=np.int16)
    held = ring._samples
    ring.write(np.arange(1, 7, dtype=np.int16))
    ring.erase()
    assert not held.any()
    assert ring.overrun_samples == 2
