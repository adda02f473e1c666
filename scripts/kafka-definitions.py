#!/usr/bin/env python3
"""Compares our message tables with Apache Kafka's official message definitions, or fills them.

The definitions are JSON files inside the jars of an Apache Kafka release. Only facts are taken (names, types,
version ranges, nullability, defaults, tags); descriptions and comments stay out.

    FIRN_KAFKA_JARS=DIR scripts/kafka-definitions.py --check             compare every table, status 1 on a difference
    FIRN_KAFKA_JARS=DIR scripts/kafka-definitions.py --fill NAME...      write the named tables, e.g. FetchRequest
    FIRN_KAFKA_JARS=DIR scripts/kafka-definitions.py --fill-apis         write protocol/schemas/apis.table

DIR holds kafka-clients-VERSION.jar and kafka-group-coordinator-VERSION.jar. The version is the one pinned in
protocol/schemas/apis.table; a folder without that very version is an error. Standard library only.
"""

import json
import os
import re
import sys
import zipfile
from pathlib import Path

SCHEMAS = Path(__file__).resolve().parent.parent / "protocol" / "schemas"
APIS = SCHEMAS / "apis.table"
JARS = ["kafka-clients", "kafka-group-coordinator"]
NATURAL_DEFAULTS = {"bool": "false", "string": "", "bytes": "", "uuid": "0", "float64": "0"}
INTEGERS = {"int8", "int16", "int32", "int64", "uint16"}
SCALARS = INTEGERS | {"bool", "float64", "string", "bytes", "records", "uuid"}


class Problem(Exception):
    """Something the person running this has to put right."""


# ---------------------------------------------------------------- the official side: JSON in jars


def load_definitions(folder, version):
    """Every official definition by message name."""
    found = {}
    for name in JARS:
        path = Path(folder) / f"{name}-{version}.jar"
        if not path.is_file():
            raise Problem(f"{path} is missing: the official definitions of Kafka {version} are read from it")
        with zipfile.ZipFile(path) as jar:
            for entry in jar.namelist():
                if entry.startswith("common/message/") and entry.endswith(".json"):
                    definition = parse_json(jar.read(entry).decode(), entry)
                    found[definition["name"]] = definition
    return found


def parse_json(text, where):
    """JSON that may hold comments up to the end of a line; quotes are honoured."""
    stripped = re.sub(r'("(?:[^"\\]|\\.)*")|//[^\n]*', lambda match: match.group(1) or "", text)
    try:
        return json.loads(stripped)
    except ValueError as error:
        raise Problem(f"{where}: {error}") from error


def official_message(definition):
    """The facts of one definition, in the same shape as `table_message` gives."""
    message = {
        "kind": definition["type"],
        "name": definition["name"],
        "versions": definition["validVersions"],
        "flexible": definition["flexibleVersions"],
        "unstable": str(definition.get("latestVersionUnstable", False)).lower(),
    }
    if "apiKey" in definition:
        message["api"] = str(definition["apiKey"])
    structs = [
        {"name": struct["name"], "fields": [official_field(field) for field in struct["fields"]]}
        for struct in definition.get("commonStructs", [])
    ]
    return message, [official_field(field) for field in definition["fields"]], structs


def official_field(field):
    """The facts of one field."""
    # Kafka's generator takes the tagged versions where a field states no others.
    versions = field.get("versions") or field["taggedVersions"]
    facts = {"name": field["name"], "type": field["type"], "versions": versions.strip()}
    if field.get("nullableVersions", "none") != "none":
        facts["null"] = field["nullableVersions"]
    if "tag" in field:
        facts["tag"] = str(field["tag"])
        facts["tagged"] = field["taggedVersions"]
    default = official_default(field)
    if default is not None:
        facts["default"] = default
    if str(field.get("ignorable", False)).lower() == "true":
        facts["ignorable"] = "yes"
    if "flexibleVersions" in field:
        facts["flexible"] = field["flexibleVersions"]
    return {"facts": facts, "fields": [official_field(inner) for inner in field.get("fields", [])]}


def official_default(field):
    """The default in one spelling; None where it is what the type has anyway."""
    if field.get("default") is None:
        # To Kafka's generator the string "null" is a default, while JSON's null is none.
        return None
    kind, text = field["type"], str(field["default"])
    if kind in INTEGERS:
        text = str(int(text, 0))
        return None if text == "0" else text
    if kind == "bool":
        text = text.lower()
    return None if text == NATURAL_DEFAULTS.get(kind) else text


