"""``streamasr soak``: the programme into the daemon, guests at its door, a row every hour."""

import asyncio
import json
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from streamasr.client import Client
from streamasr.errors import AddressError, ConfigError, ProtocolError
from streamasr.soak.figures import (
    Report,
    Row,
    Verdict,
    constant,
    heard,
    latency,
    memory,
    numbered,
    percentile_ms,
    repeated,
    same_words,
)
from streamasr.soak.guests import VISIT_SECONDS, Viewer, hang_up, look_in, speak
from streamasr.soak.programme import QUIET_SECONDS, Block, Programme, Sounds, Span, count_samples
from streamasr.soak.watched import DaemonFailedError, Reading, Resources, Watched, watched
from streamasr.soak.yardstick import Yardstick
from streamasr.training.manifest import Samples
from streamasr.training.plots import draw_soak, new_figure, save_figure
from streamasr.training.sounds import SAMPLE_RATE_HZ

LEAST_HOURS, MOST_HOURS = 0.06, 1_000.0
FEWEST_ROWS = 4
LOOKS_A_ROW = 12
VISITS_A_ROW = 4
SAMPLE_BYTES = 2
SENTENCE_SECONDS = 6.0
"""Of the bundled recording every speaker says this much: its first sentence."""


@dataclass(frozen=True, slots=True)
class SoakConfig:
    """What ``streamasr soak`` was asked: so many ``hours`` of audio, of which speech and noise
    are taken from a ``manifest`` and a folder of ``noise`` where they are named. ``log`` gets a
    JSON line for every row as it ends; ``plot`` is where a picture of them all shall be drawn."""

    hours: float = 24.0
    manifest: Path | None = None
    noise: Path | None = None
    seed: int = 0
    log: Path | None = None
    plot: Path | None = None


def soak(config: SoakConfig, show: Callable[[Row], None] = lambda _: None) -> Report:
    """Run to the end, or until SIGINT or SIGTERM, which leave the rows that are finished.

    ``show`` is called with every row as it ends. A daemon that fails is a verdict. Raises
    ConfigError and AudioFormatError for what was asked, and what ``Recognizer.load`` raises.
    """
    if not LEAST_HOURS <= config.hours <= MOST_HOURS:  # nor is it nan
        raise ConfigError(f"--hours must be {LEAST_HOURS:g}..{MOST_HOURS:g}, not {config.hours:g}")
    if not Path("/proc/self/status").exists():
        raise ConfigError("streamasr soak reads /proc, which only Linux has; run it there")
    # Says now what would be missing at the end.
    if config.plot is not None:
        new_figure(1, 1)
        _check_writable(config.plot, "--plot")
    if config.log is not None:
        _check_writable(config.log, "--log")
    rows = max(FEWEST_ROWS, 2 * round(config.hours / 2))
    sounds = Sounds.load(config.manifest, config.noise)
    programme = Programme(sounds, rows, 3600 * config.hours / rows, config.seed)
    return asyncio.run(_Soak(programme, config.log, show).run())


def draw(report: Report, picture: Path) -> None:
    """The rows as a PNG, where there are any. Raises ConfigError where it cannot be written."""
    if report.rows:
        save_figure(draw_soak([asdict(row) for row in report.rows]), picture)


def _check_writable(path: Path, flag: str) -> None:
    """Raises ConfigError."""
    try:
        path.open("ab").close()
    except OSError as error:
        raise ConfigError(f"{flag}: {path} cannot be written: {error.strerror}") from None


