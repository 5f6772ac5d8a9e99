"""Several processes that train one model together: who they are, how they agree, and what becomes of the model.

    torchrun ──> joined() ──> World ──> wrap(model) ──> each rank: its share of a batch ──> one gradient ──> the same step

ddp    every rank has the whole model; gradients are averaged while the backward pass goes on (DistributedDataParallel)
fsdp   every rank has a part of each matrix, and gets the rest of a block when it is at work on it (FSDP2, `fully_shard`)

Only the first rank reads and writes the run's folder. It decides, the others are told (`from_first`); what each has to see
for itself is seen by all before anyone goes on (`together`, `any`). So a stop, a mistake or a shortage on one is one on all.
"""

import atexit
import gc
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from loguru import logger
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from wikigpt.errors import ConfigError, RunError, WikiGPTError
from wikigpt.transformer import GPTModel
from wikigpt.watch import Watch

T = TypeVar("T")


class OnOneRank(RunError):
    """What only one rank has met, while the others wait for it: it ends, and the watch ends the others."""


@dataclass(frozen=True)
class World:
    """Which of how many processes this is; alone unless torchrun started it."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # on this machine
    local_size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that reads, writes and speaks."""
        return self.rank == 0

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag whether it is set on any rank."""
        if self.size == 1:
            return flags
        set_anywhere = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(set_anywhere, dist.ReduceOp.MAX)
        return tuple(map(bool, set_anywhere.tolist()))

    def sum(self, *numbers: float) -> tuple[float, ...]:
        """Sums over ranks, in 64 bits."""
        if self.size == 1:
            return numbers
        total = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(total)
        return tuple(total.tolist())

    def least(self, number: int) -> int:
        """The smallest of all ranks'."""
        if self.size == 1:
            return number
        smallest = torch.tensor(number)
        dist.all_reduce(smallest, dist.ReduceOp.MIN)
        return int(smallest)

    def add_up(self, figure: Tensor) -> Tensor:
        """Sum over ranks of a tensor on the device, in place; on a card nothing waits for it."""
        if self.size > 1:
            dist.all_reduce(figure)
        return figure

    def from_first(self, make: Callable[[], T]) -> T:
        """What the first rank makes, on all ranks. A mistake that it meets ends all; it alone says so."""
        if self.size == 1:
            return make()
        made: list[Any] = [None, None]
        if self.first:
            try:
                made = [make(), None]
            except OnOneRank:
                raise
            except WikiGPTError as error:
                made = [None, error]
        dist.broadcast_object_list(made)
        if made[1] is not None:
            raise made[1] if self.first else SystemExit(2)
        return made[0]

    def alike(self, error: WikiGPTError) -> BaseException:
        """What to raise for an error that all ranks meet at once: the first says so, the others end in silence."""
        return error if self.first else SystemExit(2)

    def together(self, make: Callable[[], T]) -> T:
        """What each rank makes for itself. A mistake that one of them meets ends all; the first rank says which one's."""
        if self.size == 1:
            return make()
        made, error = None, None
        try:
            made = make()
        except OnOneRank:
            raise
        except WikiGPTError as mistake:
            error = mistake
        met: list[Any] = [None] * self.size
        dist.all_gather_object(met, error and (type(error), error.problem, error.fix, socket.gethostname()))
        for rank, found in enumerate(met):
            if found is not None:
                kind, problem, fix, host = found
                problem = problem if rank == 0 else f"Rank {rank} on {host}: {problem}"
                raise kind(problem, fix) if self.first else SystemExit(2)
        return made  # type: ignore[return-value]


ALONE = World()
TIMEOUT = timedelta(hours=1)  # of whoever waits for the others: a rank that died is found out long before
MEETING = timedelta(minutes=5)


@contextmanager
def joined(device: str) -> Iterator[World]:
    """The world that torchrun made this process a part of; the others are watched while it lasts, and end with this one.
    Raises ConfigError where there are more processes than cards, or the others are out of reach."""
    rank, size, local_rank, local_size = (
        int(os.environ.get(name, default))
        for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0), ("LOCAL_WORLD_SIZE", 1))
    )
    if size == 1:
        yield ALONE
        return
    _check(device, local_rank, local_size)
    world = World(rank, size, local_rank, local_size)
    if not world.first:
        only_errors(rank)
    if device == "cuda":
        torch.cuda.set_device(local_rank)
    atexit.register(gc.collect)  # DistributedDataParallel is in a circle, and aborts where Python's end destroys it
    store = _meet(world)
    torchruns = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    watch = Watch(rank, size, store, torchruns, speaks=world.first, may_speak=rank == 1 or local_rank == 0)
    watch.start()
    try:
        _form_group(world, device, store)
        yield world
        world.any(False)
        gc.collect()
        dist.destroy_process_group()
    except BaseException as error:
        watch.ended(error)
        raise
    finally:
        watch.stop()


