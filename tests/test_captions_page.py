"""The captions page in a real browser: what a viewer sees, what a speaker can do."""

import asyncio
import math
import re
import signal
from collections.abc import AsyncIterator, Awaitable
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pytest
import pytest_asyncio
import soundfile
import soxr
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from tests.browser import hearing, opened, running_browser, why_missing
from tests.cutting_proxy import cutting_proxy
from tests.running_daemon import Program, finals, program, receive_rest
from tests.scripted_peer import Voice, greet, page_against
from tests.virtual_microphone import VirtualMicrophone

if (missing := why_missing()) is not None:
    pytest.skip(missing, allow_module_level=True)

from playwright.async_api import Browser, Locator, expect

expect.set_options(timeout=20_000)
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with running_browser() as running:
        yield running


def page_of(url: str) -> str:
    """Where the daemon that listens at ``url`` has its captions page."""
    return f"http://{urlsplit(url).netloc}/"


# Against the real program --------------------------------------------------------------------


async def test_tentative_words_come_first_and_then_the_finals(
    browser: Browser, demo_wav: Path
) -> None:
    async with (
        program("--input", str(demo_wav)) as daemon,
        connect(daemon.url) as viewer,
        opened(browser, page_of(daemon.url), expected_error="ERR_CONNECTION_REFUSED") as page,
    ):
        receiving = asyncio.create_task(receive_rest(viewer))
        await page.wait_for_function(
            """() => {
                const tentative = document.getElementById("tentative");
                return tentative.textContent && tentative.checkVisibility();
            }"""
        )
        heard = [final["text"] for final in finals(await receiving)]
        assert heard
        await expect(page.locator("#finals p")).to_have_text(heard)
        await expect(page.locator("#partial")).to_be_hidden()


async def test_a_cut_connection_costs_no_final(browser: Browser, demo_wav: Path) -> None:
    async with (
        program("--input", str(demo_wav)) as daemon,
        cutting_proxy(daemon.url) as (proxy, url),
        connect(daemon.url) as viewer,
        opened(browser, page_of(url), expected_error="ERR_CONNECTION_RE") as page,
    ):
        receiving = asyncio.create_task(receive_rest(viewer))
        await expect(page.locator("#tentative")).not_to_be_empty()
        before = proxy.connections
        proxy.cut()
        heard = [final["text"] for final in finals(await receiving)]
        await expect(page.locator("#finals p")).to_have_text(heard)
        assert proxy.connections > before


