"""A GPU that is not there: arithmetic of the CPU, on tensors that say that they are on `cuda:0`.

Inside of `pretended_gpu` torch claims to have a GPU, so that settings, config and library choose it
as they do for a user. What CUDA refuses is refused:

- an operator that mixes its tensors with such of the CPU, but for CPU tensors without dimensions,
  copies, and indices;
- numpy's view of its tensors.

And what makes the host wait until the GPU has done all that was queued is counted, with the line
of the library that did it: a number that is read (`item`, `tolist`, `nonzero`, a mask as an index,
`cpu()`), and a copy to the GPU from memory that is not page-locked. Only a GPU shows speed, races
between streams, and what its own kernels compute.

The wrappers look like meta tensors to torch's C++, whose autograd then needs no CUDA.
"""

from __future__ import annotations

import contextlib
import linecache
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Self

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

import saetrack

LIBRARY = str(Path(saetrack.__file__).parent)
GPU, CPU, META = torch.device("cuda:0"), torch.device("cpu"), torch.device("meta")
aten: Any = torch.ops.aten

COPIES = {aten.copy_.default, aten._to_copy.default}
INDEXING = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}
# Their results' sizes, or their checks, are numbers that the host waits for.
READING = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.bincount.default,
    aten.equal.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.unique_consecutive.default,
    aten.repeat_interleave.Tensor,
}
FROM_NUMBERS = {torch.tensor, torch.as_tensor, Tensor.new_tensor}


class MixedDevicesError(RuntimeError):
    """What CUDA would refuse."""


@dataclass
class PretendedGpu:
    """What happened on the pretended GPU.

    Attributes:
        reads: how often the host waited for a number, by line of the library.
        uploads: how often it waited until a copy to the GPU was done, by line of the library.
    """

    reads: Counter[str] = field(default_factory=Counter)
    uploads: Counter[str] = field(default_factory=Counter)

    @property
    def waits(self) -> Counter[str]:
        """Both."""
        return self.reads + self.uploads


class OnGpu(Tensor):
    """A CPU tensor that says that it is on a GPU."""

    gpu: ClassVar[PretendedGpu]
    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl
    device = GPU
    is_cuda, is_meta, is_cpu = True, False, False

    @staticmethod
    def __new__(cls, inner: Tensor) -> Self:
        strided = inner.layout == torch.strided
        laid_out: dict[str, Any] = {"layout": inner.layout}
        if strided:
            laid_out |= {"strides": inner.stride(), "storage_offset": inner.storage_offset()}
        made: Self = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), dtype=inner.dtype, device=META, requires_grad=False, **laid_out
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return _operate(func, args, kwargs or {})

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"OnGpu({self.inner!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied: Any = OnGpu(self.inner.detach().clone()).requires_grad_(self.requires_grad)
        copied._is_param = getattr(self, "_is_param", False)  # what makes it a Parameter
        memo[id(self)] = copied
        return copied

    def tolist(self) -> Any:
        _count(self.gpu.reads)
        return self.inner.tolist()

    def numpy(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy

    def get_device(self) -> int:
        return 0


@contextlib.contextmanager
def pretended_gpu() -> Iterator[PretendedGpu]:
    """A machine with a GPU, for this thread and those to which it hands the GPU's tensors."""
    gpu = PretendedGpu()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OnGpu, "gpu", gpu, raising=False)
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        patch.setattr(torch.cuda, "synchronize", lambda *_: None)
        patch.setattr(torch.cuda, "set_device", lambda _: None)
        patch.setattr(torch.cuda, "device_of", lambda _: contextlib.nullcontext())
        patch.setattr(torch.cuda, "Event", _Event)
        with on_this_thread():
            yield gpu


@contextlib.contextmanager
def on_this_thread() -> Iterator[None]:
    """The GPU of `pretended_gpu`, for one more thread."""
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _Operators(), _Calls():
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)


def unwrapped(value: Any) -> Any:
    """The tensors in a nest of arguments as a kernel of the GPU gets them.

    Raises:
        MixedDevicesError: one of them is not on the GPU.
    """
    if isinstance(value, list | tuple):
        return type(value)(unwrapped(one) for one in value)
    if isinstance(value, Tensor) and not isinstance(value, OnGpu):
        raise MixedDevicesError(f"a kernel gets a CPU tensor {tuple(value.shape)}")
    return value.inner if isinstance(value, OnGpu) else value


def started(kernel: Callable[..., Any], *args: Any, **options: Any) -> None:
    """Run one of the GPU's own kernels, which no operator shows, in an interpreter of it."""
    inner = unwrapped(args)
    with no_dispatch(), torch._C.DisableTorchFunction():
        kernel(*inner, **options)


