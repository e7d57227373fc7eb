"""Samples in, events out: the recognizer and its streams.

``Recognizer`` is what every stream shares and nothing changes. ``Stream`` is one listener:
it holds one ``StreamState``, a value, and replaces it with the next.

The law: the events of a stream are a function of its samples, not of how they arrive::

    samples --(wait for chunk_frames)--> LogMel --> network --> beam --> endpoint --> events

The network always runs on exactly ``CHUNK_FRAMES`` frames and everything behind it on the
steps of that chunk, so packet sizes cannot be told from the events.

An endpoint by silence gives the next utterance a fresh beam and a fresh network that has
heard the last ``PREROLL_CHUNKS`` chunks again: every utterance is heard as the network
heard utterances in training, however long the stream already lasts, and a first word that
had begun inside the look-ahead is whole. An endpoint by length falls into running speech:
there the network goes on, and the steps after the last whole word begin the next beam.

Between utterances, where no voice was heard for ``REST_SECONDS``, the network and the search
rest. A voice wakes them, and they hear the pre-roll first, so that nothing is cut off. While they
rest the voice detector rests, too, until something is louder than the room; it also hears first
what it missed of the pre-roll.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamasr.acoustic.checkpoint import Checkpoint, load_checkpoint
from streamasr.acoustic.model import AcousticModel, AcousticState, LogProbs
from streamasr.config import DecoderConfig, EndpointConfig, FeatureConfig, ModelConfig, shipped
from streamasr.decoder.alphabet import BLANK, Alphabet
from streamasr.decoder.beam import Beam, LexiconSearch
from streamasr.decoder.characters import CharacterBeam
from streamasr.decoder.confidence import Calibration
from streamasr.decoder.endpoint import Activity, endpoint
from streamasr.decoder.expected import Expected, Search
from streamasr.decoder.hypothesis import HeardWord, Hypothesis
from streamasr.decoder.loading import LoadedSearch, load_search
from streamasr.decoder.posterior import shares_of
from streamasr.errors import CheckpointError, StreamFinished
from streamasr.events import (
    Alternative,
    EndReason,
    Event,
    Final,
    Partial,
    Rule,
    SpeechStarted,
    StreamEnded,
    Word,
)
from streamasr.frontend.logmel import LogMel
from streamasr.frontend.noise_floor import NoiseFloor
from streamasr.frontend.voice import VoiceDetector, VoiceState, voice_fits

CHUNK_FRAMES = 16
PREROLL_CHUNKS = 4
REST_SECONDS = 1.0
VOICE_PROBABILITY = 0.3
PARTIAL_SECONDS = 0.5
"""While an utterance lasts a partial comes at least this often, changed or not."""
_KEPT_SHARE = 0.5
"""The part of ``partial_share`` that is enough for a word that the last partial showed."""

Samples = NDArray[np.float32]


@dataclass(frozen=True, eq=False, slots=True)
class StreamState:
    """All that a stream remembers. Its size is bounded: ``samples`` by a chunk, ``preroll``
    by ``PREROLL_CHUNKS``, ``beam`` by the utterance's length, which the endpoint bounds.

    Steps are counted from ``origin_samples``, where the network last began anew without
    pre-roll; ``first_step`` is the beam's first.
    ``missing_steps`` outputs of the network still belong to no audio (its look-ahead).
    ``preroll`` holds the samples of which the frames of the last chunks are made.
    ``quiet_samples`` were heard since the last voice (0 where ``voice``, the detector's memory, is
    None: then the stream never rests). While the stream rests, ``network`` and
    ``beam`` are as at the beginning, ``first_step`` is that of the next chunk, and the detector
    has not heard the last ``missed_chunks``.
    """

    samples: Samples
    fed_samples: int
    origin_samples: int
    network: AcousticState
    missing_steps: int
    preroll: tuple[Samples, ...]
    beam: Beam | CharacterBeam
    first_step: int
    utterance: int
    activity: Activity
    noise_floor: NoiseFloor
    voice: VoiceState | None
    missed_chunks: int
    quiet_samples: int
    is_resting: bool
    speech_started: bool
    partial: Partial | None
    finished: bool

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StreamState):
            return NotImplemented
        return (
            np.array_equal(self.samples, other.samples)
            and len(self.preroll) == len(other.preroll)
            and all(map(np.array_equal, self.preroll, other.preroll))
            and self._others() == other._others()
        )

    __hash__ = None  # type: ignore[assignment]

    def _others(self) -> tuple[object, ...]:
        return (
            self.fed_samples, self.origin_samples, self.network, self.missing_steps, self.beam,
            self.first_step, self.utterance, self.activity, self.noise_floor, self.voice,
            self.missed_chunks, self.quiet_samples, self.is_resting, self.speech_started,
            self.partial, self.finished,
        )  # fmt: skip


class Recognizer:
    """Acoustic model, search and settings: loaded once, shared by every stream."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        loaded: LoadedSearch,
        decoder: DecoderConfig,
        endpoint: EndpointConfig,
        *,
        rests: bool = True,
    ) -> None:
        """``rests``: whether the network rests while no voice is heard."""
        self.features: FeatureConfig = checkpoint.features
        self.voice = VoiceDetector() if rests else None
        self.logmel = LogMel(checkpoint.features)
        self.acoustic = AcousticModel(checkpoint)
        self.search = loaded.search
        self.lexicon = loaded.lexicon
        self.unspoken = _sentence(loaded.unspoken)
        self.calibration = Calibration(*checkpoint.confidence)
        self.word_shift_seconds = checkpoint.word_shift_seconds
        self.decoder = decoder
        self.endpoint = endpoint
        self.model_name = checkpoint.name
        self.sample_rate_hz = checkpoint.features.sample_rate_hz
        self.chunk_samples = _chunk_samples(checkpoint.features)
        self.step_seconds = (
            self.acoustic.subsampling * checkpoint.features.hop_samples / self.sample_rate_hz
        )

    @classmethod
    def load(
        cls,
        model: ModelConfig,
        decoder: DecoderConfig,
        endpoint: EndpointConfig,
        loaded: Callable[[str], None] = lambda _: None,
    ) -> "Recognizer":
        """Read the files that ``model`` names; ``loaded`` is told of each part that is there.

        Raises CheckpointError or LanguageModelError where a file is missing, damaged or does
        not fit the others, and ConfigError for phrases or a catalogue that cannot be used.
        """
        path = model.checkpoint or shipped("checkpoints", "english.safetensors")
        checkpoint = load_checkpoint(path)
        loaded("checkpoint")
        labels = checkpoint.phone_labels if model.units == "phones" else checkpoint.character_labels
        try:
            search = load_search(model, decoder, _alphabet(path, labels), loaded)
        except KeyError as error:
            raise CheckpointError(
                f"checkpoint {path} has another alphabet: it lacks the label {error} that the"
                " search needs; use the lexicon it was trained with"
            ) from None
        features = checkpoint.features
        if model.rest and not voice_fits(features.sample_rate_hz, _chunk_samples(features)):
            raise CheckpointError(
                f"checkpoint {path} has other features than the voice detector can follow; set"
                " rest = false in the section [model] of the configuration file"
            )
        recognizer = cls(checkpoint, search, decoder, endpoint, rests=model.rest)
        loaded("voice detector")
        return recognizer

    def head(self, log_probs: LogProbs) -> NDArray[np.float32]:
        """``(steps, labels)`` of the units that the search reads."""
        return log_probs.phones if isinstance(self.search, LexiconSearch) else log_probs.characters

    def search_for(self, expected: Expected) -> Search:
        """The search of a stream that expects this; takes long for many phrases.

        Raises ConfigError for phrases that cannot be pronounced, or where this recognizer
        reads characters, and LanguageModelError where espeak-ng is needed and missing.
        """
        return expected.search(self.search, self.lexicon, self.decoder)

    def stream(
        self,
        *,
        endpoint: EndpointConfig | None = None,
        max_alternatives: int | None = None,
        search: Search | None = None,
    ) -> "Stream":
        """A new listener; settings left out are the recognizer's."""
        most = self.decoder.max_alternatives if max_alternatives is None else max_alternatives
        return Stream(self, endpoint or self.endpoint, most, search or self.search)

    def start(self, search: Search) -> StreamState:
        """The state of a stream that has heard nothing."""
        return StreamState(
            samples=np.zeros(0, np.float32),
            fed_samples=0,
            origin_samples=0,
            network=self.acoustic.start(),
            missing_steps=self.acoustic.lookahead_steps,
            preroll=(),
            beam=search.start(),
            first_step=0,
            utterance=0,
            activity=Activity(),
            noise_floor=NoiseFloor(),
            voice=None if self.voice is None else self.voice.start(),
            missed_chunks=0,
            quiet_samples=0,
            is_resting=self.voice is not None,
            speech_started=False,
            partial=None,
            finished=False,
        )


