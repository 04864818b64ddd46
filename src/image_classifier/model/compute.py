"""How tensors are computed: device, number format, compiler, threads and memory, from `compute` in params.yaml."""

import ctypes
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from joblib import cpu_count  # respects the quota of a container and the affinity of this process
from torch import Tensor, nn
from torch.amp import GradScaler

from image_classifier.model.distributed import join_processes
from image_classifier.project.params import ComputeParams
from image_classifier.system.errors import UserError

Net = TypeVar("Net", bound=nn.Module)
Forward = Callable[[Tensor], Tensor]


PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Compute:
    """The settings of `compute`, with every `auto` resolved."""

    device: torch.device
    precision: torch.dtype  # one of PRECISIONS
    compile: bool
    threads: int
    rank: int  # of this process among those that train together
    num_processes: int

    def __str__(self) -> str:
        precision = next(name for name, dtype in PRECISIONS.items() if dtype is self.precision)
        processes = f"{self.num_processes} processes of " if self.num_processes > 1 else ""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        compiled = ", compiled" if self.compile else ""
        return f"{self.device.type}, {precision}, {processes}{threads}{compiled}"

    def autocast(self) -> torch.autocast:
        """A context in which convolutions and products use the chosen precision."""
        return torch.autocast(self.device.type, self.precision, enabled=self.precision is not torch.float32)

    def gradient_scaler(self) -> GradScaler:
        """Keeps small gradients above zero in float16, and finds those that overflow; idle in other formats."""
        return GradScaler(self.device.type, enabled=self.precision is torch.float16)

    def compiled(self, net: Forward) -> Forward:
        """`net`, compiled if that was chosen. If the compiler fails, one line says so, and `net` runs uncompiled.

        A UserError if it fails in one of several processes: they must run the same code. Errors of `net` itself pass.
        """
        if not self.compile:
            return net
        from torch._dynamo.exc import TorchDynamoException  # 1 s; PyTorch has no public name for the compiler's errors

        fast: Forward | None = torch.compile(net, dynamic=False)  # so a resumed training compiles the same graphs

        def forward(images: Tensor) -> Tensor:
            nonlocal fast
            if fast is None:
                return net(images)
            try:
                return fast(images)
            except TorchDynamoException as error:
                failure = f"torch.compile failed ({type(error).__name__})"
                if self.num_processes > 1:
                    raise UserError(
                        f"{failure} in one of {self.num_processes} processes: set compute.compile to off"
                    ) from None
                print(f"{failure}; continuing without it", flush=True)
                fast = None
                return net(images)

        return forward

    def place(self, net: Net) -> Net:
        """Move a network to the device, with channels-last weights, which make convolutions fastest."""
        return net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def prepare_compute(params: ComputeParams) -> Compute:
    """Resolve the settings, and set up this process for them. To be called before the first tensor is made.

    Raises:
        UserError: a GPU or a compiler was asked for and there is none.
    """
    _keep_freed_memory()
    has_cuda = torch.cuda.is_available()
    if params.device == "cuda" and not has_cuda:
        raise UserError("compute.device is cuda, but no CUDA device is usable here: set it to auto or cpu")
    rank, num_processes, device = join_processes(use_cuda=has_cuda and params.device != "cpu")
    threads = cpu_count() // num_processes or 1 if params.threads == "auto" else params.threads
    native, warnings = native_precisions(device), []
    precision = native[0] if params.precision == "auto" else params.precision
    if params.device == "auto" and torch.backends.mps.is_available():
        warnings.append("compute.device is auto: the CPU is used, since Apple's GPU (MPS) was never tried here")
    if threads > cpu_count():
        warnings.append(f"compute.threads is {threads}, and this process may use {cpu_count()} cores: slower than auto")
    if precision not in native:
        warnings.append(
            f"compute.precision is {precision}, which this {device.type} has to emulate: slow; auto would "
            f"take {native[0]}"
        )
    if rank == 0:
        for warning in warnings:
            print(f"warning: {warning}", file=sys.stderr)
    torch.set_num_threads(threads)
    # Not a guarantee on every GPU: operations without a deterministic version warn instead of failing.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_deterministic_debug_mode("warn")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a help for debugging that costs time
    compiles = _use_compiler(params.compile, device)
    if compiles:
        torch.use_deterministic_algorithms(True, warn_only=True)  # for the compiler, too; its import takes 1.1 CPU s
    return Compute(device, PRECISIONS[precision], compiles, threads, rank, num_processes)


def native_precisions(device: torch.device) -> list[str]:
    """The number formats that this hardware multiplies natively, the best for training first."""
    if device.type == "cuda":  # bfloat16 is emulated below compute capability 8.0, as on a T4
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return ["bf16", "fp16", "fp32"] if has_bf16 else ["fp16", "fp32"]
    has = {name for name, value in torch.cpu.get_capabilities().items() if value}
    formats = ["bf16"] if has & {"avx512_bf16", "amx_bf16"} else []
    return [*formats, "fp32", *(["fp16"] if has & {"avx512_fp16", "amx_fp16"} else [])]


def _use_compiler(choice: str, device: torch.device) -> bool:
    has_compiler = any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++", "cl"))
    if choice == "on" and not has_compiler:
        raise UserError("compute.compile is on, but there is no C++ compiler here: install g++, or set it to auto")
    # On a CPU the convolutions take most of a step and the compiler leaves them as they are. CPU seconds a step of 512
    # images, compiled and not, after half a minute of compiling: 3.35 and 3.32 (bf16), 5.7 and 5.6 (fp32) on an AMD
    # Zen 5; 1.77 and 1.72 (bf16) on an Intel Xeon with AMX.
    return choice == "on" or (choice == "auto" and device.type == "cuda" and has_compiler)


def _keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next step instead of handing it back to the kernel.

    A training step frees and asks again for some 2 GB; getting this memory page by page cost 40 % of the CPU time (11.4
    against 6.8 CPU seconds a step). Other C libraries and preloaded allocators manage this themselves.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no separate mapping for a large block
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: never give the top of the heap back
