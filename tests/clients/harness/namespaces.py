"""A network of our own: a namespace for each node, joined by a bridge, whose links can be cut one way, both ways, or leak.

    this process ── bridge ──┬── veth ── namespace of node 1
    (address .1)             ├── veth ── namespace of node 2
                             └── veth ── namespace of node 3

Packets are dropped by nft where they arrive, so a cut from a to b lets everything pass from b to a. Nothing is sent to
either end: connections that are open stay open and fall silent, as behind a broken switch. Names carry the process's id,
and a network begins by removing what processes that have ended left behind.
"""

import contextlib
import itertools
import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

COMMANDS = ("ip", "nft", "nsenter")
_PREFIX = "fn"
_count = itertools.count()


def why_not() -> str | None:
    """What is missing for such a network on this machine; None when nothing is."""
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        return f"{', '.join(missing)} not found: run scripts/setup-tests.sh"
    done = subprocess.run(["unshare", "--net", "true"], capture_output=True, timeout=20, check=False)  # noqa: S603, S607
    if done.returncode != 0:
        return f"this machine refuses network namespaces: {done.stderr.decode(errors='replace').strip()}"
    return None


def _run(*args: str, text: str | None = None) -> str:
    done = subprocess.run(args, input=text, capture_output=True, timeout=30, check=False, text=True)  # noqa: S603
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(args)}: {done.stderr.strip()}")
    return done.stdout


def _owner(name: str) -> int | None:
    """The process whose network this namespace or interface belongs to."""
    found = re.match(rf"{_PREFIX}(\d+)[a-z]", name)
    return int(found[1]) if found else None


def _remove_leftovers() -> None:
    """Removes namespaces and bridges of processes that have ended."""
    names = [line.split()[0] for line in _run("ip", "netns", "list").splitlines() if line]
    bridges = re.findall(r"^\d+: (\w+)", _run("ip", "-o", "link", "show", "type", "bridge"), re.MULTILINE)
    for kind, found in (("netns", names), ("link", bridges)):
        for name in found:
            owner = _owner(name)
            if owner is not None and not Path(f"/proc/{owner}").exists():
                with contextlib.suppress(RuntimeError):  # another run may be faster
                    _run("ip", kind, "delete", name)


class Network:
    """Nodes by their ids. Addresses are of 198.18.0.0/15, which is set aside for tests of networks."""

    def __init__(self, nodes: Iterable[int]) -> None:
        self.nodes = tuple(nodes)
        self._name = f"{_PREFIX}{os.getpid()}{chr(ord('a') + next(_count) % 26)}"
        self._loss: dict[tuple[int, int], int] = {}
        """Packets of a hundred that get lost, by sender and receiver."""
        _remove_leftovers()
        try:
            self._subnet = self._make_bridge()
            for node in self.nodes:
                self._make_node(node)
        except BaseException:
            self.close()
            raise

    def _make_bridge(self) -> str:
        _run("ip", "link", "add", self._name, "type", "bridge")
        _run("ip", "link", "set", self._name, "up")
        rng = random.SystemRandom()
        for _ in range(50):
            subnet = f"198.{rng.choice((18, 19))}.{rng.randrange(256)}"
            try:
                # The kernel refuses a second route to the same subnet: of runs side by side, one gets it.
                _run("ip", "route", "add", f"{subnet}.0/24", "dev", self._name)
            except RuntimeError as error:
                if "File exists" not in str(error):
                    raise
            else:
                _run("ip", "addr", "add", f"{subnet}.1/24", "dev", self._name, "noprefixroute")
                return subnet
        raise RuntimeError("no free subnet found")

    def _make_node(self, node: int) -> None:
        name, link = self.namespace(node), f"{self._name}{node}"
        _run("ip", "netns", "add", name)
        _run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        _run("ip", "link", "set", link, "master", self._name, "up")
        inside = ("ip", "-netns", name)
        _run(*inside, "link", "set", "lo", "up")
        _run(*inside, "addr", "add", f"{self.address(node)}/24", "dev", "eth0")
        _run(*inside, "link", "set", "eth0", "up")

    @property
    def host(self) -> str:
        """This process's own address, where the nodes reach what runs outside."""
        return f"{self._subnet}.1"

    def address(self, node: int) -> str:
        """A node's address."""
        return f"{self._subnet}.{10 + node}"

    def namespace(self, node: int) -> str:
        """The name of a node's namespace."""
        return f"{self._name}-{node}"

    def launcher(self, node: int) -> tuple[str, ...]:
        """The command that becomes a process in the node's namespace.

        Not `ip netns exec`: that one copies the mounts as well, and a disk that another test unmounts lives on there.
        """
        return ("nsenter", f"--net=/run/netns/{self.namespace(node)}")

    def cut(self, sender: int, receiver: int) -> None:
        """Nothing that `sender` sends reaches `receiver` any more."""
        self.lose(sender, receiver, 100)

    def cut_both(self, one: int, other: int) -> None:
        """The two hear nothing of each other."""
        self.cut(one, other)
        self.cut(other, one)

    def isolate(self, node: int) -> None:
        """The node hears nothing of all others, and they nothing of it. Clients reach it as before."""
        for other in self.nodes:
            if other != node:
                self.cut_both(node, other)

    def lose(self, sender: int, receiver: int, percent: int) -> None:
        """So many of a hundred packets from `sender` never reach `receiver`."""
        self._loss[sender, receiver] = percent
        self._apply(receiver)

    def leak(self, percent: int) -> None:
        """So many of a hundred packets between any two nodes get lost."""
        for sender, receiver in itertools.permutations(self.nodes, 2):
            self.lose(sender, receiver, percent)

    def heal(self) -> None:
        """Every packet arrives again."""
        self._loss.clear()
        for node in self.nodes:
            self._apply(node)

    def _apply(self, receiver: int) -> None:
        rules = []
        for (sender, to), percent in self._loss.items():
            if to == receiver:
                chance = "" if percent >= 100 else f"numgen random mod 100 < {percent} "
                rules.append(f"ip saddr {self.address(sender)} {chance}drop")
        # One transaction: the table as it is to be, in place of the one before.
        text = "add table inet firn\ndelete table inet firn\ntable inet firn {\nchain arriving {\n"
        text += "type filter hook input priority 0; policy accept;\n" + "\n".join(rules) + "\n}\n}\n"
        _run(*self.launcher(receiver), "nft", "-f", "-", text=text)

    def dropped(self, receiver: int) -> bool:
        """Whether any rule drops packets at this node now."""
        return " drop" in _run(*self.launcher(receiver), "nft", "list", "ruleset")

    def close(self) -> None:
        """Removes it all. Processes in the namespaces keep running without a network, so end them first."""
        for node in self.nodes:
            for args in (("link", "delete", f"{self._name}{node}"), ("netns", "delete", self.namespace(node))):
                with contextlib.suppress(RuntimeError):
                    _run("ip", *args)
        with contextlib.suppress(RuntimeError):
            _run("ip", "link", "delete", self._name)


@contextlib.contextmanager
def network(nodes: Iterable[int]) -> Iterator[Network]:
    """A network for the length of a block."""
    made = Network(nodes)
    try:
        yield made
    finally:
        made.close()