def _check(device: str, local_rank: int, local_size: int) -> None:
    """Raises ConfigError, on one rank of a machine, where its processes are more than its cards."""
    cards = torch.cuda.device_count() if device == "cuda" else 0
    problem, fix = "", ""
    if device == "mps":
        problem, fix = "Several processes cannot share an Apple GPU.", "Take --device cpu, or start a single one."
    elif device == "cuda" and local_size > cards:
        problem, fix = f"{local_size} processes cannot share {cards} cards.", f"Take --nproc_per_node={cards}."
    if problem:
        raise ConfigError(problem, fix) if local_rank == 0 else SystemExit(2)


def _meet(world: World) -> Any:
    """Waits for all ranks; the store that they share. Raises ConfigError where some stay away."""
    from torch.distributed.rendezvous import rendezvous  # not in every build of PyTorch

    place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    everyone = [f"here/{rank}" for rank in range(world.size)]
    try:
        store = next(rendezvous("env://", timeout=MEETING))[0]
        # torchrun keeps its store when it starts the processes anew: each time has names of its own.
        store = dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
        store.set(everyone[world.rank], "")
        if not _all_there(store, everyone):
            absent = [name.removeprefix("here/") for name in everyone if not store.check([name])]
            problem = f"Of {world.size} ranks {', '.join(absent)} did not come to {place}."
            raise ConfigError(problem, "See why they did not start, and that the network lets them through.")
    except (RuntimeError, ValueError, OSError) as error:
        problem = f"The other {world.size - 1} processes are out of reach at {place} ({_short(error)})."
        raise ConfigError(problem, "Check the address, the firewall, and that all were started.") from error
    return store


def _all_there(store: Any, everyone: list[str]) -> bool:
    """Whether all come in time. (Waits a second at a time: Ctrl-C is heard in between.)"""
    for _ in range(int(MEETING.total_seconds())):
        with suppress(RuntimeError):
            store.wait(everyone, timedelta(seconds=1))
            return True
    return False


def _form_group(world: World, device: str, store: Any) -> None:
    """Connects every rank with every other. Raises ConfigError where the network does not let them."""
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    group = dist.PrefixStore("group", store)
    try:
        dist.init_process_group(backend, store=group, rank=world.rank, world_size=world.size, timeout=MEETING)
    except RuntimeError as error:
        problem = f"The ranks do not reach each other ({_short(error)})."
        fix = (
            "Open all ports between the machines, and name their network card: GLOO_SOCKET_IFNAME, NCCL_SOCKET_IFNAME."
        )
        raise ConfigError(problem, fix) from error
    dist.distributed_c10d._set_pg_timeout(TIMEOUT)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def only_errors(rank: int) -> None:
    """Lets a rank other than the first speak of nothing but what goes wrong on it."""
    logger.remove()
    logger.add(lambda line: print(line, end="", file=sys.stderr), format=f"rank {rank}: {{message}}", level="ERROR")


