"""What carries the engine's messages in place of Celery: named by the setting SAGAS_TRANSPORT.

- `sagas.transports.postgres.PostgresTransport`: no broker at all.
- `sagas.transports.django_tasks.DjangoTasksTransport`: a backend of `django.tasks`.

Celery's is `sagas.tasks.CeleryTransport`. docs/transports.md says which to choose.
"""
