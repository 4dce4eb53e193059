"""The queues of this project, as the declared sagas and the registered tasks name them: listed nowhere."""

from saga_project import celery
from sagas import conf
from sagas.declaration import registry


def everything() -> list[str]:
    """Every queue that needs a worker.

    1. The queues of the steps of every declared saga: those of the services.
    2. The engine's own.
    3. Those that another task is bound to, or that the schedule sends a task to.
    """
    celery.app.autodiscover_tasks(force=True)
    bound = [getattr(task, "queue", None) for task in celery.app.tasks.values()]
    scheduled = [entry.get("options", {}).get("queue") for entry in celery.app.conf.beat_schedule.values()]
    named = [name for name in (*bound, *scheduled) if name]
    return sorted({*registry.queues(), conf.ENGINE_QUEUE, *named})
