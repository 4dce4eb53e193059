"""What an older deployment declares; see `newer`."""

from tests.sagas.sample_app import saga as toys

ROLLED = toys.saga("toy-rolled", toys.local("a"), toys.remote("b", **toys.ASK), toys.local("c"))
