"""Runs every query of the Grafana dashboard, as Grafana would, against a Prometheus that scrapes a running `weather`.

    dashboard.py DASHBOARD PROMETHEUS SECONDS

Each query has to return a number within that many seconds; ends with one line a query that did not, and exit code 1.
"""

import json
import math
import sys
import time
import urllib.parse
import urllib.request

# What Grafana puts in for its variables; the interval is for a scrape each second.
VARIABLES = {"$namespace": "weather", "$pod": ".*", "$__rate_interval": "10s"}


def queries(dashboard):
    """Title of the panel and expression, of each query."""
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            if "$" in expression:
                sys.exit(f"dashboard: {panel['title']}: a variable that this check does not know: {expression}")
            yield panel["title"], expression


def numbers(prometheus, expression):
    url = f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(url, timeout=10) as answer:
        result = json.load(answer)["data"]["result"]
    return [value for series in result if not math.isnan(value := float(series["value"][1]))]


def main(path, prometheus, seconds):
    with open(path, encoding="utf-8") as file:
        missing = set(queries(json.load(file)))
    count, end = len(missing), time.monotonic() + seconds
    while missing and time.monotonic() < end:
        missing = {(title, expression) for title, expression in missing if not numbers(prometheus, expression)}
        time.sleep(1)
    for title, expression in sorted(missing):
        print(f"dashboard: {title}: no data for {expression}", file=sys.stderr)
    print(f"dashboard: {count - len(missing)} of {count} queries return data")
    sys.exit(1 if missing or not count else 0)


if len(sys.argv) != 4:
    sys.exit("dashboard: expected the dashboard's file, Prometheus' address and seconds")
main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
