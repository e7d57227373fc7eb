"""Where sound comes from: the sound card, who may read it, the sound server, the microphone."""

import grp
import multiprocessing
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from streamasr.config import NO_FILES, Config
from streamasr.doctor.finding import Finding, ok, problem, refused, warning
from streamasr.doctor.microphone import NO_SOUND, capture_devices, check_microphone
from streamasr.errors import CaptureError

CONNECT_SECONDS = 1.0
MICROPHONE_SECONDS = 20.0
RESTART_SERVER = "systemctl --user restart pipewire pipewire-pulse, or: pulseaudio -k"
ALSA_PLUGIN = "alsa-lib/libasound_module_pcm_pulse.so"


def check_sound(config: Config) -> Iterator[Finding]:
    """Nothing but the file where a file is heard."""
    heard = config.capture.input
    if heard not in NO_FILES:
        yield _check_file("input", Path(heard))
    elif heard != "mic":
        yield ok("input", f"{heard}: no microphone is needed")
    else:
        from streamasr.capture.search import server_sockets

        if config.capture.fallback is not None:
            yield _check_file("fallback", config.capture.fallback)
        found = _in_another_process(config)
        causes = [_check_sound_server()]
        if causes[0].state != "ok" or not server_sockets():
            causes.append(_check_rights())
        if all(each.state != "problem" for each in found):  # then they keep it from nothing
            causes = [
                replace(each, state="warning", exit_code=0) if each.state == "problem" else each
                for each in causes
            ]
        yield from (*causes, *found)


def _in_another_process(config: Config) -> list[Finding]:
    """What ``check_microphone`` finds: a sound system that is broken may hang, or crash."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_send_findings, args=(config, theirs), daemon=True)
    child.start()
    theirs.close()
    try:
        if not ours.poll(MICROPHONE_SECONDS):
            text = f"the sound system does not answer within {MICROPHONE_SECONDS:g} s"
            return [problem("microphone", text, RESTART_SERVER, NO_SOUND)]
        answer = ours.recv()
        if isinstance(answer, Exception):
            raise answer
        findings: list[Finding] = answer
        return findings
    except EOFError:
        child.join()
        text = f"PortAudio crashes (exit code {child.exitcode})"
        return [
            problem("microphone", text, "sudo apt-get install --reinstall libportaudio2", NO_SOUND)
        ]
    finally:
        child.kill()
        child.join()
        ours.close()


def _send_findings(config: Config, to_parent: Connection) -> None:
    try:
        to_parent.send(list(check_microphone(config)))
    except Exception as error:
        to_parent.send(error)


def _check_file(check: str, path: Path) -> Finding:
    from streamasr.capture.wavfile import AudioFile
    from streamasr.errors import AudioFormatError

    try:
        AudioFile(path)
    except (AudioFormatError, CaptureError) as error:
        return refused(check, error)
    return ok(check, f"the file {path}")


# ---- The sound server: PulseAudio, or PipeWire in its place. ---------------------------------


def _check_sound_server() -> Finding:
    from streamasr.capture.search import server_sockets

    check = "sound server"
    named = os.environ.get("PULSE_SERVER", "")
    sockets = server_sockets()
    if named and not sockets:
        return ok(check, f"on another machine ($PULSE_SERVER {named}), not asked")
    users = Path(f"/run/user/{os.getuid()}")
    if not sockets and not os.environ.get("XDG_RUNTIME_DIR") and users.exists():
        text = "XDG_RUNTIME_DIR is not set, so that the user's sound server cannot be found"
        return warning(check, text, f"export XDG_RUNTIME_DIR={users}")
    if not sockets:
        return ok(check, "none; ALSA's devices are used as they are")
    for path in sockets:
        failure = _connect(path)
        if failure is not None:
            mend = "unset PULSE_SERVER, or start the server there" if named else RESTART_SERVER
            return problem(check, f"{path} does not answer: {failure}", mend, NO_SOUND)
    if not any(Path("/usr/lib").glob(f"*/{ALSA_PLUGIN}")):
        text = f"{sockets[0]} answers, but ALSA cannot use it: its plugin is missing"
        return warning(check, text, "sudo apt-get install libasound2-plugins")
    return ok(check, f"{sockets[0]} answers")


def _connect(path: Path) -> str | None:
    """Why nobody answers there."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(CONNECT_SECONDS)
            client.connect(str(path))
    except OSError as error:
        return error.strerror or str(error)
    return None


# ---- The sound card. -------------------------------------------------------------------------


def _check_rights() -> Finding:
    check = "sound card"
    devices = capture_devices()
    if not devices:
        text = "no device that records; without a sound server there is no microphone"
        return warning(check, text, "plug a microphone in, and look again: cat /proc/asound/cards")
    closed = [device for device in devices if not os.access(device, os.R_OK | os.W_OK)]
    if not closed:
        return ok(check, f"{len(devices)} devices that record")
    try:
        group = grp.getgrgid(closed[0].stat().st_gid).gr_name
    except (OSError, KeyError):
        group = "audio"
    mend = f"sudo usermod -aG {group} $USER, and log in again"
    return problem(check, f"this user may not read {closed[0]}", mend, NO_SOUND)
