"""Data-parallel training: several processes, each with its share of every batch, learn the same weights.

Processes are started by torchrun, which tells each its place through RANK, LOCAL_RANK and WORLD_SIZE.
"""

import os
import subprocess
import sys

import torch
import torch.distributed as dist
from joblib import cpu_count  # respects the quota of a container and the affinity of this process
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.parallel import DistributedDataParallel

from image_classifier.model.network import convert_batch_norms
from image_classifier.system.errors import UserError


def is_worker() -> bool:
    """Whether torchrun started this process. RANK and WORLD_SIZE do not tell: clusters set them for any process."""
    return dist.is_torchelastic_launched()


def run_in_processes(module: str, num_processes: int) -> None:
    """Run `python -m module` in several processes on this machine, and wait; a UserError if one fails."""
    if num_processes > (most := 2 * cpu_count()):
        raise UserError(f"compute.processes is {num_processes}; allowed here: 1 to {most}, two for each CPU core")
    # Without --local-addr, torchrun looks up this machine's name in the network, which may not know it.
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nnodes",
        "1",
        "--local-addr",
        "127.0.0.1",
        "--nproc-per-node",
        str(num_processes),
    ]
    environment = {"OMP_NUM_THREADS": "1", **os.environ}  # until compute.threads is set; torchrun warns without it
    process = subprocess.Popen([*torchrun, "-m", module], env=environment)
    try:
        status = process.wait()
    except BaseException:  # such as a signal; torchrun ends its processes when terminated, not when killed
        process.terminate()
        process.wait()
        raise
    if status:
        raise UserError(
            f"one of the {num_processes} training processes failed (torchrun ended with {status}): fix the reason "
            "above, if there is one, then run `dvc repro` again: it continues from the last checkpoint"
        )


def join_processes(use_cuda: bool) -> tuple[int, int, torch.device]:
    """Join the processes of torchrun, if it started this one; returns rank, number of processes and device.

    A UserError if there is no GPU for this process.
    """
    if not is_worker():
        return 0, 1, torch.device("cuda" if use_cuda else "cpu")
    local_rank = int(os.environ["LOCAL_RANK"])
    if use_cuda and local_rank >= (num_gpus := torch.cuda.device_count()):
        raise UserError(
            f"compute.processes: one per GPU, and this machine has {num_gpus}; or set compute.device to cpu"
        )
    if not dist.is_initialized():
        dist.init_process_group("nccl" if use_cuda else "gloo")
    device = torch.device("cuda", local_rank) if use_cuda else torch.device("cpu")
    return dist.get_rank(), dist.get_world_size(), device


def share_gradients(net: nn.Module, device: torch.device) -> nn.Module:
    """`net`, its gradients averaged over the processes and its BatchNorm over the whole batch."""
    if device.type == "cuda":
        net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
        return DistributedDataParallel(net, device_ids=[device.index])
    convert_batch_norms(net, SyncBatchNormCPU)
    return DistributedDataParallel(net)


def sum_over_processes(values: Tensor) -> Tensor:
    """Add up `values`, in place, over all processes."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def wait_for_others() -> None:
    """Wait until every process has called this."""
    if dist.is_initialized():
        dist.barrier()


class SyncBatchNormCPU(nn.BatchNorm2d):
    """BatchNorm over the shares of all processes; PyTorch's SyncBatchNorm works on GPUs only."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        dtype, x = x.dtype, x.float()
        count = x.new_tensor([x.numel() // x.shape[1]])
        local = torch.cat([x.sum(dim=(0, 2, 3)), x.square().sum(dim=(0, 2, 3)), count])
        of_all = all_reduce(local) if dist.is_initialized() else local
        sums, squares, total = of_all.split([self.num_features, self.num_features, 1])
        mean = sums / total
        variance = (squares / total - mean.square()).clamp_min(0)  # rounding may make it negative
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean.detach(), self.momentum)
        self.running_var.lerp_((variance * total / (total - 1)).detach(), self.momentum)
        scale: Tensor = self.weight * torch.rsqrt(variance + self.eps)
        shift: Tensor = self.bias - mean * scale
        return (x * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)).to(dtype)
