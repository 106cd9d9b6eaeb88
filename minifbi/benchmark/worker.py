"""One contender in its own process: ``python -m minifbi.benchmark.worker SPEC``.

SPEC is a JSON object that names the contender and its case; commands come as JSON
lines on standard input, answers go to standard output, one line each:

``{"do": "gradients"}``
    Run one FBI step at the given parameters; answer with the loss and write the
    gradients to the .npz file that the command names.
``{"do": "run", "step": "fbi", "count": 5}``
    Run five steps; answer with milliseconds each, and the peak memory so far.
``{"do": "peak"}``
    Answer with the matrix product's GFLOP/s.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Steps = dict[str, Callable[[], Any]]


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, in 2^20 bytes."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(size / 2**20 if sys.platform == "darwin" else size / 2**10)


def load_case(path: str) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Parameters, images and labels, the same for all contenders."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return arrays, arrays.pop("images"), arrays.pop("labels")


def our_steps(spec: dict[str, Any]) -> tuple[Steps, Callable[[], tuple[float, dict[str, Any]]]]:
    """The steps as minifbi runs them."""
    from minifbi.autograd import Tensor, no_grad
    from minifbi.backends import get_backend, set_threads
    from minifbi.fusion import fuse
    from minifbi.models import build_model
    from minifbi.optim import Adam
    from minifbi.training import three_step

    if spec["threads"]:
        set_threads(spec["threads"])
    state, images, labels = load_case(spec["case"])
    x: Any = images
    backend = get_backend(spec["backend"])
    if backend.asynchronous:  # as in training, and as the peers have them: there already
        labels = backend.asarray(labels)
        x = Tensor(backend.images(images, images.dtype), backend=backend)
    model = build_model(
        spec["model"], input_shape=x.shape[1:], backend=spec["backend"], **spec["options"]
    )
    model.load_state_dict(state)
    model = fuse(model)
    weight = spec["fbi_weight"]

    def inference() -> Any:
        with no_grad():
            return model(x).data

    def training(active: bool) -> Callable[[], float]:
        optimizer = Adam(model.parameters(), lr=1e-3)

        def step() -> float:
            losses = three_step(model, x, labels, weight=weight, active=active)
            optimizer.step()
            return losses.loss.item()

        return step

    def gradients() -> tuple[float, dict[str, Any]]:
        losses = three_step(model, x, labels, weight=weight)
        found = {n: p.backend.to_numpy(p.grad) for n, p in model.parameters().items()}
        return losses.loss.item(), found

    steps = {"inference": inference, "conventional": training(False), "fbi": training(True)}
    return steps, gradients


def torch_steps(spec: dict[str, Any]) -> tuple[Steps, Callable[[], tuple[float, dict[str, Any]]]]:
    """The steps as PyTorch runs them."""
    import torch

    from minifbi.benchmark import torch_peer

    if spec["threads"]:
        torch.set_num_threads(spec["threads"])
    state, x, labels = load_case(spec["case"])
    device = spec.get("device", "cpu")
    if device == "cuda":
        # float32 all through, as here: cuDNN's default would round the factors to 10 bits (TF32)
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    parameters = torch_peer.make_parameters(state, device)
    compiled, form, weight = spec["who"] == "torch-compile", spec["form"], spec["fbi_weight"]

    def gradients() -> tuple[float, dict[str, Any]]:
        copies = torch_peer.make_parameters(state, device)
        objective = torch_peer.fbi_objective
        if compiled:  # what is timed is what is checked
            objective = torch.compile(objective)
        images, targets = torch.from_numpy(x).to(device), torch.from_numpy(labels).to(device)
        loss = objective(copies, images, targets, weight, form)
        loss.backward()
        found = {n: p.grad.cpu().numpy() for n, p in copies.items() if p.grad is not None}
        return loss.item(), found

    return torch_peer.make_steps(parameters, x, labels, weight, compiled, form), gradients


def _device(
    spec: dict[str, Any],
) -> tuple[Callable[[], None], Callable[[], float], Callable[[], float]]:
    """How to wait for the device, its peak memory in MiB, and its matrix product's GFLOP/s."""
    from minifbi.benchmark.arithmetic import matrix_product_peak

    if spec["who"] == "minifbi":
        from minifbi.backends import get_backend

        backend = get_backend(spec["backend"])
        if not backend.asynchronous:
            return backend.synchronize, peak_memory_mb, matrix_product_peak
        pool = backend.xp.get_default_memory_pool()  # never gives back: its size is the peak
        return (
            backend.synchronize,
            lambda: pool.total_bytes() / 2**20,
            lambda: matrix_product_peak(backend=backend),
        )
    if spec.get("device") == "cuda":
        import torch

        return (
            torch.cuda.synchronize,
            lambda: torch.cuda.max_memory_reserved() / 2**20,
            matrix_product_peak,
        )
    return (lambda: None), peak_memory_mb, matrix_product_peak


def main() -> int:
    """Answer commands until standard input ends."""
    answer = sys.stdout
    sys.stdout = sys.stderr  # what libraries print must not end up among the answers
    spec = json.loads(sys.argv[1])
    steps, gradients = (our_steps if spec["who"] == "minifbi" else torch_steps)(spec)
    wait, memory, peak = _device(spec)
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "run":
            times = []
            for _ in range(command["count"]):
                wait()
                begin = time.perf_counter()
                steps[command["step"]]()
                wait()  # until the device has done it; nothing to wait for on a CPU
                times.append(1e3 * (time.perf_counter() - begin))
            result: Any = {"ms": times, "peak_memory_mb": memory()}
        elif command["do"] == "gradients":
            loss, arrays = gradients()
            np.savez(command["file"], **arrays)
            result = {"loss": loss}
        else:
            result = {"gflops": peak()}
        print(json.dumps(result), file=answer, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
