"""Make the README's picture again: ``python -m tests.screenshot``, at the repository's root.

A daemon hears the bundled recording, and Chromium shows what it writes.
"""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

from tests.browser import opened, running_browser, why_missing
from tests.running_daemon import program

ROOT = Path(__file__).parents[1]
RECORDING = ROOT / "tests" / "recordings" / "demo.flac"
PICTURE = ROOT / "captions.png"
VIEWPORT = {"width": 1200, "height": 675}
FINALS = 2
LEAST_CHARACTERS = 12

# What to look for in a partial: enough of it settled, and something that is not.
READY = """([finals, characters]) => {
    const length = (id) => document.getElementById(id).textContent.length;
    return document.querySelectorAll("#finals p").length >= finals
        && length("stable") >= characters && length("tentative") >= characters;
}"""


async def main() -> None:
    async with (
        running_browser() as browser,
        program("--input", str(RECORDING)) as daemon,
        opened(
            browser,
            f"http://{urlsplit(daemon.url).netloc}/",
            viewport=VIEWPORT,
            color_scheme="dark",
        ) as page,
    ):
        partial = page.locator("#partial")
        shown = ""
        # Words move while the picture is taken: it counts where they are the same after it.
        while not shown or shown != await partial.inner_text():
            while not await page.evaluate(READY, [FINALS, LEAST_CHARACTERS]):
                await page.wait_for_timeout(20)
            shown = await partial.inner_text()
            await page.screenshot(path=PICTURE)
    print(f"{PICTURE.name}: {PICTURE.stat().st_size} bytes, with {shown!r}")


if __name__ == "__main__":
    if (missing := why_missing()) is not None:
        raise SystemExit(missing)
    asyncio.run(main())