class _Event:
    """Of a stream whose work is done as soon as it is queued."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self._at_s = 0.0

    def record(self, *_: Any) -> None:
        self._at_s = time.perf_counter()

    def synchronize(self) -> None:
        _count(OnGpu.gpu.reads)

    def query(self) -> bool:
        return True

    def elapsed_time(self, other: _Event) -> float:
        return 1e3 * (other._at_s - self._at_s)


class _Calls(TorchFunctionMode):
    """Sees calls from Python, where a device is still the one that was asked for."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        args, kwargs = list(args), dict(kwargs or {})
        if func is Tensor.cuda:
            func, args = Tensor.to, [args[0], GPU]
        there = [*filter(_is_gpu, args), *filter(_is_gpu, kwargs.values())]
        if func is Tensor.new_tensor and isinstance(args[0], OnGpu):
            there, func, args = [GPU], torch.tensor, args[1:]
        if there and func in FROM_NUMBERS:
            return func(*args, **{**kwargs, "device": CPU}).to(META)
        if not there and kwargs.get("device") in (META, "meta"):
            with _Operators.real_meta():
                return func(*args, **kwargs)
        args = [META if _is_gpu(one) else one for one in args]
        kwargs = {name: META if _is_gpu(one) else one for name, one in kwargs.items()}
        return func(*args, **kwargs)


def _is_gpu(value: Any) -> bool:
    if isinstance(value, torch.device):
        return value.type == "cuda"
    return isinstance(value, str) and value.partition(":")[0] == "cuda"


class _Operators(TorchDispatchMode):
    """Sees the operators, among them those that make tensors from none."""

    n_real_meta = 0

    @classmethod
    @contextlib.contextmanager
    def real_meta(cls) -> Iterator[None]:
        """Whoever asks for meta tensors gets them."""
        cls.n_real_meta += 1
        try:
            yield
        finally:
            cls.n_real_meta -= 1

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return _operate(func, args, kwargs or {})


def _operate(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operator on the CPU, and wrap what a GPU would keep."""
    flat, spec = tree_flatten((args, kwargs))
    tensors = [one for one in flat if isinstance(one, Tensor)]
    there = [one for one in tensors if isinstance(one, OnGpu)]
    here = [one for one in tensors if not isinstance(one, OnGpu)]
    if not there and (_Operators.n_real_meta or any(one.is_meta for one in here)):
        return func(*args, **kwargs)
    device = kwargs.get("device")
    goes_there = bool(there) if device is None else torch.device(device).type == "meta"
    if there and here:
        _require_one_device(func, args, here)
    if there or goes_there:
        _count_waits(func, args, kwargs, goes_there=goes_there)
    inner_args, inner_kwargs = tree_unflatten(
        [one.inner if isinstance(one, OnGpu) else one for one in flat], spec
    )
    if device is not None:
        inner_kwargs["device"] = CPU
    inner_kwargs.pop("pin_memory", None)
    if func is aten._to_copy.default and bool(there) != goes_there:
        inner_kwargs.pop("non_blocking", None)
    out = func(*inner_args, **inner_kwargs)
    if func is aten.copy_.default:
        return args[0]
    if torch.Tag.inplace_view in func.tags:
        with no_dispatch():  # the wrapper gets the same new shape
            func(*args, **kwargs)
        return args[0]
    known = {id(one.inner): one for one in there}

    def wrap(one: Any) -> Any:
        if not isinstance(one, Tensor) or not goes_there:
            return one
        before = known.get(id(one))  # of an operator that changes or passes on what it got
        same = before is not None and (before.shape, before.stride()) == (one.shape, one.stride())
        return before if same else OnGpu(one)

    return tree_map(wrap, out)


def _require_one_device(func: Any, args: tuple[Any, ...], here: list[Tensor]) -> None:
    if func in COPIES:
        return
    wrong = [one for one in here if one.dim()]
    if func in INDEXING and isinstance(args[0], OnGpu):
        values = args[2:3]
        wrong = [one for one in values if not isinstance(one, OnGpu) and one.dim()]
    if wrong or (func in INDEXING and not isinstance(args[0], OnGpu)):
        shapes = ", ".join(str(tuple(one.shape)) for one in here)
        raise MixedDevicesError(f"{func} mixes cuda:0 with tensors of the CPU: {shapes}; {_line()}")


def _count_waits(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, goes_there: bool
) -> None:
    gpu = OnGpu.gpu
    if func in COPIES:
        from_there = isinstance(args[1 if func is aten.copy_.default else 0], OnGpu)
        to_there = isinstance(args[0], OnGpu) if func is aten.copy_.default else goes_there
        if to_there != from_there and not kwargs.get("non_blocking"):
            _count(gpu.uploads if to_there else gpu.reads)
    elif func in INDEXING:
        indices = [one for one in args[1] if one is not None]
        sets_one_value = func is not aten.index.Tensor and args[2].numel() == 1
        if any(not isinstance(one, OnGpu) for one in indices):
            _count(gpu.uploads)
        elif any(one.dtype == torch.bool for one in indices) and not sets_one_value:
            _count(gpu.reads)
    elif func in READING:
        _count(gpu.reads)


def _count(counter: Counter[str]) -> None:
    counter[_line()] += 1


def _line() -> str:
    """The innermost line of the library that is being run."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(LIBRARY):
            name = file.removeprefix(LIBRARY).lstrip("/")
            code = linecache.getline(file, frame.f_lineno).strip()
            return f"{name}:{frame.f_lineno} {frame.f_code.co_name}: {code}"
        frame = frame.f_back  # type: ignore[assignment]
    return "outside of the library"
