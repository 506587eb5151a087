"""System checks. Each says what is wrong and how to mend it; none of them starts a connection without --deploy.

========= ================================================================================================
Id        What is wrong
========= ================================================================================================
E001      ``WELLOS_JOBS`` has an unknown key or a value that cannot be meant
E002      ``"wellos_jobs"`` stands after ``"django_rq"`` in ``INSTALLED_APPS``
E003      ``RQ_QUEUES`` is missing or names no queue
E004      a queue's ``SERIALIZER`` is not RQ's JSON serializer (a warning, W001, with ``ALLOW_PICKLE``)
E005      the queue class is not ``wellos_jobs.queues.LaneQueue``
E006      a job has sensitive arguments, but there are no ``ENCRYPTION_KEYS``
E007      an entry of ``ENCRYPTION_KEYS`` is not a Fernet key
E008      a declared job names a queue that ``RQ_QUEUES`` does not have
E009      ``decode_responses`` is on for a Redis that carries jobs
E010      a ``SOCKET_TIMEOUT`` is not above the time an idle worker blocks
E011      a hook (``CAN_VIEW_JOB``, ``ORGANIZATION_RESOLVER``, ``ADMIN_ORGANIZATIONS``) cannot be imported or called
E012      jobs are on Redis Cluster or on a sharded cache
W001      a queue carries pickles, and ``ALLOW_PICKLE`` lets them run
W002      the default cache and jobs share one logical Redis database
W003      an SQLite database that holds jobs is not in ``IMMEDIATE`` transaction mode
W004      an SQLite database that holds jobs is not in WAL journal mode
W005      ``SCHEDULER_CLASS`` is set, but is not ``wellos_jobs.scheduler.Scheduler``
I001      ``"django_htmx"`` is not in ``INSTALLED_APPS``: admin pages do not refresh themselves
========= ================================================================================================

With ``check --deploy`` also, and each Redis is asked:

========= ================================================================================================
Id        What is wrong
========= ================================================================================================
E101      Redis runs in cluster mode
W101      Redis cannot be reached, or does not tell what is asked
W102      Redis lets anybody in without a password
W103      Redis keeps nothing on disk: neither snapshots nor an append-only file
W104      ``maxmemory-policy`` is not ``noeviction``: jobs would be evicted like cache entries
W105      Redis is older than version 7
W106      ``BASE_URL`` is not set, so that links in mails lead nowhere
========= ================================================================================================
"""

from . import connections, deploy, jobs, links, storage

__all__ = ["connections", "deploy", "jobs", "links", "storage"]