async def test_the_token_is_in_the_address(browser: Browser, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    async with program("--input", "none", "--token-file", str(token_file)) as daemon:
        token = token_file.read_text().strip()
        async with opened(browser, f"{page_of(daemon.url)}#token={token}") as page:
            await expect(page.locator("#status")).to_have_text(re.compile("^connected"))
        async with opened(browser, f"{page_of(daemon.url)}#token={token[:-1]}") as page:
            await expect(page.locator("#status")).to_have_text(re.compile("wants its token"))


async def test_the_page_survives_a_restart_of_the_daemon(browser: Browser, demo_pcm: bytes) -> None:
    async with (
        program("--input", "none") as daemon,
        opened(browser, page_of(daemon.url), expected_error="ERR_CONNECTION_REFUSED") as page,
    ):
        status = page.locator("#status")
        await expect(status).to_have_text(re.compile("no microphone"))
        daemon.process.send_signal(signal.SIGKILL)
        await expect(status).to_have_text("the daemon is gone; trying again…")
        port = urlsplit(daemon.url).port
        assert port is not None
        await daemon.process.wait()
        await page.clock.install()
        async with program("--input", "-", port=port, stdin=asyncio.subprocess.PIPE) as again:
            await page.clock.run_for(8_000)  # the longest that it may wait before it tries again
            await expect(status).to_have_text("listening")
            await speak(again, demo_pcm)
            await expect(page.locator("#finals p").first).to_be_visible()


async def speak(daemon: Program, pcm: bytes) -> None:
    stdin = daemon.process.stdin
    assert stdin is not None
    stdin.write(pcm)
    await stdin.drain()
    stdin.close()


async def test_the_daemons_microphone_is_muted_with_a_button(
    browser: Browser, virtual_microphone: VirtualMicrophone
) -> None:
    async with (
        program("--input", "mic", environment=virtual_microphone.environment) as daemon,
        opened(browser, page_of(daemon.url)) as page,
        opened(browser, page_of(daemon.url)) as other,
    ):
        button = page.get_by_role("button", name="Mute", exact=True, pressed=False)
        await button.focus()
        await page.keyboard.press("Enter")
        for each in (page, other):
            await expect(each.get_by_role("status")).to_have_text("muted")
            await expect(each.get_by_role("button", name="Unmute", pressed=True)).to_be_visible()
        assert daemon.process.pid not in virtual_microphone.recorders()
        await other.get_by_role("button", name="Unmute").click()
        await expect(page.get_by_role("status")).to_have_text("listening")
        await expect(button).to_be_focused()
        assert daemon.process.pid in virtual_microphone.recorders()


async def test_without_a_microphone_there_is_no_button_to_mute_it(
    browser: Browser, demo_wav: Path
) -> None:
    for source, says in (("none", "no microphone"), (str(demo_wav), "listening")):
        async with (
            program("--input", source) as daemon,
            opened(browser, page_of(daemon.url), expected_error="ERR_CONNECTION_RE") as page,
        ):
            await expect(page.locator("#status")).to_have_text(re.compile(says))
            await expect(page.locator("#mute")).to_be_hidden()


async def test_the_pages_own_microphone_is_heard(
    tmp_path: Path, demo: npt.NDArray[np.float32]
) -> None:
    wav = tmp_path / "voice.wav"
    soundfile.write(wav, soxr.resample(demo[: 6 * 16_000], 16_000, 48_000), 48_000)
    async with (
        running_browser(*hearing(f"{wav}%noloop")) as browser,
        program("--input", "none") as daemon,
        opened(browser, page_of(daemon.url)) as page,
    ):
        button = page.get_by_role("button", name="Speak here")
        await button.click()
        await expect(button).to_have_attribute("aria-pressed", "true")
        await expect(page.locator("#status")).to_have_text("hearing you")
        await expect(page.locator("#tentative")).not_to_be_empty()
        await expect(page.locator("#stable")).to_have_text(re.compile("good morning"))
        await button.click()
        await expect(button).to_have_attribute("aria-pressed", "false")
        await expect(page.locator("#finals p").first).to_have_text(re.compile("^good morning"))
        await expect(page.locator("#status")).to_have_text(re.compile("no microphone"))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ((), "No microphone was found"),
        (("--use-fake-device-for-media-stream",), "may not use the microphone"),
    ],
)
async def test_a_microphone_that_cannot_be_had_is_one_sentence(
    flags: tuple[str, ...], says: str
) -> None:
    async with (
        running_browser(*flags) as browser,
        page_against(greet) as url,
        opened(browser, url) as page,
    ):
        button = page.get_by_role("button", name="Speak here")
        await button.click()
        await expect(page.get_by_role("alert")).to_have_text(re.compile(says))
        await expect(button).to_have_attribute("aria-pressed", "false")


async def test_a_foreign_page_cannot_open_the_websocket(browser: Browser) -> None:
    """The same script on the daemon's own page can, so it is the origin that is refused."""
    attempt = """(url) => new Promise((done) => {
        const socket = new WebSocket(url);
        socket.onmessage = () => done("heard");
        socket.onclose = () => done("refused");
    })"""

    def foreign(connection: ServerConnection, request: Request) -> Response:
        response = connection.respond(HTTPStatus.OK, "<!doctype html><p>Not the daemon's.")
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "text/html"
        return response

    async with (
        program("--input", "none") as daemon,
        serve(greet, "127.0.0.1", 0, process_request=foreign) as other,
    ):
        async with opened(browser, page_of(daemon.url)) as page:
            assert await page.evaluate(attempt, daemon.url) == "heard"
        elsewhere = f"http://127.0.0.1:{other.sockets[0].getsockname()[1]}/"
        async with opened(browser, elsewhere, expected_error="403") as page:
            assert await page.evaluate(attempt, daemon.url) == "refused"
            alias = daemon.url.replace("127.0.0.1", "localhost")
            assert await page.evaluate(attempt, alias) == "refused"


