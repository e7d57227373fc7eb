"""A client of the native protocol that comes back: for captions, and for programs that speak.

::

    async with Client("ws://127.0.0.1:8765/v1", config={"sample_rate": 16_000}) as client:
        await client.send(pcm)        # a viewer, who hears the daemon's microphone, sends nothing
        await client.close()          # flush; the iteration ends after the last final
        async for event in client:
            ...

A connection that is lost is made again, for ever. Where the server still has the session it
goes on as if nothing had happened: what was missed comes, what was not acted on is sent
again, nothing twice. Where it has not, a new session begins: its config and what was not
acknowledged are sent to it, and finals may be missing or come again (``Connected.resumed`` is
False).
"""

from streamasr.client.client import Client
from streamasr.client.connection import DEFAULT_URL, read_token
from streamasr.client.incoming import ClientEvent, Connected, Lost
from streamasr.client.mute import set_muted

__all__ = ["DEFAULT_URL", "Client", "ClientEvent", "Connected", "Lost", "read_token", "set_muted"]
