"""Order events as JSON, about 1 KiB each, which zstd makes about a quarter of: ids, numbers, enumerations, some text.

The same shape as in cold-tier/benches/archive.rs.
"""

import random
from collections.abc import Iterator
from functools import cache

_WORDS = [
    "order", "customer", "invoice", "shipment", "warehouse", "delayed", "confirmed", "berlin", "osaka", "priority",
    "standard", "express", "returned", "damaged", "partial", "payment", "pending", "captured", "refund", "courier",
    "pallet", "carton", "signed", "window",
]  # fmt: skip
# Far more than any codec looks back for: going through them again compresses nothing better.
DISTINCT = 32_768


def records(count: int) -> Iterator[list[dict[str, bytes]]]:
    """`count` records in lists of 1,024, as confluent-kafka's `produce_batch` takes them."""
    distinct = _distinct()
    for first in range(0, count, 1024):
        at = first % DISTINCT
        yield distinct[at : at + min(1024, count - first)]


def size_bytes(count: int) -> int:
    """Bytes of keys and values of so many records."""
    return sum(len(record["key"]) + len(record["value"]) for part in records(count) for record in part)


@cache
def _distinct() -> list[dict[str, bytes]]:
    rng = random.Random(7)  # noqa: S311
    return [{"key": b"k%07d" % rng.randrange(1_000_000), "value": _order(rng, i)} for i in range(DISTINCT)]


def _order(rng: random.Random, sequence: int) -> bytes:
    word, number = lambda: rng.choice(_WORDS), rng.randrange
    items = ",".join(
        f'{{"article_number":"A-{number(100_000_000):08}","description":"{word()} {word()}","quantity":{number(1, 10)},'
        f'"unit_price":{number(1000)}.{number(100):02},"currency":"EUR","warehouse":"{word()}"}}'
        for _ in range(3)
    )
    text = (
        f'{{"event_id":"{rng.getrandbits(128):032x}","event_type":"order.{word()}","sequence":{sequence},'
        f'"created_at":"2024-05-{number(1, 29):02}T{number(24):02}:{number(60):02}:{number(60):02}.{number(1000):03}Z",'
        f'"customer":{{"customer_id":{number(5_000_000)},"first_name":"{word()}","last_name":"{word()}",'
        f'"email":"{word()}.{word()}@example.com","loyalty_level":"{rng.choice(("none", "silver", "gold"))}"}},'
        f'"items":[{items}],"payment":{{"method":"card","authorization":"{rng.getrandbits(64):016x}",'
        f'"amount":{number(10_000)}.{number(100):02},"status":"captured"}},"trace_id":"{rng.getrandbits(128):032x}",'
        f'"session":"{rng.getrandbits(128):032x}","signature":"{rng.getrandbits(384):096x}",'
        f'"note":"{word()} {word()} {word()} {word()}"}}'
    )
    return text.encode()
