"""How fast a model would train on several devices, from what it does on one and what lies between them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.plan_work import Workload


@dataclass(frozen=True)
class Link:
    """What joins the devices.

    Attributes:
        bandwidth: bytes a second that each device, and each server, sends and at the same time receives.
        latency: seconds that a message takes besides.
        overlap: which part of the way back gradients are exchanged during: 0, after it; 1, as they come up.
    """

    bandwidth: float
    latency: float = 50e-6
    overlap: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not self.bandwidth > 0 or not math.isfinite(self.bandwidth):
            raise ValueError(f"a bandwidth of {self.bandwidth:g} bytes a second; give a positive number")
        if self.latency < 0:
            raise ValueError(f"a latency of {self.latency:g} s; give 0 or more")
        if not 0 <= self.overlap <= 1:
            raise ValueError(f"an overlap of {self.overlap:g}; give a number from 0 to 1")

    @classmethod
    def of_gigabits(cls, gigabits: float, microseconds: float = 50.0, overlap: float = 0.0) -> Link:
        """From the units that networks are sold in: 1 Gbit/s is 125,000,000 bytes a second.

        Example:
            >>> Link.of_gigabits(10).bandwidth
            1250000000.0
        """
        return cls(gigabits * 1e9 / 8, microseconds / 1e6, overlap)


@dataclass(frozen=True)
class Estimate:
    """A training on so many devices.

    Attributes:
        devices: that compute.
        servers: that keep parameters; 0 where every device has them.
        pictures: in a step of all devices together; of workers, that each take their own, in one of each.
        step_s: seconds between two steps of a device.
        compute_s: of these, computing.
        exchange_s: of these, sending and receiving that no computing hides, and waiting for servers.
        pictures_per_s: of all devices together.
        speedup: against one device alone, without servers.
        efficiency: speed-up by device.
        device_bytes: memory of a device.
        server_bytes: memory of a server.
        staleness: mini-batches of others between a worker's fetch and its push, on average.
        limit: what sets the pace: ``"computing"``, ``"exchange"``, or ``"servers"`` that cannot serve more workers.
    """

    devices: int
    servers: int
    pictures: int
    step_s: float
    compute_s: float
    exchange_s: float
    pictures_per_s: float
    speedup: float
    efficiency: float
    device_bytes: int
    server_bytes: int
    staleness: float
    limit: str


def mirrored(
    work: Workload, step: float, batch: int, devices: int, link: Link, *, fixed: bool = False, slots: int = 1
) -> Estimate:
    """Devices that train in step and add their gradients up around a ring.

    The ring has each device send and receive 2 (n - 1) / n of the gradient's bytes, in 2 (n - 1) messages (Patarasuk
    and Yuan 2009).

    Args:
        work: of the model.
        step: seconds that one device takes for a step of ``batch`` pictures.
        batch: pictures a step: of each device or, if ``fixed``, of all together.
        devices: how many.
        link: between them.
        fixed: whether the batch of all devices stays what it is on one.
        slots: numbers that the optimiser keeps for each trained parameter: 1 for momentum, 2 for Adam.
    """
    _check(work, step, batch, devices)
    if fixed and batch % devices:
        raise ValueError(
            f"a batch of {batch} pictures cannot be shared evenly by {devices} devices; give a multiple as the batch"
        )
    own = batch // devices if fixed else batch
    compute = step * own / batch
    exchange = 2 * (devices - 1) * (link.latency + work.gradient_bytes / devices / link.bandwidth)
    exchange -= min(exchange, link.overlap * work.backward_share * compute)
    # Gradients, and a copy that is exchanged.
    vectors = 1 + slots + (devices > 1)
    memory = work.parameter_bytes + vectors * work.gradient_bytes + own * work.activation_bytes
    rate = own * devices / (compute + exchange)
    speedup = rate * step / batch
    return Estimate(
        devices=devices,
        servers=0,
        pictures=own * devices,
        step_s=compute + exchange,
        compute_s=compute,
        exchange_s=exchange,
        pictures_per_s=rate,
        speedup=speedup,
        efficiency=speedup / devices,
        device_bytes=memory,
        server_bytes=0,
        staleness=0.0,
        limit="computing" if compute >= exchange else "exchange",
    )


def parameter_servers(
    work: Workload,
    step: float,
    batch: int,
    workers: int,
    servers: int,
    link: Link,
    *,
    n_push: int = 1,
    n_fetch: int = 1,
    slots: int = 1,
) -> Estimate:
    """Downpour SGD (Dean 2012, section 4.1): workers that fetch, compute and push, each by itself.

    Parameters are spread evenly over the servers. Each worker alone could take so many steps a second; all together
    they take no more than the servers' links carry.

    Args:
        work: of the model.
        step: seconds that one device takes for ``batch`` pictures.
        batch: pictures of a worker's mini-batch.
        workers: how many.
        servers: over which the parameters are spread.
        link: of each worker and each server.
        n_push: mini-batches between two pushes.
        n_fetch: mini-batches between two fetches.
        slots: numbers that servers keep for each trained parameter besides: 1 for Adagrad.
    """
    _check(work, step, batch, workers)
    if servers < 1:
        raise ValueError(f"{servers} servers; give at least 1")
    if min(n_push, n_fetch) < 1 or max(n_push, n_fetch) % min(n_push, n_fetch):
        raise ValueError(f"n_push={n_push}, n_fetch={n_fetch}; give numbers of which one is a multiple of the other")
    down, up = work.parameter_bytes / n_fetch, work.gradient_bytes / n_push
    alone = step + (down + up) / link.bandwidth + link.latency * (1 / n_fetch + 1 / n_push)
    # Steps a second that the busier direction of the servers' links carries.
    most = servers * link.bandwidth / max(down, up)
    rate = min(workers / alone, most)
    between = workers / rate
    limit = "servers" if most < workers / alone else "computing" if step >= alone - step else "exchange"
    return Estimate(
        devices=workers,
        servers=servers,
        pictures=batch * workers,
        step_s=between,
        compute_s=step,
        exchange_s=between - step,
        pictures_per_s=rate * batch,
        speedup=rate * step,
        efficiency=rate * step / workers,
        # Gradients, and their sum until the next push.
        device_bytes=work.parameter_bytes + 2 * work.gradient_bytes + batch * work.activation_bytes,
        server_bytes=-(-(work.parameter_bytes + slots * work.gradient_bytes) // servers),
        # Others take as many steps as the worker itself while it goes from a fetch to the push after it.
        staleness=(workers - 1) * (n_fetch if n_push >= n_fetch else (n_push + n_fetch) / 2),
        limit=limit,
    )


def _check(work: Workload, step: float, batch: int, devices: int) -> None:
    if not step > 0 or not math.isfinite(step):
        raise ValueError(f"a step of {step:g} s; give a positive number")
    if batch < 1 or devices < 1:
        raise ValueError(f"a batch of {batch} on {devices} devices; give at least 1 each")
    if not work.gradient_bytes:
        raise ValueError(f"{work.model} has nothing to train; all its layers are frozen")
