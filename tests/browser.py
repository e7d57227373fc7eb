"""Debian's Chromium without a window, driven by Playwright."""

import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

PROGRAM = "chromium"
FLAGS = (
    "--no-sandbox",  # Chromium's own does not work for root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LIMIT_MS = 20_000


def why_missing() -> str | None:
    """What this machine lacks to drive a browser; None where it has everything."""
    if shutil.which(PROGRAM) is None:
        return f"{PROGRAM} not installed (apt install {PROGRAM})"
    if find_spec("playwright") is None:
        return "playwright not installed (pip install playwright)"
    return None


def hearing(wav: Path | str) -> tuple[str, ...]:
    """Flags for a microphone that hears ``wav`` again and again, once where ``%noloop`` follows."""
    return (
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={wav}",
    )


@asynccontextmanager
async def running_browser(*flags: str) -> "AsyncIterator[Browser]":
    """Chromium with ``flags`` beside the usual ones."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which(PROGRAM), args=[*FLAGS, *flags]
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def opened(
    browser: "Browser",
    url: str,
    *,
    expected_error: str | None = None,
    warnings: list[str] | None = None,
    **context_options: Any,
) -> "AsyncIterator[Page]":
    """A fresh profile's page at ``url``.

    Fails in the end where the console got an error (a violated policy is one, too) that does
    not match ``expected_error``. Its warnings go into ``warnings``, and are errors without.
    """
    errors: list[str] = []
    context = await browser.new_context(**context_options)
    context.set_default_timeout(LIMIT_MS)
    page = await context.new_page()

    def note(kind: str, text: str) -> None:
        if kind == "warning" and warnings is not None:
            warnings.append(text)
        elif kind in ("error", "warning"):
            errors.append(text)

    page.on("console", lambda message: note(message.type, message.text))
    page.on("pageerror", lambda error: note("error", str(error)))
    await page.goto(url)
    yield page
    await context.close()
    unexpected = [
        text for text in errors if expected_error is None or not re.search(expected_error, text)
    ]
    assert not unexpected
