"""What ``/metrics`` says, as Prometheus' own parser reads it."""

import asyncio
import math
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect

from streamasr.config import ServeConfig
from tests.test_server import Running, peer, recognise, running


async def samples(daemon: Running) -> dict[str, float]:
    def get() -> str:
        with urlopen(f"http://127.0.0.1:{daemon.port}/metrics", timeout=10) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            return answer.read().decode()

    text = await asyncio.to_thread(get)
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_what_is_recognised_is_counted(recognizer, demo_pcm: bytes) -> None:
    async with running(recognizer) as daemon:
        before = await samples(daemon)
        assert before["streamasr_audio_seconds_total"] == 0
        assert before[f"streamasr_model_info {recognizer.model_name}"] == 1
        messages = await recognise(daemon.url, demo_pcm, 3_200)
        after = await samples(daemon)
    assert after["streamasr_audio_seconds_total"] == pytest.approx(len(demo_pcm) / 32_000)
    finals = sum(message["type"] == "final" for message in messages)
    assert after["streamasr_finals_total"] == finals > 0
    assert after["streamasr_final_latency_seconds_count"] >= 1
    assert after["streamasr_chunk_latency_seconds_count"] >= 30
    assert (
        after["streamasr_chunk_compute_seconds_count"]
        == after["streamasr_chunk_latency_seconds_count"]
    )
    assert after["streamasr_chunk_compute_seconds_sum"] > 0
    assert after["streamasr_chunk_compute_seconds_sum"] <= after["streamasr_compute_seconds_total"]
    factor = after["streamasr_real_time_factor"]
    assert factor == pytest.approx(
        after["streamasr_compute_seconds_total"] / after["streamasr_audio_seconds_total"]
    )
    assert 0 < factor < 10
    assert after["process_resident_memory_bytes"] > 1e7


async def test_who_is_there_and_how_the_microphone_is(recognizer) -> None:
    async with running(recognizer, ServeConfig(port=0, max_connections=2)) as daemon:
        vosk = daemon.url.removesuffix("/v1") + "/vosk"
        async with peer(daemon.url), peer(daemon.url) as speaker:
            await speaker.send(bytes(640))
            await speaker.send('{"type": "finalize"}')
            await speaker.recv()
            async with connect(vosk) as refused:
                await refused.wait_closed()
            assert refused.close_code == 1013
            counted = await samples(daemon)
    assert counted["streamasr_connections native viewer"] == 1
    assert counted["streamasr_connections native speaker"] == 1
    assert counted["streamasr_connections vosk speaker"] == 0
    assert counted["streamasr_errors_total too_many_connections"] == 1
    assert counted["streamasr_microphone ok"] == 1
    assert counted["streamasr_microphone lost"] == 0
    assert counted["streamasr_microphone muted"] == 0
    assert counted["streamasr_microphone_overrun_seconds"] == 0
    assert counted["streamasr_microphone_clipped_samples"] == 0
    assert counted["streamasr_microphone_overflows"] == 0
    assert math.isnan(counted["streamasr_microphone_drift_ppm"])
