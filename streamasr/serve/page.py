"""The captions page, and what a browser lets it do."""

import base64
import hashlib
import re
from pathlib import Path

CAPTIONS_PAGE = Path(__file__).with_name("captions.html")
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}' blob:; "
    "worker-src 'none'; img-src data:; connect-src 'self' ws: wss:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page_and_policy() -> tuple[str, str]:
    """The page and its Content-Security-Policy: no script runs but the page's own, which makes
    its audio worklet from a ``blob:``. Styles are free, because OBS adds its user's own."""
    page = CAPTIONS_PAGE.read_text(encoding="utf-8")
    (script,) = re.findall("<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return page, _POLICY.format(digest=digest)
