"""The queues of this project, as the declared sagas and the registered tasks name them: listed nowhere."""

from sagas import workers


def everything() -> list[str]:
    """Every queue that needs a worker; see `sagas.workers.queues`."""
    return workers.queues()
