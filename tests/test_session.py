"""What one native client is told, and in which order."""

import asyncio
import json

import pytest

from streamasr.config import ServeConfig
from streamasr.engine import Engine
from streamasr.serve.peer import MicrophoneStatus
from streamasr.serve.session import Session
from streamasr.wire.native import MicrophoneState

LIMIT_SECONDS = 20


@pytest.mark.parametrize("after", ["heartbeat", "resume"])
async def test_no_old_state_follows_a_new_one(recognizer, after: str) -> None:
    """The microphone is muted while a message that tells its state waits to be sent."""
    state: MicrophoneState = "ok"
    session = Session(
        Engine(recognizer), ServeConfig(), lambda: MicrophoneStatus(state), lambda _: True
    )
    sent: asyncio.Queue[dict] = asyncio.Queue()
    if after == "resume":
        assert session.resume(0)
    else:
        session.show_status(changed=False)
    state = "muted"
    session.show_status()

    async def send(text: str) -> None:
        sent.put_nowait(json.loads(text))

    sending = asyncio.create_task(session.outbox.run(send))
    async with asyncio.timeout(LIMIT_SECONDS):
        await session.outbox.idle()
    sending.cancel()
    told = [sent.get_nowait() for _ in range(sent.qsize())]
    states = [message["microphone"] for message in told if message["type"] == "status"]
    assert states == ["muted", "muted"]