class Stream:
    """One listener. Never blocks and never reads a clock."""

    def __init__(
        self, recognizer: Recognizer, endpoint: EndpointConfig, most: int, search: Search
    ) -> None:
        self.recognizer = recognizer
        self.state = recognizer.start(search)
        self._search = search
        self._endpoint = endpoint
        self._most = most

    def feed(self, samples: Samples) -> list[Event]:
        """Hear ``(n,)`` float32 samples in -1..1 at ``sample_rate_hz``, n as it comes.

        Raises StreamFinished after ``finish()``.
        """
        self._check_open()
        state = self.state
        state = replace(
            state,
            samples=np.concatenate([state.samples, np.asarray(samples, np.float32)]),
            fed_samples=state.fed_samples + len(samples),
        )
        events: list[Event] = []
        span = self.recognizer.logmel.samples_for(CHUNK_FRAMES)
        while len(state.samples) >= span:
            state = self._hear_chunk(state, events)
        self.state = state
        return events

    def finalize(self, end_reason: EndReason = "finalize") -> list[Event]:
        """End the utterance in progress with all that was fed; the stream stays open.

        Digital silence stands in for the window and the look-ahead that are still to come,
        and does not move the clock. Raises StreamFinished after ``finish()``.
        """
        self._check_open()
        if self.state.fed_samples == self.state.origin_samples:
            return []
        events: list[Event] = []
        state = self._flush(self.state, events)
        state = self._end_utterance(state, end_reason, None, events)
        self.state = replace(
            self.recognizer.start(self._search),
            fed_samples=state.fed_samples,
            origin_samples=state.fed_samples,
            utterance=state.utterance,
        )
        return events

    def finish(self, end_reason: EndReason = "eof") -> list[Event]:
        """Flush the tail, end the utterance and the stream; a second call gives nothing."""
        if self.state.finished:
            return []
        events = self.finalize(end_reason)
        self.state = replace(self.state, finished=True)
        events.append(StreamEnded(self.state.fed_samples / self.recognizer.sample_rate_hz))
        return events

    @property
    def _chunk_steps(self) -> int:
        return CHUNK_FRAMES // self.recognizer.acoustic.subsampling

    @property
    def _step_samples(self) -> int:
        return self.recognizer.acoustic.subsampling * self.recognizer.features.hop_samples

    def _check_open(self) -> None:
        if self.state.finished:
            raise StreamFinished("the stream was finished: open a new one for more samples")

    def _flush(self, state: StreamState, events: list[Event]) -> StreamState:
        """Hear what is left, then silence until the last fed sample's step has come out."""
        recognizer = self.recognizer
        wanted = -(-len(state.samples) // self._step_samples) + recognizer.acoustic.lookahead_steps
        chunks = -(-wanted // self._chunk_steps)
        overlap = recognizer.logmel.samples_for(1) - recognizer.features.hop_samples
        padded = np.zeros(chunks * recognizer.chunk_samples + overlap, np.float32)
        padded[: len(state.samples)] = state.samples
        state = replace(state, samples=padded)
        for _ in range(chunks):
            state = self._hear_chunk(state, events)
        return state

    def _hear_chunk(self, state: StreamState, events: list[Event]) -> StreamState:
        recognizer = self.recognizer
        span = state.samples[: recognizer.logmel.samples_for(CHUNK_FRAMES)].copy()
        if recognizer.voice is not None:
            state = self._heed_voice(recognizer.voice, state)
        state = replace(state, samples=state.samples[recognizer.chunk_samples :])
        if state.is_resting and state.quiet_samples:
            return replace(
                state,
                preroll=(*state.preroll, span)[-PREROLL_CHUNKS:],
                first_step=state.first_step + self._chunk_steps,
            )
        if state.is_resting:
            state = self._wake(state, events)
        state = self._hear_span(state, span, events)
        rest_samples = REST_SECONDS * recognizer.sample_rate_hz
        if not state.speech_started and state.quiet_samples >= rest_samples:
            # Whole words begin speech; the last one may still wait for its end.
            state = self._end_utterance(state, "silence", "silence_without_words", events)
            return self._rest(state)
        return state

    def _heed_voice(self, detector: VoiceDetector, state: StreamState) -> StreamState:
        """Count how long no voice was heard, the chunk that comes next included."""
        voice = state.voice
        assert voice is not None
        chunk_samples = self.recognizer.chunk_samples
        chunk = state.samples[:chunk_samples]
        noise_floor, is_louder = state.noise_floor.hear(chunk)
        quiet_samples = state.quiet_samples + chunk_samples
        if state.is_resting and not is_louder:
            missed_chunks = min(state.missed_chunks + 1, PREROLL_CHUNKS + 1)
        else:
            known = state.preroll[len(state.preroll) - state.missed_chunks :]
            if state.missed_chunks > len(state.preroll):
                known, voice = state.preroll, detector.start()
            parts = [*(span[:chunk_samples] for span in known), chunk]
            probabilities, voice = detector.step(np.concatenate(parts), voice)
            missed_chunks = 0
            if np.max(probabilities) >= VOICE_PROBABILITY:
                quiet_samples = 0
        return replace(
            state,
            noise_floor=noise_floor,
            voice=voice,
            missed_chunks=missed_chunks,
            quiet_samples=quiet_samples,
        )

    def _rest(self, state: StreamState) -> StreamState:
        """Forget the network and the beam, in which nothing was said."""
        lookahead_steps = self.recognizer.acoustic.lookahead_steps
        heard_steps = state.beam.steps + lookahead_steps - state.missing_steps
        return replace(
            state,
            network=self.recognizer.acoustic.start(),
            missing_steps=lookahead_steps,
            beam=self._search.start(),
            first_step=state.first_step + heard_steps,
            activity=Activity(),
            is_resting=True,
        )

    def _wake(self, state: StreamState, events: list[Event]) -> StreamState:
        """Hear the pre-roll."""
        preroll = state.preroll
        state = replace(
            state,
            is_resting=False,
            preroll=(),
            first_step=state.first_step - len(preroll) * self._chunk_steps,
        )
        for span in preroll:
            state = self._hear_span(state, span, events)
        return state

    def _hear_span(self, state: StreamState, span: Samples, events: list[Event]) -> StreamState:
        """Run one chunk through the network and the search, and say what is new."""
        recognizer = self.recognizer
        frames = recognizer.logmel(span)
        log_probs, network = recognizer.acoustic.step(frames, state.network)
        heard = recognizer.head(log_probs)
        skipped = min(state.missing_steps, len(heard))
        steps = heard[skipped:]
        state = replace(
            state,
            network=network,
            missing_steps=state.missing_steps - skipped,
            preroll=(*state.preroll, span)[-PREROLL_CHUNKS:],
            beam=self._search.advance(state.beam, steps),
        )
        state = self._speak(self._listen(state, steps), events)
        rule = endpoint(state.activity, self._endpoint, recognizer.step_seconds)
        if rule == "length":
            return self._cut(state, events)
        if rule is not None:
            return self._restart(self._end_utterance(state, "silence", rule, events))
        return state

    def _listen(self, state: StreamState, steps: NDArray[np.float32]) -> StreamState:
        """Count silence and speech over the chunk's steps."""
        sounds = np.flatnonzero(self._search.is_speech(steps))
        silent = state.activity.silent_steps + len(steps)
        if len(sounds):
            silent = len(steps) - 1 - int(sounds[-1])
        heard = state.activity.heard_steps + len(steps)
        return replace(
            state, activity=replace(state.activity, silent_steps=silent, heard_steps=heard)
        )

    def _speak(self, state: StreamState, events: list[Event]) -> StreamState:
        """Say what is new: that speech began, and the partial."""
        best = self._search.best(state.beam)
        if not best.words and not state.speech_started:
            return state
        first_step = best.words[0].first_step if best.words else state.beam.steps
        activity = replace(state.activity, speech_steps=state.beam.steps - first_step)
        start_seconds = self._seconds(state, first_step, self.recognizer.word_shift_seconds[0])
        if not state.speech_started:
            events.append(SpeechStarted(state.utterance, start_seconds))
        state = replace(state, activity=activity, speech_started=True)
        end_seconds = self._seconds(state, state.beam.steps)
        stable = self._search.stable_words(state.beam)
        shown = self._shown(best.words, len(stable), state.partial)
        text, stable_text = " ".join(word.word for word in shown), " ".join(stable)
        last = state.partial
        if last is not None and (last.text, last.stable_text) == (text, stable_text):
            chunk_seconds = self.recognizer.chunk_samples / self.recognizer.sample_rate_hz
            if end_seconds + chunk_seconds - last.end_seconds <= PARTIAL_SECONDS:
                return state
        partial = Partial(
            state.utterance,
            text,
            stable_text,
            start_seconds,
            end_seconds,
            self._words(state, shown),
        )
        events.append(partial)
        return replace(state, partial=partial)

    def _shown(
        self, words: tuple[HeardWord, ...], stable: int, last: Partial | None
    ) -> tuple[HeardWord, ...]:
        """The words up to the first that too little of the beam hears; a word that was shown
        before stays for less, or captions would flicker."""
        before = () if last is None else last.words
        same = (word.word == old.word for word, old in zip(words, before, strict=False))
        kept = sum(takewhile(bool, same))
        shown = 0
        for number, word in enumerate(words):
            least = self.recognizer.decoder.partial_share * (_KEPT_SHARE if number < kept else 1)
            is_sure = word.is_settled or word.posterior is None or word.posterior >= least
            if number >= stable and not is_sure:
                break
            shown = number + 1
        return words[:shown]

    def _end_utterance(
        self, state: StreamState, end_reason: EndReason, rule: Rule | None, events: list[Event]
    ) -> StreamState:
        """Say the final, if there are words, and begin the next utterance's counts."""
        hypotheses = self._search.finish(state.beam, max(1, self._most))
        return self._final(state, hypotheses, end_reason, rule, events)

    def _final(
        self,
        state: StreamState,
        hypotheses: list[Hypothesis],
        end_reason: EndReason,
        rule: Rule | None,
        events: list[Event],
    ) -> StreamState:
        best = hypotheses[0]
        fresh = replace(
            state,
            beam=self._search.start(),
            first_step=state.first_step + state.beam.steps,
            activity=Activity(),
            speech_started=False,
            partial=None,
        )
        if not best.words:
            if state.partial is not None and state.partial.text:
                events.append(replace(state.partial, text="", stable_text="", words=()))
            return fresh
        words = self._words(state, best.words)
        if not state.speech_started:
            events.append(SpeechStarted(state.utterance, words[0].start_seconds))
        events.append(
            Final(
                state.utterance,
                best.text,
                words[0].start_seconds,
                words[-1].end_seconds,
                words,
                float(np.mean([word.confidence for word in words])),
                self._alternatives(state, hypotheses) if self._most else (),
                end_reason,
                rule,
            )
        )
        return replace(fresh, utterance=state.utterance + 1)

    def _cut(self, state: StreamState, events: list[Event]) -> StreamState:
        """End by length: after the last whole word, and what follows it begins the next beam;
        without a word only the steps of the pre-roll do."""
        search = self._search
        best = search.best_whole(state.beam)
        kept_from = -PREROLL_CHUNKS * self._chunk_steps
        if best.words:
            kept_from = best.words[-1].end_step
        rest = state.beam.log_probs[kept_from:]
        cut = self._final(state, [best], "length", "length", events)
        return replace(
            cut,
            beam=search.advance(search.start(), rest),
            first_step=state.first_step + state.beam.steps - len(rest),
        )

    def _restart(self, state: StreamState) -> StreamState:
        """A fresh network that has heard the pre-roll again; its outputs are known already."""
        network = self.recognizer.acoustic.start()
        for span in state.preroll:
            _, network = self.recognizer.acoustic.step(self.recognizer.logmel(span), network)
        return replace(state, network=network)

    def _seconds(self, state: StreamState, step: int, shift_seconds: float = 0.0) -> float:
        """Stream time of a step of the beam, never after the last fed sample."""
        rate_hz = self.recognizer.sample_rate_hz
        samples = state.origin_samples + (state.first_step + step) * self._step_samples
        return round(min(samples / rate_hz + shift_seconds, state.fed_samples / rate_hz), 3)

    def _words(self, state: StreamState, words: tuple[HeardWord, ...]) -> tuple[Word, ...]:
        """``words`` in stream time; none ends after the next has begun, or before itself."""
        start_shift, end_shift = self.recognizer.word_shift_seconds
        placed: list[Word] = []
        limit = math.inf
        for word in reversed(words):
            end = min(self._seconds(state, word.end_step, end_shift), limit)
            start = self._seconds(state, word.first_step, start_shift)
            if start >= end:
                start = min(self._seconds(state, word.first_step), end)
            placed.append(Word(word.word, start, end, self.recognizer.calibration(word)))
            limit = start
        return tuple(reversed(placed))

    def _alternatives(
        self, state: StreamState, hypotheses: list[Hypothesis]
    ) -> tuple[Alternative, ...]:
        """Confidences are the scores' posterior among the alternatives themselves."""
        scores = np.array([hypothesis.score for hypothesis in hypotheses])
        return tuple(
            Alternative(
                hypothesis.text, round(float(share), 4), self._words(state, hypothesis.words)
            )
            for hypothesis, share in zip(hypotheses, shares_of(scores), strict=True)
        )


def _chunk_samples(features: FeatureConfig) -> int:
    return CHUNK_FRAMES * features.hop_samples


def _sentence(unspoken: Sequence[str]) -> str:
    """What of the catalogue cannot be heard; empty where all can."""
    if not unspoken:
        return ""
    more = f" and {len(unspoken) - 3} more" if len(unspoken) > 3 else ""
    return f"names of the catalogue cannot be pronounced: {'; '.join(unspoken[:3])}{more}"


def _alphabet(path: Path, labels: tuple[str, ...]) -> Alphabet:
    if labels[0] != BLANK or len(set(labels)) != len(labels):
        raise CheckpointError(
            f"checkpoint {path} has another alphabet: its first label is {labels[0]!r}, not"
            f" {BLANK!r}, or a label stands twice"
        )
    return Alphabet(labels, 0)
