"""Batches made beside the training step: the next ones are packed in threads while this one is worked on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain, islice

import torch

from forcefoundry.batches.batch import Packer
from forcefoundry.batches.joined import Batch
from forcefoundry.pairs.contract import Ints

Group = list[Ints]
Receive = Callable[[], Iterator[Batch]]
Send = Callable[[Group], Receive]


@contextmanager
def prefetched(packer: Packer, batches: Iterable[Ints], workers: int = 0) -> Iterator[Iterator[Batch]]:
    """The packed batches in their order, for use in a `with` statement; leaving it ends the threads.

    Small batches that follow each other are packed in groups, for what a batch costs whatever its size is more than
    what their rows do; so `batches` is asked for some ahead, workers or not. Any number of workers and any grouping
    give the same batches. An error comes where its batch is due.

    Args:
        packer: makes the batches, and knows their device.
        batches: the structures of each batch, as a sampler gives them.
        workers: threads that pack, one group more than there are threads ahead at most; 0 packs when a batch is due.
            Compiled code does most of the work and leaves the interpreter to the training step meanwhile.
    """
    if workers < 0:
        raise ValueError(f"hardware.workers is {workers}, expected 0 or more.")
    together = packer.groups(batches)
    send = _singly_after_errors(packer, _to_cuda(packer) if packer.device.type == "cuda" else _plainly(packer))
    if workers == 0:
        yield chain.from_iterable(send(group)() for group in together)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="batches")
    try:
        yield chain.from_iterable(_in_turn(pool, send, together, ahead=workers + 1))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_turn(pool: ThreadPoolExecutor, send: Send, together: Iterator[Group], ahead: int) -> Iterator[Iterator[Batch]]:
    coming = _submitted(pool, send, together)
    under_way = deque(islice(coming, ahead))
    while under_way:
        batches = under_way.popleft().result()()  # what receives them is not held: it knows their memory
        under_way.extend(islice(coming, 1))
        yield batches


def _submitted(pool: ThreadPoolExecutor, send: Send, together: Iterator[Group]) -> Iterator[Future[Receive]]:
    """The groups as they are sent for; an error of who names them is the last, and comes when its batch is due."""
    while True:
        try:
            group = next(together)
        except StopIteration:
            return
        except Exception as error:
            failed: Future[Receive] = Future()
            failed.set_exception(error)
            yield failed
            return
        yield pool.submit(send, group)


def _singly_after_errors(packer: Packer, send: Send) -> Send:
    """Where a group cannot be packed, its batches are made one by one, so that the good ones before the error come."""

    def safely(group: Group) -> Receive:
        try:
            return send(group)
        except Exception:
            if len(group) == 1:
                raise
        return lambda: (packer.pack(one) for one in group)

    return safely


def _plainly(packer: Packer) -> Send:
    def send(group: Group) -> Receive:
        packed = packer.pack_together(group)
        return lambda: _given_out(packed)

    return send


def _given_out(batches: list[Batch]) -> Iterator[Batch]:
    """One after another, none of which is held on to: whoever is done with a group's last can have its memory anew."""
    batches.reverse()
    while batches:
        yield batches.pop()


def _to_cuda(packer: Packer) -> Send:
    """Send groups from pinned memory in a stream of their own, beside what the device computes."""
    device = packer.device
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(group: Group) -> Receive:
        pinned = packer.join(group).pinned()
        with torch.cuda.stream(stream):
            joined = pinned.on(device)
            arrived = stream.record_event()

        def receive() -> Iterator[Batch]:
            current = torch.cuda.current_stream(device)
            current.wait_event(arrived)
            for block in joined.columns.values():
                # Its memory is the other stream's: it may not be given away while this one still reads it.
                block.record_stream(current)
            return _given_out(joined.batches())

        return receive

    return send
