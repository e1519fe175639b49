"""FrameReader: a stream is cut into the frames that were put into it, however it arrives."""

import random

import pytest

from actors import link
from actors.link import READ_BYTES, FrameReader


def framed(number: int, frame: bytes) -> bytes:
    return (len(frame) + 4).to_bytes(4, "big") + number.to_bytes(4, "big") + frame


def feed(reader: FrameReader, octets: bytes, step: int) -> list[tuple[int, bytes]]:
    found = []
    rest = memoryview(octets)
    while rest:
        room = reader.buffer()
        count = min(step, len(room), len(rest))
        room[:count] = rest[:count]
        rest = rest[count:]
        found += list(reader.received(count))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_frames_of_any_size_in_pieces_of_any_size(seed: int) -> None:
    chance = random.Random(seed)
    sizes = [0, 1, 100, READ_BYTES - 9, READ_BYTES - 8, READ_BYTES - 7, READ_BYTES, 3 * READ_BYTES]
    frames = [
        (number, chance.randbytes(chance.choice([*sizes, chance.randrange(5000)])))
        for number in range(1, 40)
    ]
    reader = FrameReader()
    stream = b"".join(framed(number, frame) for number, frame in frames)
    step = chance.choice([7, 4096, 65536, READ_BYTES])
    if step == 7:
        frames, stream = frames[:3], b"".join(framed(*one) for one in frames[:3])
    assert feed(reader, stream, step) == frames


def test_one_octet_at_a_time() -> None:
    assert feed(FrameReader(), framed(7, b"abc") + framed(8, b""), 1) == [(7, b"abc"), (8, b"")]


@pytest.mark.parametrize("length", [0, 3, link.FRAME_BYTES_MAX + 1, 0xFFFF_FFFF])
def test_a_length_out_of_bounds_ends_it(length: int) -> None:
    with pytest.raises(link._Broken):
        feed(FrameReader(), length.to_bytes(4, "big") + b"\0" * 8, 12)


def test_a_large_frame_takes_no_more_than_it_says() -> None:
    reader = FrameReader()
    reader.bytes_max = 1 << 20
    assert feed(reader, framed(1, bytes(1 << 19)), 1 << 16) == [(1, bytes(1 << 19))]
    with pytest.raises(link._Broken):
        feed(reader, framed(2, bytes(1 << 20)), 1 << 16)
