"""What ``/metrics`` tells, in Prometheus' text format."""

from __future__ import annotations

import logging
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

log = logging.getLogger("zoo.serving")

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_IMAGES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)


class Metrics:
    """Counters of one server; each has its own registry, so that two in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "zoo_requests", "Requests by interface and HTTP status; 499: the client hung up.", ["api", "status"],
            registry=self.registry,
        )  # fmt: skip
        self._request_seconds = Histogram(
            "zoo_request_seconds", "From a request's beginning to the end of its answer.", ["api"],
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self._batch_images = Histogram(
            "zoo_batch_images", "Images that ran together.", buckets=_IMAGES, registry=self.registry
        )
        self._batch_seconds = Histogram(
            "zoo_batch_seconds", "How long the model took for a batch.", buckets=_SECONDS, registry=self.registry
        )
        self._proposal_seconds = Histogram(
            "zoo_proposal_seconds", "How long proposing boxes for a picture took.", buckets=_SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self._proposal_failures = Counter(
            "zoo_proposal_failures", "Pictures that no boxes could be proposed for.", registry=self.registry
        )
        self._failures = Counter("zoo_batch_failures", "Batches that the model failed on.", registry=self.registry)
        self._seconds_per_image = 0.0

    def gauge(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """Add a number that is asked for when it is read."""
        Gauge(name, meaning, registry=self.registry).set_function(value)

    def answered(self, api: str, status: int, seconds: float) -> None:
        """A request ended."""
        self._requests.labels(api, str(status)).inc()
        self._request_seconds.labels(api).observe(seconds)

    def batch_done(self, images: int, seconds: float) -> None:
        """A batch of so many images took so long."""
        self._batch_images.observe(images)
        self._batch_seconds.observe(seconds)
        # The latest count most: pictures come in all sizes.
        weight = 0.2 if self._seconds_per_image else 1.0
        self._seconds_per_image += weight * (seconds / images - self._seconds_per_image)

    def proposed(self, seconds: float) -> None:
        """The server has proposed boxes for a picture."""
        self._proposal_seconds.observe(seconds)

    def proposing_failed(self, error: Exception) -> None:
        """There are no boxes for a picture; the log has the whole of it, the client a sentence."""
        self._proposal_failures.inc()
        log.error("no proposals could be made for a picture", exc_info=error)

    def batch_failed(self, error: Exception) -> None:
        """The model failed on a batch; the log has the whole of it, the client a sentence."""
        self._failures.inc()
        log.error("the model failed on a batch", exc_info=error)

    def seconds_for(self, images: int) -> float:
        """How long so many images will about take."""
        return images * self._seconds_per_image

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self.registry)
