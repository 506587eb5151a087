"""System checks. Each message says what is wrong and how to fix it.

No check connects to Redis without ``--deploy``. Imports ``conf``, ``broker``, ``database``,
``definitions``, ``ledger``, ``models`` and ``operations``. Users import nothing from here.

==== ======================================================================================
Id   Problem
==== ======================================================================================
E001 ``WELLOS_JOBS`` has an unknown key or an invalid value
E002 ``"wellos_jobs"`` comes after ``"django_rq"`` in ``INSTALLED_APPS``
E003 ``RQ_QUEUES`` is missing or empty
E004 a queue's ``SERIALIZER`` is not RQ's JSON serializer (W001 with ``ALLOW_PICKLE``)
E005 the queue class is not ``wellos_jobs.queues.LaneQueue``
E006 a job has sensitive arguments, but ``ENCRYPTION_KEYS`` is empty
E007 an entry of ``ENCRYPTION_KEYS`` is not a Fernet key
E008 a declared job uses a queue that is not in ``RQ_QUEUES``
E009 ``decode_responses`` is on for a Redis that is used for jobs
E010 a ``SOCKET_TIMEOUT`` is not above the time an idle worker blocks
E011 ``CAN_VIEW_JOB``, ``ORGANIZATION_RESOLVER`` or ``ADMIN_ORGANIZATIONS`` is not callable
E012 jobs are on Redis Cluster or on a sharded cache
E013 ``JOB_DATABASES`` names an alias whose rows the router writes elsewhere, such as a replica
E014 the router writes jobs to an alias that ``JOB_DATABASES`` does not name
E015 a queue's name is too long for the rows, or is that of another queue's priority lane
E016 a backend for Django's Tasks names a queue that is not in ``RQ_QUEUES``
E017 a backend for Django's Tasks has an unknown option
E018 Django 5.2 runs no tasks, as ``"django_tasks"`` is not in ``INSTALLED_APPS``
W001 a queue uses pickle, and ``ALLOW_PICKLE`` permits it
W002 the default cache and jobs share one logical Redis database
W003 an SQLite database with jobs is not in ``IMMEDIATE`` transaction mode
W004 an SQLite database with jobs is not in WAL journal mode
W005 ``SCHEDULER_CLASS`` is not ``wellos_jobs.scheduler.Scheduler``
W006 the ``jobs.py`` of an app cannot be imported (E102 with ``--deploy``)
W007 two aliases in ``JOB_DATABASES`` are one database (also asked with ``check --database``)
W008 a database with jobs isolates transactions above READ COMMITTED
W009 the tables of jobs have not all of Unicode (asked with ``check --database``)
I001 ``"django_htmx"`` is not in ``INSTALLED_APPS``: admin pages do not refresh themselves
==== ======================================================================================

Only with ``check --deploy``; the checks of Redis connect to it:

==== ======================================================================================
Id   Problem
==== ======================================================================================
E101 Redis runs in cluster mode
E102 the ``jobs.py`` of an app cannot be imported
W101 Redis is unavailable, or refuses to answer
W102 Redis accepts connections without a password
W103 Redis has no persistence, or snapshots alone: after a restart its data are old
W104 ``maxmemory-policy`` is not ``noeviction``: jobs would be evicted like cache entries
W105 Redis is older than version 7
W106 ``BASE_URL`` is not set, so links in mails are broken
W107 Redis behind Sentinel has ``min-replicas-to-write`` 0: a cut-off primary goes on alone
==== ======================================================================================
"""

from . import connections, databases, deploy, jobs, links, storage, tasks

__all__ = ["connections", "databases", "deploy", "jobs", "links", "storage", "tasks"]
