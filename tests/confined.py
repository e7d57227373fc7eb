"""Runs the ExecStart of a unit under as many of its restrictions as this machine allows without
systemd: ``python -m tests.confined UNIT SCRATCH [ARGUMENT…]``.

What was applied is printed to standard error as ``applied: Directive``, the rest as ``left out:
Directive: why``. A directive that is in neither table is an error, so that a new one is not
forgotten. SCRATCH is an empty folder; NOTIFY_SOCKET comes from the environment.
"""

import ctypes
import fcntl
import os
import resource
import shlex
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

USER_ID = 61_999  # one of those that DynamicUser= takes
FALLBACK_PATH = "/usr/local/bin:/usr/bin:/bin"

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWNET = 0x20000, 0x4000000, 0x8000000, 0x40000000
NAMESPACES = (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE = 1, 32, 4096, 8192, 16384, 1 << 18
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, LAST_CAPABILITY = 24, 38, 63
SCMP_ACT_ALLOW, SCMP_CMP_EQ, SCMP_CMP_MASKED_EQ = 0x7FFF0000, 4, 7
EPERM, ENOSYS = 1, 38
PROT_WRITE, PROT_EXEC, SHM_EXEC = 2, 4, 0o100000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1

libc = ctypes.CDLL(None, use_errno=True)

Settings = list[tuple[str, str]]


class Comparison(ctypes.Structure):
    """libseccomp's ``scmp_arg_cmp``."""

    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    ]


class Filter:
    """A seccomp filter: what no rule names gets ``default``."""

    def __init__(self, default: int) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(default)))

    def add(self, action: int, name: str, *comparisons: tuple[int, int, int, int]) -> None:
        """Unknown calls (of other machines) are passed over."""
        number = self._library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            return
        array = (Comparison * len(comparisons))(*comparisons)
        check(
            self._library.seccomp_rule_add_array(
                self._context, ctypes.c_uint32(action), number, len(comparisons), array
            )
        )

    def load(self) -> None:
        check(self._library.seccomp_load(self._context))


def check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno() or -result
        raise OSError(number, os.strerror(number))


def error_action(number: int) -> int:
    return 0x00050000 | number


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    arguments = [text.encode() for text in (source, target, kind)]
    check(libc.mount(*arguments, ctypes.c_ulong(flags), options.encode()))


def settings_of(unit: Path) -> Settings:
    """``[Service]`` of the unit, in order."""
    section = unit.read_text().partition("[Service]")[2].partition("[Install]")[0]
    lines = [line for line in section.splitlines() if line and not line.startswith("#")]
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


def values(settings: Settings, name: str) -> list[str]:
    return [word for key, value in settings if key == name for word in shlex.split(value)]


# ---- Mounts: the unit's view of the file system ---------------------------------------------


def cover(folder: str, scratch: Path, writable: list[str], bound: list[str]) -> None:
    """Put an empty file system over ``folder`` that has only the ``writable`` folders and what
    is ``bound`` there."""
    if not Path(folder).is_dir():
        return
    stage = scratch / folder.replace("/", "_")
    stage.mkdir()
    mount("tmpfs", str(stage), "tmpfs", 0, "mode=0755")
    for name in writable:
        path = stage / name
        path.mkdir(parents=True)
        os.chown(path, USER_ID, USER_ID)
    for name in bound:
        target = stage / Path(name).relative_to(folder)
        target.mkdir(parents=True)
        mount(name, str(target), "", MS_BIND | MS_REC)
    if folder in ("/tmp", "/var/tmp"):
        stage.chmod(0o1777)
    mount(str(stage), folder, "", MS_MOVE)


