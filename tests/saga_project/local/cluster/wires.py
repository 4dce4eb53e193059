"""What test_drill.py looks at from outside: `python -m tests.saga_project.local.cluster.wires DIRECTORY`."""

import json
import pathlib
import socket
import sys

from saga_project.local.cluster import faults, network

PORT = 9000


def main() -> None:
    network.enter(["-m", "tests.saga_project.local.cluster.wires", *sys.argv[1:]])
    net = network.Network(pathlib.Path(sys.argv[1]))
    web, database, other = net.add("web", "database", "other")

    def serve() -> socket.socket:
        with database.inside():
            return socket.create_server((database.address, PORT))

    def reached(here: network.Host = web) -> bool:
        return faults.reaches(here, database, PORT)

    told = {}
    server = serve()
    told["at first"] = reached()
    net.cut(web, database)
    told["cut from each other"] = reached()
    told["from a third host meanwhile"] = reached(other)
    net.mend(web, database)
    told["mended"] = reached()
    net.unplug(database)
    told["unplugged"] = reached()
    server.close()
    net.replace(database)
    told["a new machine before it serves"] = reached()
    with serve():
        told["a new machine that serves"] = reached()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
