"""SIGHUP: settings and models are read again, and nobody notices but by what has changed."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect

from streamasr.acoustic.checkpoint import load_checkpoint
from streamasr.config import (
    Config,
    EndpointConfig,
    FeatureConfig,
    ModelConfig,
    shipped,
)
from streamasr.decoder.expected import Expected
from streamasr.engine_stream import PcmFormat, Wishes
from streamasr.events import Final
from streamasr.reload import Reloader
from streamasr.serve.speaker import OwnSearch
from tests.notify_socket import notify_socket
from tests.running_daemon import (
    Program,
    answer,
    finals,
    program,
    receive,
    receive_rest,
    receive_until,
    send_in_real_time,
)
from tests.test_server import Running, running

TWO_SENTENCES_SECONDS = 13
PIPE = asyncio.subprocess.PIPE


async def reload(daemon: Program) -> None:
    daemon.process.send_signal(signal.SIGHUP)
    await daemon.log_line("INFO reloaded")


async def say(client: ClientConnection, pcm: bytes) -> dict:
    """Its final."""
    await client.send(pcm)
    await client.send(json.dumps({"type": "finalize"}))
    return (await receive_until(client, type="final"))[-1]


def essence(final: dict) -> tuple:
    return final["utterance"], final["text"], final["start"], final["end"], final["end_reason"]


async def test_a_speaker_loses_no_word_while_all_is_read_again(
    recognizer, demo: np.ndarray
) -> None:
    """The files are the same: so must be what is heard, with one model or with many."""
    speech = demo[: TWO_SENTENCES_SECONDS * 16_000]
    undisturbed = recognizer.stream()
    expected = [each for each in undisturbed.feed(speech) if isinstance(each, Final)]
    expected += [each for each in undisturbed.finish() if isinstance(each, Final)]
    assert len(expected) == 2
    pcm = (speech * 32768).astype("<i2").tobytes()
    reloads = 0

    async def keep_reloading(daemon: Program) -> None:
        nonlocal reloads
        while True:
            await reload(daemon)
            reloads += 1

    async with (
        program("--input", "none", stderr=PIPE) as daemon,
        connect(daemon.url) as client,
        connect(daemon.url) as viewer,
    ):
        reloading = asyncio.create_task(keep_reloading(daemon))
        receiving = asyncio.create_task(receive_rest(client))
        await send_in_real_time(client, pcm)
        await client.send(json.dumps({"type": "close"}))
        said = finals(await receiving)
        assert client.close_code == 1000
        reloading.cancel()
        await viewer.send(json.dumps({"type": "close"}))
        await receive_rest(viewer)
        assert viewer.close_code == 1000
    assert reloads >= 2
    assert [essence(final) for final in said] == [
        (
            final.utterance,
            final.text,
            final.start_seconds,
            final.end_seconds,
            final.end_reason,
        )
        for final in expected
    ]


async def test_what_has_changed_counts_from_now_on(tmp_path: Path, demo_pcm: bytes) -> None:
    checkpoint = load_checkpoint(shipped("checkpoints", "english.safetensors"))
    path = tmp_path / "model.safetensors"
    checkpoint.save(path)
    config = tmp_path / "streamasr.toml"
    config.write_text(f'[model]\ncheckpoint = "{path}"\n')
    arguments = ("--config", str(config), "--input", "none")
    async with program(*arguments, stderr=PIPE) as daemon, connect(daemon.url) as before:
        assert (await receive(before))["model"] == checkpoint.name
        replace(checkpoint, name="another-model").save(path)
        with config.open("a") as file:
            file.write("[decoder]\nmax_alternatives = 4\n[serve]\nport = 4\n[capture]\nblock_ms=50")
        daemon.process.send_signal(signal.SIGHUP)
        restart = await daemon.log_line("restart to change")
        assert restart.endswith("restart to change capture.block_ms")  # --port goes over the file
        await daemon.log_line("reloaded")
        async with connect(daemon.url) as client:
            assert (await receive(client))["model"] == "another-model"
            final = await say(client, demo_pcm)
            assert len(final["alternatives"]) == 4
        assert json.loads((await answer(daemon, "/healthz")).text)["model"] == "another-model"
        metrics = (await answer(daemon, "/metrics")).text
        assert 'streamasr_model_info{name="another-model"}' in metrics
        await before.send(json.dumps({"type": "close"}))
        await receive_rest(before)
        assert before.close_code == 1000


async def test_what_is_wrong_is_named_and_changes_nothing(tmp_path: Path, demo_pcm: bytes) -> None:
    shipped_checkpoint = shipped("checkpoints", "english.safetensors")
    checkpoint, language_model = tmp_path / "model.safetensors", tmp_path / "lm.kenlm"
    good = {
        checkpoint: shipped_checkpoint.read_bytes(),
        language_model: shipped("lm", "english.kenlm").read_bytes(),
        (config := tmp_path / "streamasr.toml"): (
            f'[model]\ncheckpoint = "{checkpoint}"\nlanguage_model = "{language_model}"\n'
            "rest = false\n"  # the voice detector knows one rate only
        ).encode(),
    }
    other_rate = tmp_path / "other.safetensors"
    features = FeatureConfig(sample_rate_hz=8_000, high_hz=3_800)
    replace(load_checkpoint(shipped_checkpoint), features=features).save(other_rate)
    bad = (
        (config, b"[serve\n", "is not TOML"),
        (config, b"[decoder]\nbeam_sise = 3\n", "did you mean beam_size?"),
        (checkpoint, good[checkpoint][:-1_000], "model.safetensors"),
        (checkpoint, other_rate.read_bytes(), "restart instead"),
        (language_model, good[language_model][:-1_000], "lm.kenlm"),
        (language_model, b"", "lm.kenlm"),
        (config, b'[history]\nfile = "/dev/null"\n', "no regular file"),
    )
    for path, content in good.items():
        path.write_bytes(content)
    async with (
        program("--config", str(config), "--input", "none", stderr=PIPE) as daemon,
        connect(daemon.url) as client,
    ):
        for path, content, problem in bad:
            path.write_bytes(content)
            daemon.process.send_signal(signal.SIGHUP)
            line = await daemon.log_line("reload")
            assert "ERROR not reloaded, all stays as it was: " in line
            assert problem in line
            path.write_bytes(good[path])
        assert (await say(client, demo_pcm))["text"]
        await reload(daemon)
        assert "Traceback" not in daemon.logged


async def test_the_old_recognizer_leaves_the_memory() -> None:
    """Each takes more than 100 MiB."""

    def resident_mib(daemon: Program) -> int:
        status = Path(f"/proc/{daemon.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) >> 10

    async with program("--input", "none", stderr=PIPE) as daemon:
        await reload(daemon)
        first_mib = resident_mib(daemon)
        for _ in range(6):
            await reload(daemon)
        assert resident_mib(daemon) < first_mib + 200


async def test_a_stop_does_not_wait_for_a_reload_and_is_the_last_that_is_told(
    tmp_path: Path,
) -> None:
    with notify_socket(tmp_path) as systemd:
        async with program(
            "--input", "none", stderr=PIPE, environment=systemd.environment
        ) as daemon:
            await systemd.receive_until("READY=1")
            daemon.process.send_signal(signal.SIGHUP)
            await systemd.receive_until("RELOADING=1")
            assert await daemon.stop() < 2.0
            assert daemon.process.returncode == 0
            await systemd.receive_until("STOPPING=1")
            assert systemd.unread() == []
            assert "Traceback" not in await daemon.read_log()


# ---- Beside the real program: what a client expects is kept. ------------------------------


@asynccontextmanager
async def reloading(
    recognizer, read: Config | None = None
) -> AsyncIterator[tuple[Running, "asyncio.Queue[str]", Reloader]]:
    """A server whose ``Reloader`` runs; the queue gets the model's name after each reload."""
    async with running(recognizer) as daemon:
        done: asyncio.Queue[str] = asyncio.Queue()
        reloader = Reloader(
            daemon.engine,
            Config(),
            lambda: read or Config(),
            lambda *_: done.put_nowait(daemon.engine.recognizer.model_name),
        )
        task = asyncio.create_task(reloader.run())
        try:
            yield daemon, done, reloader
        finally:
            task.cancel()


