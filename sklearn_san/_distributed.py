"""Processes that fit one estimator together, each with its share of the rows.

They are the ranks of the default process group of `torch.distributed`, which the user's script has
made, and run the same code with the same arguments. Of every batch a rank differentiates its own
rows; the gradients are added, so that all take the same step, as one process would with the whole
batch. What is found before and after training, and what rounding could make drift apart where
machines differ, is that of rank 0.

===============  ===========================================================================
`Ranks`          the group as this process sees it
`ALONE`          no group
`current_ranks`  the group that there is now
===============  ===========================================================================
"""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .exceptions import warn_caller


@dataclass(frozen=True)
class Ranks:
    """A process group as one of its processes sees it.

    Parameters
    ----------
    rank : int
        Number of this process.
    size : int
        Number of processes.
    grouped : bool
        Whether there is a group at all; if not, nothing is sent.
    """

    rank: int = 0
    size: int = 1
    grouped: bool = False

    def part(self, n: int) -> slice:
        """Which of n items in a row are those of this rank."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def add(self, tensor: Tensor) -> Tensor:
        """Sum over the ranks, in place."""
        if self.grouped:
            sent = _sendable(tensor)
            dist.all_reduce(sent)
            if sent is not tensor:
                tensor.copy_(sent)
        return tensor

    def any(self, flag: bool) -> bool:
        """Whether a flag is true on any rank."""
        return bool(self.add(torch.tensor(int(flag)))) if self.grouped else flag

    def follow(self, *tensors: Tensor) -> None:
        """Overwrite tensors by those of rank 0."""
        if self.grouped:
            for tensor in tensors:
                sent = _sendable(tensor.detach()).contiguous()
                dist.broadcast(sent, src=0)
                tensor.detach().copy_(sent)

    def all(self, what: str, value: Any) -> list[Any]:
        """Values of all ranks; the parameters are those of `first`."""
        if not self.grouped:
            return [value]
        return [own for _, own, _ in self._gathered(what, value, None)]

    def first(self, what: str, value: Any) -> Any:
        """Value of rank 0.

        Parameters
        ----------
        what : str
            What it is, of which all ranks must speak.
        value : object
            Of any class that can be pickled.
        """
        if not self.grouped:
            return value
        content, problem = None, None
        if self.rank == 0:
            try:
                content = pickle.dumps(value)
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
        _, content, problem = self._gathered(what, content, problem)[0]
        if problem is not None:
            raise TypeError(
                f"Rank 0 cannot send {what} to the other ranks ({problem}); use classes and "
                "functions that stand in a module, instead of local ones."
            )
        return value if self.rank == 0 else pickle.loads(content)

    def check_alike(self, what: str, digest: str) -> None:
        """Raise, on all ranks, unless they have the same digest of what they were given."""
        digests = self.all(what, digest)
        others = [str(rank) for rank, own in enumerate(digests) if own != digests[0]]
        if others:
            raise ValueError(
                f"Ranks of a process group fit one estimator together, but rank {others[0]} was "
                f"given other {what} than rank 0; give the same to all, or OwnBatches of rows that "
                "others do not have. For estimators of their own, fit before "
                "torch.distributed.init_process_group."
            )

    def _gathered(self, what: str, content: Any, problem: str | None) -> list[Any]:
        """What all ranks send."""
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, (what, content, problem))
        for rank, (other, _, _) in enumerate(found):
            if other != found[0][0]:
                raise RuntimeError(
                    f"Rank 0 is at {found[0][0]!r}, rank {rank} at {other!r}: all ranks must run "
                    "the same calls with the same rows and parameters."
                )
        return found


#: No process group.
ALONE = Ranks()


def current_ranks() -> Ranks:
    """The default process group, if there is one.

    Warns
    -----
    UserWarning
        If torchrun has started several processes that know nothing of each other.
    """
    if not dist.is_available():
        return ALONE
    if dist.is_initialized():
        return Ranks(dist.get_rank(), dist.get_world_size(), True)
    n_started = int(os.environ.get("WORLD_SIZE", "1"))
    if dist.is_torchelastic_launched() and n_started > 1:
        warn_caller(
            f"torchrun has started {n_started} processes, each of which fits alone; call "
            "torch.distributed.init_process_group() before fit for one fit by all.",
            UserWarning,
        )
    return ALONE


def _sendable(tensor: Tensor) -> Tensor:
    """The tensor, or a copy of it on the GPU where the group sends from there alone."""
    if dist.get_backend() == "nccl" and not tensor.is_cuda:
        return tensor.cuda()
    return tensor
