"""wss://, with a certificate of an authority made for the test."""

import json
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme
from websockets.asyncio.client import connect

from tests.running_daemon import finals, program, receive, receive_until


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def flags(authority: trustme.CA, tmp_path: Path) -> list[str]:
    issued = authority.issue_cert("127.0.0.1", "localhost")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return ["--tls-certificate", str(certificate), "--tls-key", str(key)]


async def test_both_protocols_are_spoken_over_tls(
    authority: trustme.CA, flags: list[str], demo_pcm: bytes
) -> None:
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with program("--input", "none", "--vosk-port", "0", *flags) as daemon:
        assert daemon.url.startswith("wss://127.0.0.1:")
        vosk_url = await daemon.line("vosk: ")
        assert vosk_url.startswith("wss://")
        async with connect(daemon.url, ssl=trusting) as client:
            assert (await receive(client))["type"] == "hello"
            await client.send(demo_pcm)
            await client.send('{"type": "finalize"}')
            assert finals(await receive_until(client, type="finalized"))
        async with connect(vosk_url, ssl=trusting) as client:
            await client.send('{"eof" : 1}')
            assert json.loads(await client.recv()) == {"text": ""}
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(daemon.url)


def test_a_key_of_another_certificate_is_one_line(flags: list[str], tmp_path: Path) -> None:
    other = trustme.CA().issue_cert("127.0.0.1")
    Path(flags[3]).write_bytes(other.private_key_pem.bytes())
    run = subprocess.run(
        [sys.executable, "-m", "streamasr", "serve", "--input", "none", "--port", "0", *flags],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert "key.pem" in run.stderr