# ---------------------------------------------------------------- our side: tables


def load_tables():
    """Every table of ours by message name."""
    return {path.stem: table_message(path) for path in sorted(SCHEMAS.glob("*.schema"))}


def table_message(path):
    """Reads one table; see protocol/schemas/README.md for its form."""
    message, fields, structs, stack = None, [], [], []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        where = f"{path.name}:{number}"
        depth = (len(line) - len(line.lstrip(" "))) // 2
        if depth == 0 and message is None:
            message = {"kind": words[0], "name": words[1], "unstable": "false"}
            message.update(attributes(words[2:], where))
            stack = [fields]
        elif depth == 0 and words[0] == "struct":
            structs.append({"name": words[1], "fields": []})
            stack = [structs[-1]["fields"]]
        elif 0 < depth <= len(stack):
            field = table_field(words, where)
            del stack[depth:]
            stack[-1].append(field)
            stack.append(field["fields"])
        else:
            raise Problem(f"{where}: wrong indentation")
    return message, fields, structs


def table_field(words, where):
    """One line of a table: name, type, versions, attributes."""
    if len(words) < 3:
        raise Problem(f"{where}: a field needs a name, a type and versions")
    facts = {"name": words[0], "type": words[1], "versions": words[2]}
    facts.update(attributes(words[3:], where))
    if "tag" in facts:
        facts.setdefault("tagged", facts["versions"])
    return {"facts": facts, "fields": []}


def attributes(words, where):
    """`key=value` words, and bare words that mean yes."""
    known = {"api", "versions", "flexible", "unstable", "null", "tag", "tagged", "default", "ignorable"}
    result = {}
    for word in words:
        key, _, value = word.partition("=")
        if key not in known:
            raise Problem(f"{where}: unknown attribute {key!r}")
        result[key] = value if "=" in word else "yes"
    return result


# ---------------------------------------------------------------- comparing


def compare(name, ours, official):
    """Yields one line per fact that differs."""
    yield from compare_facts(name, ours[0], official[0])
    yield from compare_fields(name, ours[1], official[1])
    yield from compare_lists(name, "struct", ours[2], official[2], lambda struct: struct["name"])
    for mine, theirs in zip(ours[2], official[2]):
        yield from compare_fields(f"{name}.{mine['name']}", mine["fields"], theirs["fields"])


def compare_fields(where, ours, official):
    """Compares two lists of fields, in their order (the order is the order on the wire)."""
    yield from compare_lists(where, "field", ours, official, lambda field: field["facts"]["name"])
    for mine, theirs in zip(ours, official):
        inner = f"{where}.{theirs['facts']['name']}"
        yield from compare_facts(inner, mine["facts"], theirs["facts"])
        yield from compare_fields(inner, mine["fields"], theirs["fields"])


def compare_lists(where, what, ours, official, name):
    """Says which names are missing, extra or elsewhere."""
    mine, theirs = [name(item) for item in ours], [name(item) for item in official]
    if mine != theirs:
        yield f"{where}: our {what}s are {', '.join(mine) or 'none'}; official: {', '.join(theirs) or 'none'}"


def compare_facts(where, ours, official):
    """Compares two flat tables of facts."""
    for key in sorted(ours.keys() | official.keys()):
        if ours.get(key) != official.get(key):
            yield f"{where}: {key} is {ours.get(key)} in our table, {official.get(key)} in the official definition"


def check(definitions, version):
    """Prints every difference; true if there is none."""
    tables = load_tables()
    differences, fields = [], 0
    for name, ours in tables.items():
        if ours[0] is None or ours[0]["name"] != name:
            differences.append(f"{name}.schema: the file is not named after its message")
        elif name not in definitions:
            differences.append(f"{name}: Kafka {version} has no such message")
        else:
            official = official_message(definitions[name])
            fields += count_fields(official)
            differences.extend(compare(name, ours, official))
    ours_apis, official = APIS.read_text().splitlines(), apis_table(definitions, version).splitlines()
    differences.extend(f"apis.table: {line!r} is ours only" for line in ours_apis if line not in official)
    differences.extend(f"apis.table: {line!r} is official only" for line in official if line not in ours_apis)
    for line in differences:
        print(line, file=sys.stderr)
    verdict = f"{len(differences)} differences" if differences else "no difference"
    print(f"{len(tables)} tables, {fields} fields compared with Apache Kafka {version}: {verdict}")
    return not differences


