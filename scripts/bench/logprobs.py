"""Time, peak memory and error of `linear_logprobs` beside full logits as a user would write them.

    python scripts/bench/logprobs.py        # 102,400 words, 2,048 tokens of 512 features, fp32, one thread
    python scripts/bench/logprobs.py --hidden 2048 --tokens 1024 --dtype bfloat16

Times are those of forward and backward, the least of a few interleaved repeats. CPU seconds are the ones to compare on
a machine that others use too. Peak memory is measured in a fresh process a method, above the inputs and the gradients.
Errors are against float64 from the same inputs. The ratios are to the first line.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from dsm.ops.logprobs import linear_logprobs

Outputs = tuple[Tensor, Tensor | None]
GOAL_TIME, GOAL_MEMORY = 1.1, 0.15


def full_logprobs(hidden: Tensor, weight: Tensor, targets: Tensor) -> Outputs:
    logp = torch.log_softmax((hidden @ weight.T).float(), dim=-1)
    return logp.gather(1, targets[:, None]).squeeze(1), None


def full_with_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Outputs:
    logp = torch.log_softmax((hidden @ weight.T).float(), dim=-1)
    with torch.no_grad():
        entropy = -(logp.exp() * logp).sum(dim=-1)
    return logp.gather(1, targets[:, None]).squeeze(1), entropy


METHODS: dict[str, Callable[[Tensor, Tensor, Tensor], Outputs]] = {
    "full logits": full_logprobs,
    "full logits and entropy": full_with_entropy,
    "linear_logprobs (has entropy)": linear_logprobs,
}


def make_inputs(args: argparse.Namespace) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states and weights that give logits of a trained model's spread (about 3), targets, and coefficients."""
    generator = torch.Generator().manual_seed(0)
    dtype = getattr(torch, args.dtype)
    hidden = torch.randn(args.tokens, args.hidden, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(args.vocab, args.hidden, generator=generator).mul_(3 * args.hidden**-0.5).to(dtype)
    targets = torch.randint(args.vocab, (args.tokens,), generator=generator)
    coefficients = torch.randn(args.tokens, generator=generator) / args.tokens
    return hidden, weight.requires_grad_(), targets, coefficients


def status_bytes(field: str) -> int:
    """A memory figure of this process (VmRSS: now, VmHWM: the peak), in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def peak_above_inputs(args: argparse.Namespace) -> int:
    hidden, weight, targets, coefficients = make_inputs(args)
    METHODS[args.memory_of](hidden[:8], weight[:64], targets[:8] % 64)[0].sum().backward()  # loads the libraries
    hidden.grad = weight.grad = None
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = status_bytes("VmRSS")
    logprobs, _ = METHODS[args.memory_of](hidden, weight, targets)
    gradients = torch.autograd.grad(logprobs, (hidden, weight), coefficients)
    return status_bytes("VmHWM") - before - sum(g.nbytes for g in gradients)


def reference(hidden: Tensor, weight: Tensor, targets: Tensor, coefficients: Tensor) -> list[Tensor]:
    """Log-probabilities, entropy and both gradients in float64, a few tokens at a time."""
    w = weight.detach().double()
    logprobs, entropy, grad_hidden, grad_weight = [], [], [], torch.zeros_like(w)
    for x, t, c in zip(hidden.detach().split(128), targets.split(128), coefficients.split(128), strict=True):
        logp = torch.log_softmax(x.double() @ w.T, dim=-1)
        p = logp.exp()
        logprobs.append(logp.gather(1, t[:, None]).squeeze(1))
        entropy.append(-(p * logp).sum(dim=-1))
        grad = torch.zeros_like(p).scatter_(1, t[:, None], 1.0).sub_(p).mul_(c.double()[:, None])
        grad_hidden.append(grad @ w)
        grad_weight += grad.T @ x.double()
    return [torch.cat(logprobs), torch.cat(entropy), torch.cat(grad_hidden), grad_weight]


def error(value: Tensor | None, exact: Tensor, *, relative: bool) -> float:
    """The largest absolute error of a value, or the relative error (in norm) of a gradient; nan where there is none."""
    if value is None:
        return float("nan")
    difference = value.detach().double() - exact
    return float(difference.norm() / exact.norm() if relative else difference.abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--vocab", type=int, default=102_400)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory-of", choices=list(METHODS), help=argparse.SUPPRESS)  # the fresh process of one method
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory_of:
        print(json.dumps(peak_above_inputs(args)))
        return

    peaks = {}
    for name in METHODS:
        command = [sys.executable, __file__, *sys.argv[1:], "--memory-of", name]
        peaks[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    hidden, weight, targets, coefficients = make_inputs(args)
    exact = reference(hidden, weight, targets, coefficients)
    cpu: dict[str, list[float]] = {name: [] for name in METHODS}
    wall: dict[str, list[float]] = {name: [] for name in METHODS}
    errors = {}
    for _ in range(args.repeats):
        for name, method in METHODS.items():
            cpu_start, wall_start = time.process_time(), time.perf_counter()
            logprobs, entropy = method(hidden, weight, targets)
            gradients = torch.autograd.grad(logprobs, (hidden, weight), coefficients)
            cpu[name].append(time.process_time() - cpu_start)
            wall[name].append(time.perf_counter() - wall_start)
            results = (logprobs, entropy, *gradients)
            errors[name] = [error(r, e, relative=i > 1) for i, (r, e) in enumerate(zip(results, exact, strict=True))]
            del logprobs, entropy, gradients, results

    print(f"{args.vocab} words, {args.tokens} tokens x {args.hidden}, {args.dtype}, {args.threads} thread(s)")
    print(f"{'':30}  cpu s ratio   wall s ratio  peak MiB ratio   error: logp  entropy  d hidden  d weight")
    base = next(iter(METHODS))
    for name in METHODS:
        c, w, m = min(cpu[name]), min(wall[name]), peaks[name]
        ratios = c / min(cpu[base]), w / min(wall[base]), m / peaks[base]
        figures = f"{c:7.2f} {ratios[0]:5.2f}  {w:7.2f} {ratios[1]:5.2f}  {m / 2**20:8.0f} {ratios[2]:5.3f}"
        print(f"{name:30}{figures}      " + "  ".join(f"{e:8.1e}" for e in errors[name]))
    met = "met" if ratios[0] <= GOAL_TIME and ratios[2] <= GOAL_MEMORY else "MISSED"
    print(f"goal for the last line: time <= {GOAL_TIME}x and peak <= {GOAL_MEMORY}x of the first: {met}")


if __name__ == "__main__":
    main()
