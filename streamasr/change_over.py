"""How a stream goes on with another recognizer.

Between utterances a stream remembers little that depends on its model: the network is one that
began anew and has heard at most the pre-roll, and the beam is empty. So another model can take
its place there: its network hears the same pre-roll, and its first step follows the last that
was searched. With a recognizer that was loaded from the same files the state is the very same,
``==``, and nobody can tell that it was moved.
"""

from dataclasses import replace

from streamasr.recognizer import Stream, StreamState


def is_between_utterances(state: StreamState) -> bool:
    """Whether nothing of an utterance would be lost.

    The search has heard nothing since the last endpoint. (Where that was one by length, in the
    middle of speech, it had ended with the last step that was heard.)
    """
    return state.is_resting or state.beam.steps == 0


def change_over(old: Stream, new: Stream) -> None:
    """Let ``new``, a stream of the same sample rate that has heard nothing, go on where ``old`` is.

    It keeps the sample clock, the number of the utterance, the samples that no chunk was made of
    yet, what was heard of voices and, where both make the same features, the pre-roll.
    """
    state, fresh, recognizer = old.state, new.state, new.recognizer
    heard_samples = state.fed_samples - len(state.samples)
    has_same_features = recognizer.features == old.recognizer.features
    origin_samples = state.origin_samples if has_same_features else heard_samples
    preroll = state.preroll if has_same_features else ()
    has_detector = recognizer.voice is not None
    voice = (state.voice or fresh.voice) if has_detector else None
    is_resting = state.is_resting and has_detector

    network = fresh.network
    again_steps = 0
    if not is_resting:
        for span in preroll:
            frames = recognizer.logmel(span)
            _, network = recognizer.acoustic.step(frames, network)
            again_steps += len(frames) // recognizer.acoustic.subsampling
    # The network's next step lies its look-ahead before the last that it heard, or is its first.
    behind_steps = min(again_steps, recognizer.acoustic.lookahead_steps)
    step_samples = recognizer.acoustic.subsampling * recognizer.features.hop_samples
    new.state = replace(
        fresh,
        samples=state.samples,
        fed_samples=state.fed_samples,
        origin_samples=origin_samples,
        network=network,
        missing_steps=fresh.missing_steps - behind_steps,
        preroll=preroll,
        first_step=(heard_samples - origin_samples) // step_samples - behind_steps,
        utterance=state.utterance,
        noise_floor=state.noise_floor,
        voice=voice,
        missed_chunks=state.missed_chunks if has_detector else 0,
        quiet_samples=state.quiet_samples if has_detector else 0,
        is_resting=is_resting,
        finished=state.finished,
    )
