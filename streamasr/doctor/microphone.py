"""The microphone, as the daemon would open it."""

from collections.abc import Iterator
from pathlib import Path

from streamasr.config import Config
from streamasr.doctor.finding import Finding, ok, problem, refused, warning
from streamasr.doctor.processes import holders_of
from streamasr.doctor.running import microphone_of_daemon, unmute_command
from streamasr.errors import CaptureError

NO_SOUND = CaptureError.exit_code
DEVICES = Path("/dev/snd")
LISTEN_SECONDS = 1.0
QUIET_DB = -70.0
FULL_DB = -0.5


def check_microphone(config: Config) -> Iterator[Finding]:
    """What can be recorded from; whether the chosen one opens, and how loud it is."""
    from streamasr.capture.microphone import list_devices

    devices = list_devices()
    if not devices:
        mend = "plug one in, and look again: streamasr devices; or do without: --input none"
        yield _missing(config, problem("microphones", "PortAudio finds none", mend, NO_SOUND))
        return
    names = ", ".join(f"{each.index} {each.name!r}" for each in devices)
    yield ok("microphones", names)
    if microphone_of_daemon(config.serve) == "muted":
        text = "not opened: the running daemon keeps it muted"
        yield warning("microphone", text, unmute_command(config.serve))
        return
    yield _listen(config)


def _listen(config: Config) -> Finding:
    """Open it as the daemon would, and hear how loud it is."""
    import numpy as np

    from streamasr.capture.level import peak_db, rms_db
    from streamasr.capture.microphone import Microphone

    check = "microphone"
    try:
        microphone = Microphone(config.capture)
        try:
            samples = np.concatenate(list(microphone.blocks(LISTEN_SECONDS)))
        finally:
            microphone.close()
    except CaptureError as error:
        if microphone_of_daemon(config.serve) == "ok":
            return ok(check, "the running daemon hears it")
        holders = holders_of(capture_devices())
        if holders:
            text = f"{error}; {', '.join(map(str, holders))} may hold it"
            return _missing(config, problem(check, text, f"kill {holders[0].pid}", NO_SOUND))
        return _missing(config, refused(check, error))
    name = repr(microphone.device.name)
    if not samples.any():
        return warning(check, f"{name} gives digital silence: muted?", _turn_on())
    level_db = rms_db(samples)
    text = f"{name} is open: {peak_db(samples):.0f} dB peak, {level_db:.0f} dB RMS"
    if level_db < QUIET_DB:
        return warning(check, f"{text}: very quiet", _set_volume("100%"))
    if peak_db(samples) > FULL_DB:
        return warning(check, f"{text}: too loud, it clips", _set_volume("50%"))
    return ok(check, text)


def _missing(config: Config, finding: Finding) -> Finding:
    """A problem, unless the settings say what to do meanwhile."""
    if config.capture.fallback is not None:
        return warning(finding.check, f"{finding.text}; the fallback is played", finding.mend)
    if config.capture.wait:
        return warning(finding.check, f"{finding.text}; it is waited for", finding.mend)
    return finding


def _turn_on() -> str:
    if _has_sound_server():
        return "pactl set-source-mute @DEFAULT_SOURCE@ 0"
    return "amixer sset Capture cap"


def _set_volume(volume: str) -> str:
    if _has_sound_server():
        return f"pactl set-source-volume @DEFAULT_SOURCE@ {volume}"
    return f"amixer sset Capture {volume}"


def _has_sound_server() -> bool:
    from streamasr.capture.search import server_sockets

    return bool(server_sockets())


def capture_devices() -> list[Path]:
    """ALSA's device files that can be recorded from."""
    return sorted(DEVICES.glob("pcmC*c"))