def set_up_view(settings: Settings, scratch: Path) -> None:
    """ProtectSystem=strict, ProtectHome=, PrivateTmp=, the unit's folders, ProtectProc=."""
    mount("", "/", "", MS_REC | MS_PRIVATE)
    bound = values(settings, "BindReadOnlyPaths")

    def bound_in(folder: str) -> list[str]:
        return [path for path in bound if Path(path).is_relative_to(folder)]

    notify = str(Path(os.environ["NOTIFY_SOCKET"]).parent)
    for folder in ("/home", "/root", "/var/tmp"):
        cover(folder, scratch, [], bound_in(folder))
    cover("/var/lib", scratch, ["streamasr"], [])
    cover("/run", scratch, ["streamasr"], [notify, *bound_in("/run/user")])
    cover("/tmp", scratch, [], bound_in("/tmp"))
    mount("proc", "/proc", "proc", 0, "hidepid=invisible")
    writable = ("/tmp", "/var/tmp", "/var/lib/streamasr", "/run/streamasr", "/dev", "/proc")
    for name in ("/var/lib/streamasr", "/run/streamasr"):
        mount(name, name, "", MS_BIND)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        target = line.split()[4]
        if any(Path(target).is_relative_to(name) for name in writable):
            continue
        if Path(target).exists():  # else something was mounted over it
            mount("", target, "", MS_REMOUNT | MS_BIND | MS_RDONLY)
    for name in ("/proc/sys", "/proc/irq"):
        if Path(name).exists():
            mount(name, name, "", MS_BIND)
            mount("", name, "", MS_REMOUNT | MS_BIND | MS_RDONLY)


def raise_loopback() -> None:
    """A network that has nothing but this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", 0)
        _, flags = struct.unpack("16sH14x", fcntl.ioctl(control, SIOCGIFFLAGS, request))
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


# ---- System calls ---------------------------------------------------------------------------


def members(group: str) -> Iterator[str]:
    """The system calls of one of systemd's groups, or of a name."""
    if not group.startswith("@"):
        yield group
        return
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", group],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for line in listed.splitlines()[1:]:
        if (name := line.strip()) and not name.startswith("#"):
            yield from members(name)


def allowed_calls(settings: Settings) -> set[str]:
    """What the lines of SystemCallFilter= leave."""
    allowed = set(members("@default"))
    for key, value in settings:
        if key == "SystemCallFilter":
            named = {call for name in value.lstrip("~").split() for call in members(name)}
            allowed = allowed - named if value.startswith("~") else allowed | named
    return allowed


def filter_calls(settings: Settings, allowed: set[str]) -> None:
    """SystemCallFilter= and RestrictAddressFamilies=, then MemoryDenyWriteExecute= and
    RestrictNamespaces= as systemd 252 does them."""
    calls = Filter(error_action(EPERM))
    for name in allowed - {"socket"}:
        calls.add(SCMP_ACT_ALLOW, name)
    for family in values(settings, "RestrictAddressFamilies"):
        calls.add(SCMP_ACT_ALLOW, "socket", (0, SCMP_CMP_EQ, getattr(socket, family), 0))
    finer = Filter(SCMP_ACT_ALLOW)
    both = PROT_WRITE | PROT_EXEC
    finer.add(error_action(EPERM), "mmap", (2, SCMP_CMP_MASKED_EQ, both, both))
    for name in ("mprotect", "pkey_mprotect"):
        finer.add(error_action(EPERM), name, (2, SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC))
    finer.add(error_action(EPERM), "shmat", (2, SCMP_CMP_MASKED_EQ, SHM_EXEC, SHM_EXEC))
    finer.add(error_action(EPERM), "setns")
    finer.add(error_action(ENOSYS), "clone3")
    for flag in NAMESPACES:
        finer.add(error_action(EPERM), "clone", (0, SCMP_CMP_MASKED_EQ, flag, flag))
        finer.add(error_action(EPERM), "unshare", (0, SCMP_CMP_MASKED_EQ, flag, flag))
    finer.add(error_action(EPERM), "personality", (0, SCMP_CMP_EQ, 0x0008, 0))
    finer.load()
    calls.load()


# ---- All together ---------------------------------------------------------------------------