# Against a peer that says exactly what the test wants ------------------------------------------


async def say_some_lines(connection: ServerConnection) -> None:
    voice = Voice(connection, "only")
    await voice.hello()
    await voice.status()
    for number in range(1, 8):
        await voice.final(f"sentence {number} " + "is a little longer than one line of text " * 2)
    await voice.partial("this is settled", " and this is not")
    await connection.wait_closed()


def style_of(locator: Locator, name: str) -> Awaitable[str]:
    return locator.evaluate("(element, name) => getComputedStyle(element)[name]", name)


async def test_what_may_still_change_looks_different(browser: Browser) -> None:
    async with page_against(say_some_lines) as url, opened(browser, url) as page:
        stable, tentative = page.locator("#stable"), page.locator("#tentative")
        await expect(stable).to_have_text("this is settled")
        await expect(tentative).to_have_text("and this is not")
        final = page.locator("#finals p").last
        for name in ("color", "fontStyle"):
            assert await style_of(stable, name) == await style_of(final, name)
            assert await style_of(tentative, name) != await style_of(final, name)


@pytest.mark.parametrize("theme", ["dark", "light"])
async def test_the_theme_is_the_systems_or_the_options(browser: Browser, theme: str) -> None:
    other = {"dark": "light", "light": "dark"}[theme]
    async with page_against(say_some_lines) as url:
        for address, system in ((url, theme), (f"{url}?theme={theme}", other)):
            async with opened(browser, address, color_scheme=system) as page:
                await expect(page.locator("#tentative")).to_be_visible()
                paper = await style_of(page.locator("body"), "backgroundColor")
                assert (luminance(paper) < 0.2) == (theme == "dark")
                for element in ("#stable", "#tentative", "#status", "#trouble", "#speak"):
                    ink = await style_of(page.locator(element), "color")
                    assert contrast(ink, paper) >= 4.5, element


