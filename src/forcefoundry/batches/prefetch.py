"""Batches made beside the training step: the next ones are packed in threads while this one is worked on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice

import torch

from forcefoundry.batches.batch import Batch, Packer
from forcefoundry.pairs.contract import Ints

Receive = Callable[[], Batch]


@contextmanager
def prefetched(packer: Packer, batches: Iterable[Ints], workers: int = 0) -> Iterator[Iterator[Batch]]:
    """The packed batches in their order, for use in a `with` statement; leaving it ends the threads.

    Any number of workers gives the same batches. An error comes where its batch is due.

    Args:
        packer: makes the batches, and knows their device.
        batches: the structures of each batch, as a sampler gives them.
        workers: threads that pack, one batch more than there are threads ahead at most; 0 packs when a batch is due.
            Compiled code does most of the work and leaves the interpreter to the training step meanwhile.
    """
    if workers < 0:
        raise ValueError(f"hardware.workers is {workers}, expected 0 or more.")
    if workers == 0:
        yield map(packer.pack, batches)
        return
    send = _to_cuda(packer) if packer.device.type == "cuda" else _plainly(packer)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="batches")
    try:
        yield _in_turn(pool, send, batches, ahead=workers + 1)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_turn(
    pool: ThreadPoolExecutor, send: Callable[[Ints], Receive], batches: Iterable[Ints], ahead: int
) -> Iterator[Batch]:
    coming = _submitted(pool, send, iter(batches))
    under_way = deque(islice(coming, ahead))
    while under_way:
        receive = under_way.popleft().result()
        under_way.extend(islice(coming, 1))
        yield receive()


def _submitted(
    pool: ThreadPoolExecutor, send: Callable[[Ints], Receive], batches: Iterator[Ints]
) -> Iterator[Future[Receive]]:
    """The batches as they are sent for; an error of who names them is the last, and comes when its batch is due."""
    while True:
        try:
            one = next(batches)
        except StopIteration:
            return
        except Exception as error:
            failed: Future[Receive] = Future()
            failed.set_exception(error)
            yield failed
            return
        yield pool.submit(send, one)


def _plainly(packer: Packer) -> Callable[[Ints], Receive]:
    def send(structures: Ints) -> Receive:
        batch = packer.pack(structures)
        return lambda: batch

    return send


def _to_cuda(packer: Packer) -> Callable[[Ints], Receive]:
    """Send batches from pinned memory in a stream of their own, beside what the device computes."""
    device = packer.device
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(structures: Ints) -> Receive:
        packed = packer.pack_on_cpu(structures)
        with torch.cuda.stream(stream):
            batch = {name: values.pin_memory().to(device, non_blocking=True) for name, values in packed.items()}
            arrived = stream.record_event()

        def receive() -> Batch:
            current = torch.cuda.current_stream(device)
            current.wait_event(arrived)
            for values in batch.values():
                # Their memory is the other stream's: it may not be given away while this one still reads it.
                values.record_stream(current)
            return batch

        return receive

    return send
