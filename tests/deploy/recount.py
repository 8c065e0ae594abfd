"""What weather_summary has to hold, computed from the topic: windows of an hour, counts and averages.

Reads what kafka-console-consumer prints with partition, headers and value (tabs between, header bytes escaped), drops the
duplicates that a repeated send leaves, and prints a line a window: start, readings, three averages. It knows nothing of
late readings and dead letters: it is for a producer that sends neither.
"""

import json
import re
import sys
from collections import defaultdict
from datetime import datetime, timezone

HOUR_MS = 3_600_000
METRICS = ("temperature", "humidity", "wind_speed")
ESCAPE = re.compile(r"\\x([0-9A-F]{2})")


def sequence(headers):
    """Run and number of a record, from the 16 bytes of its header weather-seq."""
    text = headers.split("weather-seq:", 1)[1]
    data = ESCAPE.sub(lambda match: chr(int(match[1], 16)), text).encode("latin-1")[:16]
    return data[:8], int.from_bytes(data[8:], "big")


def main():
    newest = defaultdict(lambda: -1)
    windows = defaultdict(lambda: [0, 0, 0, 0])
    duplicates = 0
    for line in sys.stdin:
        if not line.startswith("Partition:"):
            continue
        partition, headers, value = line.rstrip("\n").split("\t", 2)
        run, number = sequence(headers)
        if number <= newest[partition, run]:
            duplicates += 1
            continue
        newest[partition, run] = number
        reading = json.loads(value)
        window = windows[reading["timestamp"] // HOUR_MS]
        window[0] += 1
        for index, metric in enumerate(METRICS, 1):
            window[index] += round(reading[metric] * 1_000_000)
    print(f"{duplicates} duplicates", file=sys.stderr)
    for hour, (count, *sums) in sorted(windows.items()):
        start = datetime.fromtimestamp(hour * 3600, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
        print(start, count, *(f"{total / count / 1_000_000:.6f}" for total in sums), sep="\t")


main()
