"""Jobs that plain RQ code put into our queues: RQ's own worker code runs them, under our lease."""

from __future__ import annotations

import time
from collections.abc import Sequence

import django_rq
from rq.exceptions import NoSuchJobError
from rq.serializers import DefaultSerializer, JSONSerializer
from rq.worker import SimpleWorker

from . import conf, payload, redis
from .claims import Claim, Claimer, Outcome
from .execution import close_stale_connections
from .foreign_calls import read_call
from .lanes import LaneQueue
from .states import FailureReason


class ForeignRunner:
    """Runs foreign jobs of one worker process. RQ's retries, callbacks, dependencies and repeats work as in RQ."""

    def __init__(self, claimer: Claimer, source: str, queues: Sequence[str]) -> None:
        self._claimer = claimer
        self._source = source
        self._queues = queues
        self._worker: SimpleWorker | None = None

    def run(self, claim: Claim) -> Outcome | None:
        """Run a foreign job. Returns an outcome to settle only when its payload must not be loaded; else None."""
        call = read_call(claim.data)
        if call is None and not conf.current().allow_pickle:
            return Outcome(
                "failed",
                reason=FailureReason.BAD_PAYLOAD,
                error_class="PickledPayload",
                message="The payload is pickled and was not loaded: enqueue with rq.serializers.JSONSerializer,"
                " or set WELLOS_JOBS['ALLOW_PICKLE'] if you trust everyone who can write to Redis",
            )
        started = time.perf_counter()
        close_stale_connections()
        try:
            self._perform(claim, pickled=call is None)
        finally:
            close_stale_connections()
        told = {"run": round(time.perf_counter() - started, 6)} | (call or {})
        self._claimer.foreign_done(claim, payload.to_json(told))
        return None

    def _perform(self, claim: Claim, *, pickled: bool) -> None:
        serializer = DefaultSerializer if pickled else JSONSerializer
        queue = django_rq.get_queue(claim.queue, serializer=serializer, queue_class=LaneQueue)
        worker = self._rq_worker()
        try:
            job = queue.job_class.fetch(claim.id, connection=worker.connection, serializer=serializer)
        except NoSuchJobError:
            return  # deleted since the claim: nothing to run
        execution = worker.prepare_execution(job)
        worker.perform_job(job, queue, execution)

    def _rq_worker(self) -> SimpleWorker:
        if self._worker is None:
            connection = redis.source_client(self._source, "block")
            queues = [django_rq.get_queue(name, connection=connection, queue_class=LaneQueue) for name in self._queues]
            self._worker = SimpleWorker(
                queues, name=self._claimer.worker, connection=connection, serializer=JSONSerializer
            )
        return self._worker
