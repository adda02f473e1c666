"""The network that cluster tests break does what it says: each cut, each direction, and nothing left behind."""

import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from harness.namespaces import Network, network, why_not

MISSING = why_not()
pytestmark = [pytest.mark.firn, pytest.mark.skipif(MISSING is not None, reason=MISSING or "")]


@pytest.fixture
def net() -> Iterator[Network]:
    with network((1, 2, 3)) as made:
        yield made


def arrives(net: Network, sender: int, receiver: int, count: int = 1) -> int:
    """How many of so many datagrams from one node arrive at the other."""
    listen = (
        "import socket, sys; s = socket.socket(type=socket.SOCK_DGRAM)\n"
        # SO_RCVBUFFORCE: room for all of them, or what a busy machine cannot read in time is lost, too.
        "s.setsockopt(socket.SOL_SOCKET, 33, 1 << 22); s.bind((sys.argv[1], 7)); print('up', flush=True)\n"
        "s.settimeout(5); seen = 0\n"
        "while s.recv(9) != b'last': seen += 1\n"
        "print(seen)"
    )
    tell = (
        "import socket, sys\n"
        "s = socket.socket(type=socket.SOCK_DGRAM)\n"
        "for _ in range(int(sys.argv[2])): s.sendto(b'x', (sys.argv[1], 7))"
    )
    address = net.address(receiver)
    with subprocess.Popen(
        [*net.launcher(receiver), "python3", "-c", listen, address], stdout=subprocess.PIPE, text=True
    ) as listener:
        assert listener.stdout is not None and listener.stdout.readline() == "up\n"
        subprocess.run([*net.launcher(sender), "python3", "-c", tell, address, str(count)], check=True, timeout=20)
        # What comes from outside is never cut: it ends the listener when all that was sent has come or is lost.
        with socket.socket(type=socket.SOCK_DGRAM) as end:
            time.sleep(0.05)
            end.sendto(b"last", (address, 7))
        return int(listener.stdout.readline())


def test_a_cut_works_in_its_direction_alone(net: Network) -> None:
    assert arrives(net, 1, 2) == arrives(net, 2, 1) == arrives(net, 3, 1) == 1
    net.cut(1, 2)
    assert arrives(net, 1, 2) == 0
    assert arrives(net, 2, 1) == arrives(net, 1, 3) == arrives(net, 3, 2) == 1
    net.heal()
    assert arrives(net, 1, 2) == 1


def test_an_isolated_node_is_cut_from_all_and_they_are_not_from_one_another(net: Network) -> None:
    net.isolate(3)
    assert [arrives(net, *pair) for pair in ((1, 3), (3, 1), (2, 3), (3, 2))] == [0, 0, 0, 0]
    assert arrives(net, 1, 2) == arrives(net, 2, 1) == 1


def test_a_leaking_link_loses_its_share(net: Network) -> None:
    net.lose(1, 2, 30)
    assert 500 < arrives(net, 1, 2, 1000) < 900


def test_nothing_is_left_behind() -> None:
    def names() -> str:
        listing = [["ip", "netns", "list"], ["ip", "-o", "link", "show"]]
        return "".join(subprocess.run(args, capture_output=True, text=True, check=True).stdout for args in listing)

    with network((1, 2)) as made:
        assert made.namespace(1) in names()
        own = made.namespace(1).split("-")[0]
    assert own not in names()
