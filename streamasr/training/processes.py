"""The processes of one run, which share every batch and add up their gradients.

Without torchrun, the process that was started is rank 0 and starts the others. Under
torchrun (``torchrun --nproc-per-node N -m streamasr train …``) every rank was started from
outside, on one machine or several, each with the GPU of its local rank where there is one.
"""

import ctypes
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed
from torch import Tensor
from torch.multiprocessing import get_context

from streamasr.errors import StreamasrError

_PR_SET_PDEATHSIG = 1


@dataclass
class Group:
    """This process' place among the processes of a run."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum of ``tensor`` over all processes, in place.

        Raises StreamasrError where another process is gone.
        """
        if self.size > 1:
            try:
                torch.distributed.all_reduce(tensor)
            except RuntimeError as error:
                raise StreamasrError(
                    "another process of this training run has ended; the same command goes on"
                    f" from the last save ({error})"
                ) from None
        return tensor

    def wait(self) -> None:
        """Return when every process has come here."""
        self.add_up(torch.zeros(1, device=self.device))


def is_launched() -> bool:
    """Whether torchrun started this process."""
    return {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= os.environ.keys()


def launched_group() -> Group:
    """The group that torchrun describes in the environment."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Group(rank, size, device)


def run_locally(size: int, rendezvous: Path, work: Callable[..., None], *arguments: Any) -> None:
    """``work(group, *arguments)`` in ``size`` processes of this machine: rank 0 here, the
    others started from here. ``work`` must be importable; the processes meet at the file
    ``rendezvous``. When this returns or raises, the others have ended."""
    rendezvous.unlink(missing_ok=True)
    context = get_context("spawn")
    others = [
        context.Process(target=_other, args=(rank, size, rendezvous, work, *arguments), daemon=True)
        for rank in range(1, size)
    ]
    for other in others:
        other.start()
    try:
        work(_local_group(0, size, rendezvous), *arguments)
    except BaseException:
        for other in others:
            other.kill()
        raise
    finally:
        for other in others:
            other.join()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        rendezvous.unlink(missing_ok=True)


def _local_group(rank: int, size: int, rendezvous: Path) -> Group:
    if size > 1:
        torch.set_num_threads(1)
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{rendezvous.absolute()}", rank=rank, world_size=size
        )
    device = torch.device("cuda") if size == 1 and torch.cuda.is_available() else None
    return Group(rank, size, device or torch.device("cpu"))


def _other(
    rank: int, size: int, rendezvous: Path, work: Callable[..., None], *arguments: Any
) -> None:
    # Rank 0 may be killed; whoever then trains on would fight with the run that takes it up.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    work(_local_group(rank, size, rendezvous), *arguments)


class StopRequest:
    """Notes the first SIGINT or SIGTERM instead of obeying it; a second one is obeyed."""

    def __init__(self) -> None:
        self.made = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.made:
            raise KeyboardInterrupt
        self.made = True
