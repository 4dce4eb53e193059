"""What a newer deployment declares in its place: a step more, and a saga that the older one does not know."""

from tests.sagas.sample_app import saga as toys

ROLLED = toys.saga(
    "toy-rolled", toys.local("a"), toys.remote("x"), toys.remote("b", **toys.ASK), toys.local("c"), version=2
)
NEW = toys.saga("toy-new", toys.remote("n"), toys.local("m"))
