"""Cues that can be read, and files of them that are whole at every moment."""

import itertools
import os
import random
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamasr.captions import subtitles
from streamasr.captions.subtitle_file import SubtitleFile
from streamasr.captions.subtitles import Cue, SubtitleFormat, cues
from streamasr.errors import ConfigError, StreamasrError
from streamasr.events import Final, Word
from tests.subtitle_player import assert_monotonic, packets

FORMATS: tuple[SubtitleFormat, ...] = ("srt", "vtt")


def final(text: str, start: float = 0.0, word_seconds: float = 0.3) -> Final:
    words = tuple(
        Word(word, start + number * word_seconds, start + (number + 1) * word_seconds, 0.9)
        for number, word in enumerate(text.split())
    )
    return Final(0, text, words[0].start_seconds, words[-1].end_seconds, words, 0.9, (), "silence")


# ---- Cues. ----------------------------------------------------------------------------------


def test_cues_have_short_lines_and_never_overlap() -> None:
    text = " ".join(["seventeen", "words", "of", "different", "lengths"] * 12)
    shown = list(cues([final(text), final("the end", start=30.0)]))
    assert " ".join(line for cue in shown for line in cue.lines) == f"{text} the end"
    for cue in shown:
        assert len(cue.lines) <= subtitles.CUE_LINES
        assert all(len(line) <= subtitles.LINE_CHARACTERS for line in cue.lines)
        assert cue.end_seconds - cue.start_seconds <= subtitles.CUE_SECONDS
    for cue, after in itertools.pairwise(shown):
        assert cue.end_seconds <= after.start_seconds


def test_lines_and_cues_are_balanced() -> None:
    """No full line with a single word after it, no full cue with a short one after it."""
    text = "one more word than forty two characters hold"
    assert [cue.lines for cue in cues([final(text)])] == [
        ("one more word than forty", "two characters hold")
    ]
    text = " ".join(["twelve chars"] * 7) + " end"
    lengths = [sum(map(len, cue.lines)) for cue in cues([final(text, word_seconds=0.1)])]
    assert len(lengths) == 2
    assert max(lengths) - min(lengths) <= 12


def test_a_word_longer_than_a_line_has_its_own() -> None:
    long = "x" * 60
    assert [cue.lines for cue in cues([final(f"a {long} b")])] == [("a", long), ("b",)]


def test_a_cue_stays_for_a_second_where_there_is_room() -> None:
    shown = list(cues([final("yes", 1.0), final("no", 1.6), final("maybe", 9.0)]))
    assert [(cue.start_seconds, cue.end_seconds) for cue in shown] == [
        (1.0, 1.6),
        (1.6, 2.6),
        (9.0, 10.0),
    ]


def test_a_final_without_words_is_spread_over_its_time() -> None:
    bare = Final(0, "one two three four", 2.0, 14.0, (), 0.9, (), "silence")
    assert list(cues([bare])) == [
        Cue(2.0, 8.0, ("one two",)),
        Cue(8.0, 14.0, ("three four",)),
    ]


TIMES = st.floats(-100, 1000)
WORDS = st.builds(Word, st.text(max_size=50), TIMES, TIMES, st.just(0.5))
FINALS = st.builds(
    Final,
    st.just(0),
    st.text(max_size=80),
    TIMES,
    TIMES,
    st.lists(WORDS, max_size=20).map(tuple),
    st.just(0.5),
    st.just(()),
    st.just("silence"),
)


@given(st.lists(FINALS, max_size=5), TIMES, st.floats(0, 1000))
def test_whatever_comes_cues_follow_each_other(
    finals: list[Final], shift: float, after: float
) -> None:
    for cue in cues(finals, shift_seconds=shift, after_seconds=after):
        assert cue.start_seconds >= round(after, 3)
        assert cue.end_seconds >= cue.start_seconds + 0.0009
        assert 1 <= len(cue.lines) <= 2
        assert all(line.split() for line in cue.lines)
        assert all("\n" not in line for line in cue.lines)
        after = cue.end_seconds


def test_srt_and_vtt_blocks() -> None:
    cue = Cue(3661.5, 3662.25, ("one", "two"))
    assert subtitles.srt(7, cue) == "7\n01:01:01,500 --> 01:01:02,250\none\ntwo\n\n"
    assert subtitles.vtt(cue) == "01:01:01.500 --> 01:01:02.250\none\ntwo\n\n"


def test_names_with_signs_do_not_break_a_block() -> None:
    cue = Cue(0.0, 1.0, ("AT&T <3 -->",))
    assert subtitles.srt(1, cue).splitlines()[2] == "AT&T <3 ->"
    assert subtitles.vtt(cue).splitlines()[1] == "AT&amp;T &lt;3 --&gt;"