@asynccontextmanager
async def expecting(url: str, phrases: list[str]) -> AsyncIterator[ClientConnection]:
    async with connect(url) as client:
        await client.send(json.dumps({"type": "config", "phrases": phrases}))
        await client.send(json.dumps({"type": "keepalive"}))
        yield client


PHRASES = ["good morning", "the kettle", "good night", "[unk]"]


async def test_phrases_of_a_client_hold_with_the_new_model(recognizer, demo_pcm: bytes) -> None:
    async with (
        reloading(recognizer) as (daemon, done, reloader),
        expecting(daemon.url, PHRASES) as speaking,
        expecting(daemon.url, PHRASES) as silent,
    ):
        first = await say(speaking, demo_pcm)
        await receive_until(silent, type="status")
        reloader.ask()
        await done.get()
        assert daemon.engine.recognizer is not recognizer
        while any(each.recognizer is recognizer for each in daemon.engine.streams):
            await asyncio.wrap_future(daemon.engine.streams[0].heard())
        for client, start in ((speaking, 1), (silent, 0)):
            final = await say(client, demo_pcm)
            assert final["text"] == first["text"]
            assert final["utterance"] == start


async def test_a_stream_whose_phrases_the_new_model_lacks_keeps_its_own(
    recognizer, demo_pcm: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    config = Config(model=ModelConfig(units="characters"))
    async with (
        reloading(recognizer, config) as (daemon, done, reloader),
        expecting(daemon.url, PHRASES) as client,
    ):
        first = await say(client, demo_pcm)
        reloader.ask()
        await done.get()
        assert (await say(client, demo_pcm))["text"] == first["text"]
        assert "keeps its model" in caplog.text
        assert "kettle" not in caplog.text


async def test_endpoint_rules_follow_under_the_clients_own(recognizer) -> None:
    rules = EndpointConfig(silence_after_words_seconds=2.5)
    async with reloading(recognizer, Config(endpoint=rules)) as (daemon, done, reloader):
        own = Wishes(lambda default: replace(default, utterance_seconds=7.0))
        stream = daemon.engine.open(lambda _: None, pytest.fail, pcm=PcmFormat(), wishes=own)
        reloader.ask()
        await done.get()
        assert stream.recognizer.endpoint == rules


async def test_phrases_that_wait_for_audio_are_made_for_the_new_model(
    recognizer, another_recognizer
) -> None:
    async with running(recognizer) as daemon:
        own = OwnSearch(daemon.engine)
        await own.expect(Expected(phrases=tuple(PHRASES)))
        daemon.engine.recognizer = another_recognizer
        search = await own.take()
        assert search.alphabet is another_recognizer.search.alphabet
        assert "kettle" in search.graph.words