def luminance(color: str) -> float:
    """Relative luminance of ``rgb(r, g, b)``, as WCAG 2 defines it."""
    shares = [int(number) / 255 for number in re.findall(r"\d+", color)[:3]]
    red, green, blue = (
        share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


async def test_transparent_shows_nothing_but_outlined_text(browser: Browser) -> None:
    async with (
        page_against(say_some_lines) as url,
        opened(browser, f"{url}?transparent=1", color_scheme="dark") as page,
    ):
        await expect(page.locator("#tentative")).to_be_visible()
        await expect(page.locator("footer")).to_be_hidden()
        for element in ("html", "body", "main"):
            background = await style_of(page.locator(element), "backgroundColor")
            assert background == "rgba(0, 0, 0, 0)"
        assert await style_of(page.locator("#tentative"), "textShadow") != "none"


async def test_the_styles_that_obs_adds_to_pages_count(browser: Browser) -> None:
    async with page_against(say_some_lines) as url, opened(browser, url) as page:
        await page.evaluate("""() => {  // as obs-browser does it
            const style = document.createElement("style");
            style.innerHTML = "body { color: rgb(1, 2, 3); }";
            document.querySelector("head").appendChild(style);
        }""")
        assert await style_of(page.locator("body"), "color") == "rgb(1, 2, 3)"


VISIBLE_LINES = """(main) => {
    const view = main.getBoundingClientRect();
    const middles = new Set();
    const range = document.createRange();
    range.selectNodeContents(main);
    for (const { top, bottom } of range.getClientRects()) {
        const middle = (top + bottom) / 2;
        if (middle > view.top && middle < view.bottom) middles.add(Math.round(middle));
    }
    return middles.size;
}"""


async def test_only_the_last_lines_are_shown(browser: Browser) -> None:
    async with page_against(say_some_lines) as url:
        for lines in (1, 3):
            async with opened(browser, f"{url}?lines={lines}&size=40") as page:
                await expect(page.locator("#tentative")).to_be_in_viewport(ratio=1)
                main = page.locator("main")
                assert await main.evaluate("(main) => main.clientHeight") == lines * 52
                assert await main.evaluate(VISIBLE_LINES) == lines
        async with opened(browser, url) as page:
            await expect(page.locator("#tentative")).to_be_in_viewport(ratio=1)
            assert await page.locator("main").evaluate(VISIBLE_LINES) > 3


@pytest.mark.parametrize(("size", "pixels"), [("31", 31), ("31.5px", 31.5), ("10vw", 100)])
async def test_the_size_is_pixels_or_a_share_of_the_width(
    browser: Browser, size: str, pixels: float
) -> None:
    viewport = {"width": 1000, "height": 500}
    async with (
        page_against(greet) as url,
        opened(browser, f"{url}?size={size}", viewport=viewport) as page,
    ):
        shown = await style_of(page.locator("main"), "fontSize")
        assert math.isclose(float(shown.removesuffix("px")), pixels)


async def test_bad_options_are_warned_of_and_ignored(browser: Browser) -> None:
    warnings: list[str] = []
    query = "size=12px;color:red&lines=0&theme=blue&fade=-1&transparent=yes&lanes=2"
    async with (
        page_against(greet) as url,
        opened(browser, f"{url}?{query}", warnings=warnings) as page,
        opened(browser, url) as plain,
    ):
        for each in (page, plain):
            await expect(each.locator("#status")).to_have_text("listening")
        html = "(html) => html.cloneNode(false).outerHTML"
        assert await page.locator("html").evaluate(html) == await plain.locator("html").evaluate(
            html
        )
    named = [re.search(r"option (\w+)", warning) for warning in warnings]
    assert [match and match[1] for match in named] == [
        *("size", "lines", "theme", "fade", "transparent", "lanes")
    ]


CAME_BACK = """(captions) => {
    window.cameBack = new Promise((done) => {
        new MutationObserver(() => {
            if (!captions.classList.contains("faded")) done(captions.innerText);
        }).observe(captions, { attributes: true });
    });
}"""


async def test_captions_fade_and_come_back_with_the_next_word(browser: Browser) -> None:
    speak_again = asyncio.Event()

    async def pause(connection: ServerConnection) -> None:
        voice = Voice(connection, "only")
        await voice.hello()
        await voice.status()
        await voice.final("before the pause")
        await speak_again.wait()
        await voice.partial("", "after")
        await connection.wait_closed()

    async with (
        page_against(pause) as url,
        opened(browser, f"{url}?fade=0.3", reduced_motion="reduce") as page,
        opened(browser, f"{url}?fade=0") as never,
    ):
        captions = page.locator("#captions")
        await expect(captions).to_have_css("opacity", "0")
        await expect(never.locator("#finals")).to_have_text("before the pause")
        assert await style_of(never.locator("#captions"), "opacity") == "1"
        await captions.evaluate(CAME_BACK)
        speak_again.set()
        assert "after" in await page.evaluate("window.cameBack")
        await expect(captions).to_have_css("opacity", "0")


async def test_screen_readers_hear_finals_only_and_the_keyboard_reaches_everything(
    browser: Browser,
) -> None:
    # High enough that nothing scrolls: Chromium itself makes what scrolls reachable.
    viewport = {"width": 1000, "height": 3000}
    async with (
        page_against(say_some_lines) as url,
        opened(browser, url, viewport=viewport) as page,
    ):
        await expect(page.locator("#tentative")).to_be_visible()
        log = page.get_by_role("log")
        await expect(log).to_have_attribute("aria-live", "polite")
        assert await log.locator("p").count() == 7
        spoken = await page.locator("body").aria_snapshot()
        assert "sentence 7" in spoken
        assert "this is settled" not in spoken
        await expect(page.get_by_role("status")).to_have_text("listening")
        assert await page.locator("html").get_attribute("lang") == "en"
        assert await page.title() == "Live captions"
        button = page.get_by_role("button", name="Speak here", pressed=False)
        for stop in (page.get_by_role("main"), button):
            await page.keyboard.press("Tab")
            await expect(stop).to_be_focused()
            assert await style_of(stop, "outlineStyle") == "solid"
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).not_to_be_empty()
