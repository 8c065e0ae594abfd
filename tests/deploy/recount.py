"""Compares weather_summary with the topic that it was made of.

    recount.py TABLE < TOPIC

TOPIC is what kafka-console-consumer prints with partition, headers and value: tabs between, header bytes escaped. TABLE has
a line a window: start, readings, three averages, tabs between. Duplicates that a repeated send left are dropped. Windows are
hours, and nothing is late or a dead letter: it is for a producer that sends neither.
"""

import json
import re
import sys
from collections import defaultdict
from datetime import datetime, timezone

HOUR_MS = 3_600_000
METRICS = ("temperature", "humidity", "wind_speed")
ESCAPE = re.compile(r"\\x([0-9A-F]{2})")
# Averages are exact to a millionth of their unit; a double adds less.
TOLERANCE = 2e-6


def mark(headers):
    """Run and number of a record, from its header weather-seq; None where it has none, as behind a request's first."""
    if "weather-seq:" not in headers:
        return None
    text = headers.split("weather-seq:", 1)[1]
    data = ESCAPE.sub(lambda match: chr(int(match[1], 16)), text).encode("latin-1")
    return data[:8], int.from_bytes(data[8:16], "big")


def recount(lines):
    """Per window, readings and averages; and how many records were duplicates."""
    newest = defaultdict(lambda: -1)
    marked = {}
    windows = defaultdict(lambda: [0, 0, 0, 0])
    duplicates = 0
    for line in lines:
        if not line.startswith("Partition:"):
            continue
        partition, headers, value = line.rstrip("\n").split("\t", 2)
        before = marked.get(partition)
        marked[partition] = mark(headers) or (before and (before[0], before[1] + 1))
        if not marked[partition]:
            sys.exit(f"recount: the first record of {partition} has no number")
        run, number = marked[partition]
        if number <= newest[partition, run]:
            duplicates += 1
            continue
        newest[partition, run] = number
        reading = json.loads(value)
        window = windows[reading["timestamp"] // HOUR_MS]
        window[0] += 1
        for index, metric in enumerate(METRICS, 1):
            window[index] += round(reading[metric] * 1_000_000)
    expected = {}
    for hour, (count, *sums) in windows.items():
        start = datetime.fromtimestamp(hour * 3600, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
        expected[start] = (count, [total / count / 1_000_000 for total in sums])
    return expected, duplicates


def read_table(path):
    found = {}
    with open(path, encoding="utf-8") as table:
        for line in table:
            start, count, *averages = line.rstrip("\n").split("\t")
            if start in found:
                sys.exit(f"recount: the window {start} is in the table twice")
            found[start] = (int(count), [float(average) for average in averages])
    return found


def main(path):
    expected, duplicates = recount(sys.stdin)
    found = read_table(path)
    wrong = 0
    for start in sorted(expected.keys() | found.keys()):
        want, have = expected.get(start), found.get(start)
        equal = want and have and want[0] == have[0]
        if not equal or any(abs(a - b) > TOLERANCE for a, b in zip(want[1], have[1])):
            wrong += 1
            print(f"recount: the window {start} should be {want}, the table has {have}", file=sys.stderr)
    readings = sum(count for count, _ in expected.values())
    print(f"recount: {readings} readings and {duplicates} duplicates in {len(expected)} windows, {wrong} of them wrong")
    sys.exit(1 if wrong or not readings else 0)


if len(sys.argv) != 2:
    sys.exit("recount: expected one argument, the file with the table")
main(sys.argv[1])
