"""The installed unit's command line recognises under the unit's restrictions."""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamasr.config import Config
from streamasr.errors import ConfigError
from streamasr.service_unit import system_unit
from tests.notify_socket import notify_socket

LIMIT_SECONDS = 60
ROOT = Path(__file__).parent.parent


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that the service's user can reach, as systemd's socket is."""
    folder = Path(tempfile.mkdtemp(dir="/run" if os.geteuid() == 0 else None))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


async def test_the_unit_recognises_under_its_restrictions(
    tmp_path: Path, open_folder: Path, demo_pcm: bytes
) -> None:
    try:
        unit = system_unit(None, Config())
    except ConfigError as error:
        pytest.skip(f"no service could run from here: {error}")
    path = tmp_path / unit.name
    path.write_text(unit.text)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with notify_socket(open_folder) as systemd:
        (open_folder / "notify").chmod(0o777)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.confined", str(path), str(scratch)),
            *("--port", "0", "--input", "-", "--captions"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env=os.environ | systemd.environment,
        )
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                ready = asyncio.create_task(systemd.receive_until("READY=1"))
                ended = asyncio.create_task(process.wait())
                await asyncio.wait((ready, ended), return_when=asyncio.FIRST_COMPLETED)
                if ready.done():
                    facts = facts_of(process.pid)
                printed, errors = await process.communicate(demo_pcm)
        finally:
            if process.returncode is None:
                process.kill()
    print(errors.decode())
    assert process.returncode == 0, errors.decode()
    assert ready.done()
    assert "final: " in printed.decode()
    assert facts["NoNewPrivs"] == "1"
    if "applied: SystemCallFilter" in errors.decode():
        assert facts["Seccomp"] == "2"
    if "applied: CapabilityBoundingSet" in errors.decode():
        assert int(facts["CapBnd"], 16) == 0
        assert "0" not in facts["Uid"].split()


def facts_of(process_id: int) -> dict[str, str]:
    """What the kernel says of a process."""
    status = Path(f"/proc/{process_id}/status").read_text()
    return dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
