"""Executors beyond this machine: Slurm jobs through submitit, tasks of a Ray cluster.

Both need a run's folder that every node sees. Neither trusts what it hears from afar more than the files: a job that is
killed leaves what it had finished, and the next run of the same command goes on from there.
"""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from dsm.config.executor import RayExecutorConfig, SlurmExecutorConfig
from dsm.corpus.executors import Failure, Failures, LocalExecutor, _attempt
from dsm.errors import UserError
from dsm.files import atomic_write_text

log = logging.getLogger("dsm")

T = TypeVar("T")
R = TypeVar("R")

_JOBS, _TURN = "jobs.json", "turn"
_CANCEL_SECONDS = 60.0


class SlurmExecutor:
    """Jobs of one array, each with a share of the items and processes of its own."""

    def __init__(self, config: SlurmExecutorConfig, folder: Path) -> None:
        """`folder`: where submitit keeps its files, seen by all nodes.

        Raises:
            UserError: submitit is not installed, or there is no Slurm here.
        """
        try:
            import submitit
        except ImportError:
            raise UserError("executor=slurm: submitit is not installed; pip install 'dsm[slurm]'") from None
        self.config, self.folder = config, folder
        common = {"name": "dsm-mine", "cpus_per_task": config.workers, "timeout_min": config.timeout_min}
        try:
            self._submitit = submitit.AutoExecutor(folder, cluster=config.cluster)
        except RuntimeError as error:
            raise UserError(f"executor=slurm: {error}; allowed here are executor=local and executor=ray") from None
        if config.cluster == "slurm":
            slurm = {name: value for name in ("partition", "account") if (value := getattr(config, name)) is not None}
            common |= {f"slurm_{name}": value for name, value in slurm.items()} | {
                "mem_gb": config.mem_gb,
                "slurm_array_parallelism": config.array_parallelism,
                "slurm_setup": config.setup,
                "slurm_additional_parameters": config.additional_parameters,
            }
        self._submitit.update_parameters(**common)

    def map(self, function: Callable[[T], R], items: Sequence[T], on_done: Callable[[T, R], None]) -> None:
        """See `Executor.map`; results come job by job."""
        if not items:
            return
        self._cancel_earlier()
        shares = [share for start in range(self.config.jobs) if (share := list(items[start :: self.config.jobs]))]
        turn = uuid.uuid4().hex
        atomic_write_text(self.folder / _TURN, turn)
        taking_turns = _InTurn(function, self.folder / _TURN, turn)
        jobs = self._submitit.map_array(_job, [(taking_turns, share, self.config.workers) for share in shares])
        atomic_write_text(self.folder / _JOBS, json.dumps([job.job_id for job in jobs]))
        log.info("%d jobs, the first is %s; their output is in %s", len(jobs), jobs[0].job_id, self.folder)
        failures = Failures()
        waiting = dict(zip(jobs, shares, strict=True))
        try:
            while waiting:
                for job in [job for job in waiting if job.done()]:
                    self._take(job, waiting.pop(job), on_done, failures)
                if waiting:
                    time.sleep(0.2 if self.config.cluster == "local" else 5.0)
        finally:
            for job in waiting:
                job.cancel()
        (self.folder / _JOBS).unlink()
        failures.raise_first()

    def _take(self, job: Any, share: Sequence[T], on_done: Callable[[T, R], None], failures: Failures) -> None:
        try:
            results, failed = job.result()
        except Exception as error:  # submitit's, of a dozen kinds: time limit, memory, node failure
            lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            cause = next(
                (line for line in reversed(lines) if re.match(r"[\w.]+(Error|Exception|Interrupt)\b", line)), lines[0]
            )
            failures.add(share[0], "died", f"job {job.job_id} did not end well ({cause}; {job.paths.stderr})")
            return
        for number, result in results:
            on_done(share[number], result)
        failures.found += failed

    def _cancel_earlier(self) -> None:
        """Jobs of a run that was killed must not write into this one: they are cancelled, and waited for."""
        if self.config.cluster == "local":
            return  # they see that it is not their turn any more
        import submitit

        with suppress(OSError, ValueError):
            earlier = [submitit.SlurmJob(self.folder, name) for name in json.loads((self.folder / _JOBS).read_text())]
            for job in earlier:
                job.cancel()
            deadline = time.monotonic() + _CANCEL_SECONDS
            while not all(job.done(force_check=True) for job in earlier) and time.monotonic() < deadline:
                time.sleep(2.0)


@dataclass(frozen=True)
class _InTurn:
    """A function that a job of an earlier run refuses to go on with."""

    function: Callable[[Any], Any]
    file: Path
    turn: str

    def __call__(self, item: Any) -> Any:
        if self.file.read_text() != self.turn:
            raise UserError("another run of the same command has taken over")
        return self.function(item)


def _job(asked: tuple[Callable[[Any], Any], list[Any], int]) -> tuple[list[tuple[int, Any]], list[Failure]]:
    """A share of the items, within a job: results by number, failures."""
    function, share, workers = asked
    results: list[tuple[int, Any]] = []
    numbers = {id(item): number for number, item in enumerate(share)}
    executor = LocalExecutor(workers)
    failures = executor.failures_of(function, share, lambda item, result: results.append((numbers[id(item)], result)))
    executor.close()
    return results, failures.found


class RayExecutor:
    """Tasks of a Ray cluster, or of a Ray of its own on this machine."""

    def __init__(self, config: RayExecutorConfig) -> None:
        """Raises: UserError: ray is not installed."""
        try:
            import_module("ray")
        except ImportError:
            raise UserError("executor=ray: ray is not installed; pip install 'dsm[ray]'") from None
        self.config = config

    def map(self, function: Callable[[T], R], items: Sequence[T], on_done: Callable[[T, R], None]) -> None:
        """See `Executor.map`."""
        ray: Any = import_module("ray")

        own = not ray.is_initialized()
        if own:
            self._connect(ray)
        try:
            self._map(ray, function, items, on_done).raise_first()
        finally:
            if own:
                ray.shutdown()

    def _connect(self, ray: Any) -> None:
        """Join the cluster, or start one here."""
        where: dict[str, Any] = {"address": self.config.address}
        if self.config.address is None:
            where = {"address": "local", "num_cpus": self.config.workers, "include_dashboard": False}
        try:
            ray.init(**where, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
        except Exception as error:  # Ray's own start-up failure is no more than that
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            what = "Ray does not start" if self.config.address is None else "no Ray cluster answers"
            raise UserError(f"executor.address={self.config.address}: {what} ({reason})") from None

    def _map(
        self, ray: Any, function: Callable[[T], R], items: Sequence[T], on_done: Callable[[T, R], None]
    ) -> Failures:
        memory = {} if self.config.mem_gb is None else {"memory": self.config.mem_gb << 30}
        call = ray.remote(num_cpus=1, max_retries=1, **memory)(_attempt)
        shared = ray.put(function)
        at_once = self.config.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        failures = Failures()
        waiting, running = list(reversed(items)), dict[Any, T]()
        while waiting or running:
            while waiting and len(running) < at_once and not failures.too_many:
                item = waiting.pop()
                running[call.remote(shared, item)] = item
            if not running:
                break
            ready, _ = ray.wait(list(running), num_returns=1)
            for reference in ready:
                item = running.pop(reference)
                try:
                    ok, result = ray.get(reference)
                except ray.exceptions.RayError as error:
                    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                    failures.add(item, "died", f"its Ray worker died ({reason})")
                    continue
                if ok:
                    on_done(item, result)
                else:
                    failures.add(item, *result)
        return failures
