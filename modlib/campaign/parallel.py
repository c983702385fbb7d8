"""Units of work on several processes or machines, by joblib's backends; a lost worker costs one unit."""

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from uuid import uuid4

from joblib import Parallel, delayed, parallel_config

from modlib.data import write_atomically

BACKENDS = ("loky", "multiprocessing", "threading", "dask")  # of joblib's
LOSSES = 2  # workers that a unit may take with it before it is given up


def spread(
    task: Callable, lost: Callable, units: Sequence, jobs: int, backend: str | None, scheduler: str | None, notes: Path
) -> Iterator:
    """task(unit) of each unit, in the order in which they finish; lost(unit) where its worker dies again and again.

    joblib's own processes: when one dies, the units that were being measured are measured again, each by itself; one
    that takes its process with it a second time is lost. Dask: the scheduler gives the unit of a dead worker to another one,
    and a note beside the records counts how often, since joblib would wait for ever for one that Dask gives up.

    Args:
        task: picklable; returns something that has the ``unit``.
        jobs: processes, for a backend that runs on this machine.
        notes: a folder that all workers see, for the notes.

    Raises:
        ValueError: for Dask without the address of its scheduler, or where it is not installed.
    """
    connect = nullcontext
    if backend == "dask":
        connect, task = _client(scheduler), partial(_counted, task, lost, notes, uuid4().hex)
    return _spread(task, lost, units, jobs, backend, connect)


def _spread(task: Callable, lost: Callable, units: Sequence, jobs: int, backend: str | None, connect: Callable) -> Iterator:
    with connect() as client:
        here, on_dask = {"backend": backend or "loky", "n_jobs": jobs}, {"backend": "dask", "client": client, "n_jobs": -1}
        call = delayed(partial(_call, task, list(sys.argv)))

        def run(some: Sequence) -> Iterator:
            with parallel_config(**(here if client is None else on_dask)):  # read when Parallel is made; not left on after it
                parallel = Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="all")
            return parallel([call(unit) for unit in some])

        left = list(units)
        while left:
            try:
                for done in run(left):
                    left.remove(done.unit)
                    yield done
            except BrokenExecutor:
                for unit in left[:jobs]:  # they were started in this order
                    try:
                        (done,) = run([unit])
                    except BrokenExecutor:
                        done = lost(unit)
                    left.remove(unit)
                    yield done


def _client(scheduler: str | None) -> Callable:
    try:
        from distributed import Client
    except ImportError:
        raise ValueError('backend="dask" needs that package: pip install "graph-modularity[cluster]"') from None
    if scheduler is None:
        raise ValueError('backend="dask" needs scheduler=ADDRESS, such as "tcp://10.0.0.1:8786" (from: dask scheduler)')
    return partial(Client, scheduler, set_as_default=False)


def _call(task: Callable, arguments: list[str], unit):
    sys.argv[:] = arguments  # a record names the command that asked for it
    return task(unit)


def _counted(task: Callable, lost: Callable, notes: Path, campaign: str, unit):
    """The task, unless it has taken too many workers of this campaign with it. (The user may kill one and start another.)"""
    note = notes / f".{'-'.join(map(str, vars(unit).values()))}.started"
    starts = 0
    with suppress(OSError, ValueError):  # no note, or none of ours
        whose, count = note.read_text().split()
        starts = int(count) if whose == campaign else 0
    try:
        if starts >= LOSSES:
            return lost(unit)
        with suppress(OSError):  # where no note can be written, the unit will say so of its record
            notes.mkdir(parents=True, exist_ok=True)
            write_atomically(note, f"{campaign} {starts + 1}".encode())
        return task(unit)
    finally:  # a worker that dies does not come here
        with suppress(OSError):  # which would hide what the task raised
            note.unlink(missing_ok=True)
