"""How the captions page comes back after a cut, and what it says to the daemon.

The peer is scripted, because cuts must fall between two given messages.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
import pytest_asyncio
import soundfile
from websockets.asyncio.server import ServerConnection

from tests.browser import hearing, opened, running_browser, why_missing
from tests.scripted_peer import Voice, page_against

if (missing := why_missing()) is not None:
    pytest.skip(missing, allow_module_level=True)

from playwright.async_api import Browser, Page, expect

expect.set_options(timeout=20_000)
pytestmark = pytest.mark.asyncio(loop_scope="module")
PACKET_SECONDS = 0.04


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    """With a microphone that hears noise, so that no two packets are alike."""
    noise = tmp_path_factory.mktemp("noise") / "noise.wav"
    soundfile.write(noise, np.random.default_rng(1).normal(0, 0.1, 480_000), 48_000)
    async with running_browser(*hearing(noise)) as running:
        yield running


@asynccontextmanager
async def visited(
    browser: Browser, suffix: str = ""
) -> AsyncIterator[tuple[Page, asyncio.Queue[ServerConnection]]]:
    """The page, and its connections as they come."""
    visits: asyncio.Queue[ServerConnection] = asyncio.Queue()

    async def welcome(connection: ServerConnection) -> None:
        await visits.put(connection)
        await connection.wait_closed()

    async with (
        page_against(welcome) as url,
        opened(browser, url + suffix) as page,
    ):
        yield page, visits


async def receive(connection: ServerConnection) -> dict:
    return json.loads(await connection.recv())


async def receive_some(connection: ServerConnection, messages: int) -> list[str | bytes]:
    return [await connection.recv() for _ in range(messages)]


def cut(connection: ServerConnection) -> None:
    """As a network does it: no closing handshake."""
    connection.transport.abort()


async def test_a_viewer_resumes_and_no_final_is_missed_or_shown_twice(browser: Browser) -> None:
    async with visited(browser) as (page, visits):
        first = await visits.get()
        old = Voice(first, "old")
        await old.hello("the old token")
        await old.status()
        await old.final("one")
        await old.partial("tw", "o")
        await expect(page.locator("#partial")).to_have_text("two")
        cut(first)
        second = await visits.get()
        new = Voice(second, "new")
        await new.hello("the new token")
        await new.status()
        assert await receive(second) == {
            "type": "resume",
            "resume_token": "the old token",
            "after_seq": 3,
        }
        await new.final("two")  # the microphone goes on while the old session is looked for
        again = Voice(second, "old", first_seq=2)
        await again.final("one")
        await again.partial("tw", "o")
        await again.final("two")
        await again.say("resumed", received=0)
        await again.final("three")
        await expect(page.locator("#finals p")).to_have_text(["one", "two", "three"])
        await expect(page.locator("#status")).to_have_text("listening")
        await again.partial("", "four")
        cut(second)
        third = await visits.get()
        await Voice(third, "newest").hello("the newest token")
        resume = await receive(third)
        assert resume["resume_token"] == "the old token"


async def test_a_mute_that_was_cut_off_is_said_again(browser: Browser) -> None:
    async with visited(browser) as (page, visits):
        first = await visits.get()
        old = Voice(first, "old")
        await old.hello("the old token", can_mute=True)
        await old.status()
        button = page.locator("#mute")
        await button.click()
        assert await receive(first) == {"type": "mute"}
        cut(first)
        await expect(button).to_have_attribute("aria-disabled", "true")
        await button.click(force=True)  # it is not there to hear it
        second = await visits.get()
        await Voice(second, "new").hello("the new token", can_mute=True)
        assert (await receive(second))["type"] == "resume"
        await Voice(second, "old", first_seq=2).say("resumed", received=0)
        assert await receive(second) == {"type": "mute"}
        await Voice(second, "old", first_seq=3).status("muted", received=1)
        await expect(button).to_have_text("Unmute")
        await button.click()
        assert await receive(second) == {"type": "unmute"}


async def test_where_the_old_session_is_over_the_new_one_counts(browser: Browser) -> None:
    async with visited(browser) as (page, visits):
        first = await visits.get()
        old = Voice(first, "old")
        await old.hello("the old token")
        await old.final("one")
        await old.partial("never", " finished")
        await expect(page.locator("#partial")).to_be_visible()
        cut(first)
        second = await visits.get()
        new = Voice(second, "new")
        await new.hello("the new token")
        assert (await receive(second))["type"] == "resume"
        await new.final("two")
        await new.say("error", code="unknown_session", message="too old", fatal=False)
        await new.final("three")
        await expect(page.locator("#finals p")).to_have_text(["one", "two", "three"])
        await expect(page.locator("#partial")).to_be_hidden()
        cut(second)
        third = await visits.get()
        await Voice(third, "newest").hello("the newest token")
        assert (await receive(third))["resume_token"] == "the new token"


async def test_a_daemon_that_refuses_is_asked_again_with_patience(browser: Browser) -> None:
    async with visited(browser) as (page, visits):
        start: list[float] = []
        for _ in range(3):
            connection = await visits.get()
            start.append(asyncio.get_running_loop().time())
            voice = Voice(connection, "refused")
            await voice.hello("no token of use")
            await voice.say("error", code="too_many_connections", message="64 are", fatal=True)
            await connection.close(1013, "too_many_connections")
        await expect(page.locator("#status")).to_have_text("64 are; trying again…")
        assert start[1] - start[0] >= 0.5
        assert start[2] - start[1] >= 1.0


@pytest.mark.parametrize(
    ("suffix", "mend"), [("", "add #token="), ("#token=wrong+%22one%22", "correct #token=")]
)
async def test_a_page_without_the_token_says_so_and_does_not_try_again(
    browser: Browser, suffix: str, mend: str
) -> None:
    async with visited(browser, suffix) as (page, visits):
        connection = await visits.get()
        if suffix:
            assert await receive(connection) == {"type": "authenticate", "token": 'wrong+"one"'}
        await page.clock.install()
        voice = Voice(connection, "stranger")
        await voice.say("error", code="unauthorized", message="a token is needed", fatal=True)
        await connection.close(1008, "unauthorized")
        await expect(page.locator("#status")).to_contain_text(mend)
        await page.clock.run_for(60_000)
        assert visits.empty()
        assert page.url.endswith(suffix)


async def test_a_daemon_that_falls_silent_is_left(browser: Browser) -> None:
    async with visited(browser) as (page, visits):
        connection = await visits.get()
        await page.clock.install()
        await Voice(connection, "silent").hello()
        await expect(page.locator("#status")).to_have_text("connected")
        await page.clock.run_for(29_000)
        await expect(page.locator("#status")).to_have_text("connected")
        await page.clock.run_for(2_000)
        await visits.get()


async def test_a_speaker_resumes_with_exactly_what_was_not_received(browser: Browser) -> None:
    async with visited(browser) as (page, visits):
        first = await visits.get()
        old = Voice(first, "old")
        await old.hello("the old token")
        await old.status("none", received=0)
        await page.get_by_role("button", name="Speak here").click()
        sent = await receive_some(first, 10)
        await old.status("none", received=7)
        sent += await receive_some(first, 10)
        cut(first)
        assert isinstance(sent[0], str)
        config = json.loads(sent[0])
        assert config == {"type": "config", "sample_rate": config["sample_rate"]}
        packet_bytes = 2 * round(PACKET_SECONDS * config["sample_rate"])
        assert {len(packet) for packet in sent[1:]} == {packet_bytes}
        assert len(set(sent)) == len(sent), "packets that look alike would hide a mistake"

        second = await visits.get()
        await Voice(second, "new").hello("the new token")
        assert (await receive(second))["resume_token"] == "the old token"
        again = Voice(second, "old", first_seq=3)
        await again.say("resumed", received=14)
        rest = await receive_some(second, 12)
        assert rest[:6] == sent[14:]
        await again.status("none", received=14 + 5)
        cut(second)

        third = await visits.get()
        await Voice(third, "newest").hello("the newest token")
        assert (await receive(third))["resume_token"] == "the old token"
        await Voice(third, "old", first_seq=5).say("resumed", received=14 + 9)
        assert await receive_some(third, 3) == rest[9:]


async def test_a_new_session_gets_what_no_final_has_told(browser: Browser) -> None:
    async with visited(browser) as (page, visits):
        first = await visits.get()
        old = Voice(first, "old")
        await old.hello()
        await old.status("none")
        await page.get_by_role("button", name="Speak here").click()
        sent = await receive_some(first, 1 + 25)
        await old.final("ten packets", end=10.5 * PACKET_SECONDS)
        await expect(page.locator("#finals p")).to_have_text(["ten packets"])
        cut(first)
        second = await visits.get()
        new = Voice(second, "new")
        await new.hello()
        assert await receive_some(second, 1 + 15) == [sent[0], *sent[1 + 10 :]]


async def test_a_speaker_ends_with_close_and_sees_its_last_final(browser: Browser) -> None:
    async with visited(browser) as (page, visits):
        first = await visits.get()
        voice = Voice(first, "speaker")
        await voice.hello("its token")
        await voice.status("none")
        button = page.get_by_role("button", name="Speak here")
        await button.click()
        await receive_some(first, 5)
        await button.click()
        message = await first.recv()
        while isinstance(message, bytes):
            message = await first.recv()
        assert json.loads(message) == {"type": "close"}
        await voice.final("the last words")
        await first.close(1000)
        await expect(page.locator("#finals p")).to_have_text(["the last words"])
        second = await visits.get()
        viewer = Voice(second, "viewer")
        await viewer.hello("another token")
        await viewer.status("ok")
        await expect(page.locator("#status")).to_have_text("listening")
        await viewer.final("somebody else")
        await expect(page.locator("#finals p")).to_have_text(["the last words", "somebody else"])