def count_fields(message):
    """How many fields a message has, at all depths."""

    def count(fields):
        return sum(1 + count(field["fields"]) for field in fields)

    return count(message[1]) + sum(count(struct["fields"]) for struct in message[2])


# ---------------------------------------------------------------- filling


def render(message, fields, structs):
    """The text of one table."""
    head = [message["kind"], message["name"]]
    head += [f"{key}={message[key]}" for key in ("api", "versions", "flexible") if key in message]
    if message["unstable"] == "true":
        head.append("unstable=true")
    lines = [" ".join(head)]
    render_fields(fields, 1, lines)
    for struct in structs:
        lines += ["", f"struct {struct['name']}"]
        render_fields(struct["fields"], 1, lines)
    return "\n".join(lines) + "\n"


def render_fields(fields, depth, lines):
    """Fields in columns that line up within their block."""
    names = max((len(field["facts"]["name"]) for field in fields), default=0)
    types = max((len(field["facts"]["type"]) for field in fields), default=0)
    ranges = max((len(field["facts"]["versions"]) for field in fields), default=0)
    for field in fields:
        facts = field["facts"]
        words = [facts["name"].ljust(names), facts["type"].ljust(types), facts["versions"].ljust(ranges)]
        for key in ("null", "tag", "tagged", "default", "flexible"):
            if key in facts and not (key == "tagged" and facts["tagged"] == facts["versions"]):
                words.append(f"{key}={facts[key]}")
        words += ["ignorable"] if "ignorable" in facts else []
        lines.append(("  " * depth + " ".join(words)).rstrip())
        render_fields(field["fields"], depth + 1, lines)


def apis_table(definitions, version):
    """All APIs of that Kafka, spoken by us or not."""
    lines = [
        "# Every API of Apache Kafka: id, name, versions of a stable release, first flexible version, who listens.",
        "# `none` as versions: the API existed before Kafka 4 and is gone. Written by scripts/kafka-definitions.py.",
        f"kafka {version}",
    ]
    requests = [item for item in definitions.values() if item["type"] == "request"]
    for item in sorted(requests, key=lambda item: item["apiKey"]):
        name = item["name"].removesuffix("Request")
        listeners = ",".join(item.get("listeners", [])) or "-"
        lines.append(f"{item['apiKey']:3} {name:28} {stable_versions(item):6} {item.get('flexibleVersions', 'none'):5} {listeners}")
    return "\n".join(lines) + "\n"


def stable_versions(definition):
    """The versions that a release announces: without the latest if it is marked as unstable."""
    low, _, high = definition["validVersions"].partition("-")
    if low == "none":
        return "none"
    high = int(high or low)
    if str(definition.get("latestVersionUnstable", False)).lower() == "true":
        high -= 1
    return low if int(low) == high else f"{low}-{high}"


# ---------------------------------------------------------------- command line


def pinned_version():
    """The version of Kafka that the tables describe."""
    for line in APIS.read_text().splitlines() if APIS.is_file() else []:
        if line.startswith("kafka "):
            return line.split()[1]
    return "4.3.1"


def main(arguments):
    """Returns the exit status."""
    if not arguments or arguments[0] not in ("--check", "--fill", "--fill-apis"):
        print(__doc__, file=sys.stderr)
        return 2
    folder = os.environ.get("FIRN_KAFKA_JARS")
    if not folder:
        raise Problem("set FIRN_KAFKA_JARS to a folder with Kafka's jars")
    version = pinned_version()
    definitions = load_definitions(folder, version)
    if arguments[0] == "--check":
        return 0 if check(definitions, version) else 1
    if arguments[0] == "--fill-apis":
        APIS.write_text(apis_table(definitions, version))
    for name in arguments[1:]:
        if name not in definitions:
            raise Problem(f"Kafka {version} has no message {name}")
        (SCHEMAS / f"{name}.schema").write_text(render(*official_message(definitions[name])))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Problem as problem:
        sys.exit(f"kafka-definitions: {problem}")