# ---- Files. ---------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", FORMATS)
def test_a_file_grows_cue_by_cue_and_is_continued(format_: SubtitleFormat, tmp_path: Path) -> None:
    path = tmp_path / "said"
    with closing(SubtitleFile(path, format_)) as file:
        assert path.read_text() == ("WEBVTT\n\n" if format_ == "vtt" else "")
        for number in range(3):
            file.append([final("one two", 10.0 * number + 20)], -20.0)
            assert len(packets(path)) == number + 1
    with closing(SubtitleFile(path, format_)) as file:
        file.append([final("three", 7.0)], -5.0)
        file.append([final("four", 0.0)], 0.0)  # a clock that went back
    shown = packets(path)
    assert_monotonic(shown)
    assert shown == [(0, 1), (10, 11), (20, 21), (23, 24), (24, 25)]
    if format_ == "srt":
        assert path.read_text().splitlines()[::4] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("format_", FORMATS)
def test_a_file_cut_anywhere_is_continued_or_refused(
    format_: SubtitleFormat, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    with closing(SubtitleFile(whole, format_)) as file:
        file.append([final("zwölf <um> zwölf"), final("two", 5.0)], 0.0)
    content = whole.read_bytes()
    path = tmp_path / "cut"
    refused = 0
    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        try:
            file = SubtitleFile(path, format_)
        except ConfigError:
            assert path.read_bytes() == content[:size]
            refused += 1
            continue
        with closing(file):
            file.append([final("more")], 0.0)
        with closing(SubtitleFile(path, format_)):  # is whole again
            assert b"\nmore\n\n" in path.read_bytes()
    assert 0 < refused < len(content)


FOREIGN = {
    "diary": b"dear diary,\n\ntoday nothing happened\n",
    "binary": b"\xff\xfe\0\0" * 20,
    "torn": b"1\n00:00:00,000 --> 00:00:01,000\none\n\n2\n00:00:0",
    "no text": b"1\n00:00:00,000 --> 00:00:01,000\n\n",
    "numbers": b"1\n2\n3\n",
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN.keys())
@pytest.mark.parametrize("format_", FORMATS)
def test_a_foreign_file_is_refused_and_left_alone(
    format_: SubtitleFormat, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="name another file") as caught:
        SubtitleFile(path, format_)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_one_format_is_not_the_other(tmp_path: Path) -> None:
    for format_, other in zip(FORMATS, FORMATS[::-1], strict=True):
        path = tmp_path / format_
        with closing(SubtitleFile(path, format_)) as file:
            file.append([final("one")], 0.0)
        with pytest.raises(ConfigError):
            SubtitleFile(path, other)


def test_files_of_other_programs_are_continued(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\xef\xbb\xbf7\r\n00:01:00,000 --> 00:01:01,500\r\none\r\n")
    with closing(SubtitleFile(path, "srt")) as file:
        file.append([final("two")], 0.0)
    assert packets(path) == [(60.0, 61.5), (61.5, 62.5)]
    assert path.read_text().splitlines()[-4:] == ["8", "00:01:01,500 --> 00:01:02,500", "two", ""]
    path.write_text("WEBVTT - talk\n\nNOTE by me\n\nfirst\n")
    with path.open("a") as text:
        text.write("00:00:01.000 --> 00:00:02.000 line:0\none\n\n")
    with closing(SubtitleFile(path, "vtt")) as file:
        file.append([final("two")], 0.0)
    assert packets(path) == [(1.0, 2.0), (2.0, 3.0)]


def test_places_that_are_no_files(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (tmp_path, tmp_path / "missing" / "file", fifo, Path("/dev/null")):
        with pytest.raises(ConfigError, match=str(path)):
            SubtitleFile(path, "srt")


def test_two_programs_do_not_write_one_file(tmp_path: Path) -> None:
    with (
        closing(SubtitleFile(tmp_path / "file", "srt")),
        pytest.raises(ConfigError, match="another program"),
    ):
        SubtitleFile(tmp_path / "file", "srt")


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """Writes beyond it come out short, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_whole_cues(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with closing(SubtitleFile(path, "srt")) as file:
        file.append([final("one")], 0.0)
        before = path.read_bytes()
        with (
            file_size_limit(len(before) + 10),
            pytest.raises(StreamasrError, match="cannot write subtitles"),
        ):
            file.append([final("two", 5.0)], 0.0)
        assert path.read_bytes() == before


WRITE_FOR_EVER = """
import itertools, pathlib, sys
from streamasr.captions.subtitle_file import SubtitleFile
from streamasr.events import Final
file = SubtitleFile(pathlib.Path(sys.argv[1]), sys.argv[2])
for second in itertools.count():
    text = "a sentence of some length " * 3
    file.append([Final(0, text, second, second + 1.0, (), 0.9, (), "silence")], 0.0)
    print(second, flush=True)
"""


@pytest.mark.parametrize("format_", FORMATS)
def test_a_kill_at_any_moment_leaves_whole_cues(format_: SubtitleFormat, tmp_path: Path) -> None:
    path = tmp_path / "file"
    chance = random.Random(format_)
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", WRITE_FOR_EVER, path, format_], stdout=subprocess.PIPE
        ) as writing:
            assert writing.stdout is not None
            for _ in range(chance.randrange(1, 500)):
                assert writing.stdout.readline()
            writing.kill()
        assert path.read_text().endswith("length\n\n")
        assert_monotonic(packets(path))
        SubtitleFile(path, format_).close()