class Loss(nn.Module):
    """The summed loss of a batch as a module's forward pass, which is what DistributedDataParallel wraps."""

    def __init__(self, model: GPTModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
        return self.model.loss(inputs_BT, targets_BT, reduction="sum")


class Replicas(DistributedDataParallel):
    """Whole models that average their gradients. In the first steps they do so after the backward pass and not during it:
    a rank that has too little memory can tell the others only as long as none of them waits for its gradients."""

    careful_steps = 2  # the first has no moments in memory yet


def wrap(model: GPTModel, how: str, device: str, dtype: torch.dtype, world: World) -> nn.Module:
    """Brings a model to its device and makes what calculates the summed loss of a rank's batch, and sees to it that the
    gradients of all ranks are averaged. `dtype` is what matrices are multiplied in. The model keeps its names; with fsdp
    its parameters become DTensors."""
    if world.size > 1 and how == "fsdp":
        return Loss(shard(model, device, dtype, world))
    net = Loss(model.to(device))
    if world.size == 1:
        return net
    ids = [world.local_rank] if device == "cuda" else None
    return Replicas(net, device_ids=ids, gradient_as_bucket_view=True)


def shard(model: GPTModel, device: str, dtype: torch.dtype, world: World) -> GPTModel:
    """Cuts each parameter into as many parts as there are ranks. The blocks are gathered in `dtype`; embeddings, head and
    the stream between the blocks stay in 32 bits; gradients are added up in 32 bits."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(device, (world.size,))
    precise = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    narrow = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in model.blocks:
        fully_shard(block, mesh=mesh, mp_policy=precise if dtype == torch.float32 else narrow)
    fully_shard(model, mesh=mesh, mp_policy=precise)
    for method in ("loss", "next_logits"):
        register_fsdp_forward_method(model, method)
    return model


def parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """By name, as the optimiser knows them: of a model in parts what the last forward pass gathered is let go first."""
    if hasattr(model, "reshard"):
        model.reshard()  # type: ignore[operator]
    return dict(model.named_parameters())


def not_yet(net: nn.Module) -> AbstractContextManager[None]:
    """While it lasts, replicas keep their gradients to themselves."""
    return net.no_sync() if isinstance(net, Replicas) else nullcontext()


def average_gradients(net: nn.Module, world: World) -> None:
    """What DistributedDataParallel does during the backward pass, after it."""
    for parameter in net.parameters():
        if parameter.grad is not None:
            parameter.grad /= world.size
            dist.all_reduce(parameter.grad)


def whole(tensor: Tensor) -> Tensor:
    """A tensor with the parts that lie elsewhere; all ranks must ask together."""
    return tensor.full_tensor() if in_parts(tensor) else tensor  # type: ignore[attr-defined]


def in_parts(tensor: Tensor) -> bool:
    """Whether it is a DTensor, of which each rank has a part. (Their module takes half a second to import.)"""
    return hasattr(tensor, "full_tensor")


def own(tensor: Tensor) -> Tensor:
    """The part of a tensor that lies here: all of it, unless it is a DTensor."""
    return tensor.to_local() if in_parts(tensor) else tensor  # type: ignore[attr-defined]


def spread(tensor: Tensor | None, like: Tensor, world: World) -> Tensor:
    """A whole tensor that the first rank has, on all ranks, each its part where `like` is in parts."""
    if world.size == 1:
        assert tensor is not None
        return tensor.to(like.device)
    empty = torch.empty(like.shape, dtype=like.dtype, device=like.device)
    full = empty if tensor is None else empty.copy_(tensor)
    if in_parts(like):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(full, like.device_mesh, like.placements)  # type: ignore[attr-defined]
    dist.broadcast(full, 0)
    return full


def shared_out(work: Callable[[Tensor], Tensor], matrices: Tensor, world: World) -> Tensor:
    """What `work` makes of matrices (N, rows, columns) that all ranks have: each does its share, and all get all of it."""
    if world.size == 1:
        return work(matrices)
    N, each = len(matrices), -(-len(matrices) // world.size)
    mine = matrices[world.rank * each : (world.rank + 1) * each]
    done = work(mine if len(mine) else matrices[:1])[: len(mine)]
    share = torch.zeros(each, *matrices.shape[1:], dtype=done.dtype, device=matrices.device)
    share[: len(done)] = done
    results = share.new_empty(world.size * each, *matrices.shape[1:])
    dist.all_gather(list(results.chunk(world.size)), share)
    return results[:N]


def gathered_out(work: Callable[[Tensor], Tensor], shards: Tensor, rows: int, world: World) -> Tensor:
    """The same where each rank has some rows of every matrix, as FSDP cuts them: (N, own rows, columns) of N matrices with
    `rows` in all. Each rank is sent all rows of its share of matrices and sends back what `work` made of them: every
    number travels twice, and no rank ever holds all matrices."""
    N, own, columns = shards.shape
    each, most = -(-N // world.size), -(-rows // world.size)
    out = shards.new_zeros(world.size * each, most, columns)
    out[:N, :own] = shards
    got = torch.empty_like(out)
    dist.all_to_all_single(got, out)  # (from rank, matrix, rows)
    full = got.view(world.size, each, most, columns).transpose(0, 1).reshape(each, world.size * most, columns)
    done = work(full[:, :rows])
    back = done.new_zeros(each, world.size * most, columns)
    back[:, :rows] = done
    back = back.view(each, world.size, most, columns).transpose(0, 1).contiguous()
    result = torch.empty_like(back)
    dist.all_to_all_single(result, back)
    return result.view(world.size * each, most, columns)[:N, :own]