class _Soak:
    """One run."""

    def __init__(self, programme: Programme, log: Path | None, show: Callable[[Row], None]) -> None:
        self._programme = programme
        first_samples = count_samples(QUIET_SECONDS + SENTENCE_SECONDS)
        self._sentence = _pcm(
            programme.control.samples[count_samples(QUIET_SECONDS) : first_samples]
        )
        self._yardstick = Yardstick(programme.control.samples)
        self._log = log
        self._show = show
        self._stopping = asyncio.Event()
        self._viewer = Viewer()
        self._rows: list[Row] = []
        self._spoken: list[Span] = []
        self._speakers: list[tuple[str, ...]] = []
        self._written_seconds = 0.0

    async def run(self) -> Report:
        """The report of the rows that were finished."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)
        verdicts: list[Verdict] = []
        try:
            async with watched() as daemon:
                async with Client(daemon.url) as client:
                    watching = asyncio.create_task(self._viewer.watch(client))
                    try:
                        last = await self._hear_all(daemon)
                        await self._viewer.seen(last.finals - self._speakers_finals)
                    finally:
                        watching.cancel()
                verdicts = self._verdicts(last)
                code = await daemon.end()
            ended = Verdict("end", code == 0, f"the daemon ended with exit code {code}")
        except (DaemonFailedError, AddressError, ProtocolError, OSError, EOFError) as failure:
            ended = Verdict("end", False, str(failure))
        return Report(tuple(self._rows), (*verdicts, ended))

    async def _hear_all(self, daemon: Watched) -> Reading:
        """Every row, until stopped; what the daemon says once it has heard them."""
        reading = await daemon.read()
        for number in range(self._programme.rows):
            after = await self._hear_row(daemon, number, reading)
            if after is None:
                break
            reading = after
        return await self._caught_up(daemon)

    async def _hear_row(self, daemon: Watched, number: int, before: Reading) -> Reading | None:
        """One row; what the daemon says at its end, None where it was stopped before."""
        began_seconds = time.monotonic()
        fresh = await asyncio.to_thread(self._yardstick.measure, before.chunks)
        await self._write(daemon, self._programme.control)
        control = await self._caught_up(daemon)
        looks: list[Resources] = []
        guests: list[asyncio.Task[None]] = []
        blocks = self._programme.row(number)
        row_began_seconds = number * self._programme.row_seconds
        while (block := await asyncio.to_thread(next, blocks, None)) is not None:
            await self._write(daemon, block)
            part = (self._written_seconds - row_began_seconds) / self._programme.row_seconds
            if part >= len(looks) / LOOKS_A_ROW:
                looks.append(await daemon.resources())
            if part >= len(guests) / VISITS_A_ROW:
                guests.append(asyncio.create_task(self._visit(daemon.url)))
            if self._stopping.is_set():
                break
        await asyncio.gather(*guests)
        if self._stopping.is_set():
            return None
        after = await self._caught_up(daemon)
        at_end = await daemon.settled()
        looks.append(at_end)
        nothing = dict.fromkeys(fresh, 0.0)
        self._finish_row(
            Row(
                audio_hours=round(self._written_seconds / 3600, 4),
                wall_seconds=round(time.monotonic() - began_seconds, 1),
                resident_mb=_mean([look.resident_mb for look in looks]),
                anonymous_mb=_mean([look.anonymous_mb for look in looks]),
                chunk_p50_ms=percentile_ms(0.5, before.chunks, control.chunks),
                chunk_p95_ms=percentile_ms(0.95, before.chunks, control.chunks),
                fresh_p50_ms=percentile_ms(0.5, nothing, fresh),
                fresh_p95_ms=percentile_ms(0.95, nothing, fresh),
                load=after.load_since(before),
                open_files=at_end.open_files,
                threads=at_end.threads,
                finals=after.finals - before.finals,
            )
        )
        return after

    def _finish_row(self, row: Row) -> None:
        self._rows.append(row)
        if self._log is not None:
            with self._log.open("a", encoding="utf-8") as log:
                print(json.dumps(asdict(row)), file=log)
        self._show(row)

    async def _write(self, daemon: Watched, block: Block) -> None:
        """All of a block, as fast as it is taken; its speech is noted."""
        first_seconds = self._written_seconds
        for span in block.spoken:
            self._spoken.append(
                Span(first_seconds + span.start_seconds, first_seconds + span.end_seconds)
            )
        await daemon.hear(_pcm(block.samples))
        self._written_seconds += len(block.samples) / SAMPLE_RATE_HZ

    async def _visit(self, url: str) -> None:
        """One of each who come and go."""
        try:
            async with asyncio.timeout(VISIT_SECONDS):
                await look_in(url)
                await hang_up(url)
                self._speakers.append(await speak(url, self._sentence))
        except TimeoutError:
            raise DaemonFailedError(f"a guest was not served within {VISIT_SECONDS:g} s") from None

    async def _caught_up(self, daemon: Watched) -> Reading:
        """What the daemon says once it has heard all that was written and spoken to it."""
        by_speakers = len(self._speakers) * len(self._sentence) / SAMPLE_BYTES / SAMPLE_RATE_HZ
        return await daemon.caught_up(self._written_seconds + by_speakers)

    @property
    def _speakers_finals(self) -> int:
        return sum(map(len, self._speakers))

    def _verdicts(self, last: Reading) -> list[Verdict]:
        rows, finals = self._rows, self._viewer.finals
        period = self._programme.period_rows
        numbers = [final.utterance for final in finals]
        verdicts = [
            Verdict(
                "rows",
                len(rows) == self._programme.rows,
                f"{len(rows)} of {self._programme.rows} finished",
            ),
            numbered(numbers, self._speakers_finals, last.finals, self._viewer.losses),
            heard(self._spoken, finals),
            same_words("speakers", self._speakers),
            same_words("control", self._controls()),
            Verdict("input", last.lost_seconds == 0, f"{last.lost_seconds:g} s of it lost"),
        ]
        if len(rows) > 1:
            verdicts += [memory(rows), latency(rows), constant(rows)]
        if len(rows) > period:
            again = self._by_row()[period : len(rows)]
            verdicts.append(repeated(self._by_row()[: len(again)], again))
        return verdicts

    def _controls(self) -> list[tuple[str, ...]]:
        """The words of every row's control."""
        seconds = len(self._programme.control.samples) / SAMPLE_RATE_HZ
        return [
            tuple(text for start, text in row if start < seconds)
            for row in self._by_row()[: len(self._rows)]
        ]

    def _by_row(self) -> list[list[tuple[float, str]]]:
        """Every row's finals: seconds after its beginning, and text."""
        row_seconds = self._programme.row_seconds
        rows: list[list[tuple[float, str]]] = [[] for _ in range(self._programme.rows)]
        for final in self._viewer.finals:
            number = int(final.start_seconds / row_seconds)
            start_seconds = round(final.start_seconds - number * row_seconds, 3)
            rows[number].append((start_seconds, final.text))
        return rows


def _pcm(samples: Samples) -> bytes:
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


def _mean(values: list[float]) -> float:
    return round(float(np.mean(values)), 1)
