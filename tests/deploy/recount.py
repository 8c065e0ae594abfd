"""Compares weather_summary with the topic that it was made of.

    recount.py TABLE < TOPIC

TOPIC is what kafka-console-consumer prints with partition and value, a tab between. TABLE has a line a window: start,
readings, three averages, tabs between. Windows are hours, and nothing is late or a dead letter: it is for a producer that
sends neither. Its readings are all different, so that two that are alike are one that was sent twice.
"""

import json
import sys
from collections import defaultdict
from datetime import datetime, timezone

HOUR_MS = 3_600_000
METRICS = ("temperature", "humidity", "wind_speed")
# Averages are exact to a millionth of their unit; a double adds less.
TOLERANCE = 2e-6


def recount(lines):
    """Per window, readings and averages; and how many records are in the topic twice."""
    seen = set()
    windows = defaultdict(lambda: [0, 0, 0, 0])
    twice = 0
    for line in lines:
        if not line.startswith("Partition:"):
            continue
        value = line.rstrip("\n").split("\t", 1)[1]
        twice += value in seen
        seen.add(value)
        reading = json.loads(value)
        window = windows[reading["timestamp"] // HOUR_MS]
        window[0] += 1
        for index, metric in enumerate(METRICS, 1):
            window[index] += round(reading[metric] * 1_000_000)
    expected = {}
    for hour, (count, *sums) in windows.items():
        start = datetime.fromtimestamp(hour * 3600, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
        expected[start] = (count, [total / count / 1_000_000 for total in sums])
    return expected, twice


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
    expected, twice = recount(sys.stdin)
    found = read_table(path)
    wrong = 0
    for start in sorted(expected.keys() | found.keys()):
        want, have = expected.get(start), found.get(start)
        equal = want and have and want[0] == have[0]
        if not equal or any(abs(a - b) > TOLERANCE for a, b in zip(want[1], have[1])):
            wrong += 1
            print(f"recount: the window {start} should be {want}, the table has {have}", file=sys.stderr)
    readings = sum(count for count, _ in expected.values())
    print(f"recount: {readings} readings, {twice} of them sent twice, in {len(expected)} windows, {wrong} of them wrong")
    sys.exit(1 if wrong or twice or not readings else 0)


if len(sys.argv) != 2:
    sys.exit("recount: expected one argument, the file with the table")
main(sys.argv[1])
