"""Mutes a daemon's microphone, or opens it again."""

import asyncio
from pathlib import Path

from streamasr.client.client import Client
from streamasr.errors import CaptureError, ProtocolError
from streamasr.wire.native_reader import ServerError, Status

# A sound server that slept takes its time before the first sound.
PATIENCE_SECONDS = 15.0


async def set_muted(
    url: str, muted: bool, *, token: str | None = None, ca_file: Path | None = None
) -> None:
    """Return once the daemon has closed its microphone, or hears it again.

    Raises AddressError where nobody answers or the token is wrong, CaptureError where there is no
    microphone, it does not come back or somebody else wants the contrary, ProtocolError where
    the daemon is too old.
    """
    wanted = "muted" if muted else "heard again"
    try:
        async with (
            asyncio.timeout(PATIENCE_SECONDS),
            Client(url, token=token, ca_file=ca_file) as client,
        ):
            await (client.mute() if muted else client.unmute())
            async for event in client:
                match event:
                    case ServerError(code="no_microphone"):
                        mend = "it hears a file, a pipe or nothing; --input mic gives it one"
                        raise CaptureError(f"{event.message}: {mend}")
                    case ServerError():
                        raise ProtocolError(event.code, event.message)
                    case Status() if event.received and (event.microphone == "muted") == muted:
                        if event.microphone == "lost":
                            problem = "the microphone is not muted any more, but gone"
                            raise CaptureError(f"{problem}; the daemon waits for it")
                        return
                    case Status() if event.received and event.microphone in ("ok", "muted"):
                        contrary = "unmuted" if muted else "muted"
                        raise CaptureError(
                            f"somebody {contrary} the microphone meanwhile; try again"
                        )
    except TimeoutError:
        problem = f"{url} did not say within {PATIENCE_SECONDS:g} s that its microphone is {wanted}"
        raise CaptureError(f"{problem}; `streamasr doctor` looks for the cause") from None