NEEDS_ROOT = {
    "ProtectSystem", "ProtectHome", "PrivateTmp", "BindReadOnlyPaths", "ProtectProc",
    "ProtectKernelTunables", "StateDirectory", "StateDirectoryMode", "RuntimeDirectory",
    "WorkingDirectory", "PrivateIPC", "ProtectHostname",
    "IPAddressDeny", "IPAddressAllow", "DynamicUser", "User", "SupplementaryGroups",
    "CapabilityBoundingSet", "AmbientCapabilities", "ProtectKernelLogs", "ProtectKernelModules",
    "ProtectClock", "TasksMax",
}  # fmt: skip
NEEDS_SECCOMP = {
    "SystemCallFilter", "SystemCallErrorNumber", "RestrictAddressFamilies",
    "MemoryDenyWriteExecute", "RestrictNamespaces", "LockPersonality",
}  # fmt: skip
ALWAYS = {"NoNewPrivileges", "UMask", "LimitNOFILE", "LimitCORE", "Environment", "ExecStart"}
LEFT_OUT = {
    "PrivateUsers": "would hide whether the user itself may do it",
    "ProtectControlGroups": "systemd's part",
    "DevicePolicy": "needs a control group",
    "DeviceAllow": "needs a control group",
    "MemoryMax": "needs a control group",
    "RemoveIPC": "systemd's part",
    "KeyringMode": "systemd's part",
    "SystemCallArchitectures": "the program has no other",
    "RestrictRealtime": "SystemCallFilter denies these calls already",
    "RestrictSUIDSGID": "no other user is there",
} | dict.fromkeys(
    (
        "Type", "NotifyAccess", "ExecReload", "Restart", "RestartSec", "RestartPreventExitStatus",
        "ConfigurationDirectory", "WatchdogSec", "TimeoutStopSec", "RuntimeDirectoryPreserve",
    ),
    "no restriction",
)  # fmt: skip


def main() -> None:
    unit, scratch, *arguments = sys.argv[1:]
    settings = settings_of(Path(unit))
    is_root = may_unshare()
    has_seccomp = shutil.which("systemd-analyze") is not None and find_seccomp()
    for name in dict.fromkeys(name for name, _ in settings):
        if name in LEFT_OUT:
            print(f"left out: {name}: {LEFT_OUT[name]}", file=sys.stderr)
        elif name in NEEDS_ROOT and not is_root:
            print(f"left out: {name}: needs root and namespaces", file=sys.stderr)
        elif name in NEEDS_SECCOMP and not has_seccomp:
            print(f"left out: {name}: needs systemd-analyze and libseccomp", file=sys.stderr)
        elif name in NEEDS_ROOT | NEEDS_SECCOMP | ALWAYS:
            print(f"applied: {name}", file=sys.stderr)
        else:
            raise SystemExit(f"nobody decided what to do with {name}=")
    sys.stderr.flush()
    allowed = allowed_calls(settings) if has_seccomp else set()
    os.chdir("/")
    command = [word.replace("%%", "%") for word in values(settings, "ExecStart")]
    environment = {
        "PATH": FALLBACK_PATH,
        "LANG": "C.UTF-8",
        "NOTIFY_SOCKET": os.environ["NOTIFY_SOCKET"],
        **dict(item.split("=", 1) for item in values(settings, "Environment")),
    }
    if is_root:
        check(libc.unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET))
        set_up_view(settings, Path(scratch))
        raise_loopback()
        environment |= {
            "HOME": "/",
            "STATE_DIRECTORY": "/var/lib/streamasr",
            "RUNTIME_DIRECTORY": "/run/streamasr",
        }
    most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    open_files = min(int(values(settings, "LimitNOFILE")[0]), most_files)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(int(values(settings, "UMask")[0], 8))
    if is_root:
        tasks = int(values(settings, "TasksMax")[0])
        resource.setrlimit(resource.RLIMIT_NPROC, (tasks, tasks))
        for capability in range(LAST_CAPABILITY + 1):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        os.chdir("/var/lib/streamasr")
        os.setgroups([])
        os.setresgid(USER_ID, USER_ID, USER_ID)
        os.setresuid(USER_ID, USER_ID, USER_ID)
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    if has_seccomp:
        filter_calls(settings, allowed)
    os.execve(command[0], [*command, *arguments], environment)


def may_unshare() -> bool:
    """Root in a container often may not."""
    if os.geteuid() != 0:
        return False
    tried = subprocess.run(["unshare", "--mount", "--net", "true"], stderr=subprocess.DEVNULL)
    return tried.returncode == 0


def find_seccomp() -> bool:
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
