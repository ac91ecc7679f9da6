#!/usr/bin/env python3
"""The sales report: revenue by region and month and the best products, from a CSV of orders. Knows nothing of the job server.

    python3 examples/report.py '{"file": "orders.csv", "from": "2026-01", "to": "2026-03", "top": 3}'

The payload is what `report_worker.sh` takes too: `file` (a name in $REPORT_DATA_DIR, by default examples/data), `from` and `to`
(months, both included), `top` (1 to 100, default 5) and `slow_seconds` (0 to 3600, default 0: spread the work over this time,
so that there is something to watch and to cancel). Exit 65 when the input can never work.
"""

import collections
import csv
import json
import os
import pathlib
import re
import sys
import time

HEADER = ["order_id", "date", "region", "product", "quantity", "unit_price_cents", "status"]
CHUNK = 50  # rows between two calls of `tick`


class BadInput(Exception):
    """This input can never give a report: trying again is of no use."""


def settings(payload):
    """The checked payload as (path, from, to, top, slow_seconds)."""
    if not isinstance(payload, dict):
        raise BadInput('the payload must be an object such as {"file": "orders.csv"}')
    unknown = sorted(set(payload) - {"file", "from", "to", "top", "slow_seconds"})
    if unknown:
        raise BadInput(f"unknown payload member {unknown[0]!r}; known are file, from, to, top and slow_seconds")
    name, first, last = payload.get("file"), payload.get("from", "0000-00"), payload.get("to", "9999-99")
    # A plain name only: a client must not be able to make the worker read any file of its machine.
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name):
        raise BadInput("file must be a plain file name such as orders.csv, without a directory")
    for month in (first, last):
        if not isinstance(month, str) or not re.fullmatch(r"[0-9]{4}-[0-9]{2}", month):
            raise BadInput("from and to must be months such as 2026-03")
    top, slow = payload.get("top", 5), payload.get("slow_seconds", 0)
    for number, low, high, what in ((top, 1, 100, "top"), (slow, 0, 3600, "slow_seconds")):
        if type(number) is not int or not low <= number <= high:
            raise BadInput(f"{what} must be a whole number from {low} to {high}")
    directory = pathlib.Path(os.environ.get("REPORT_DATA_DIR") or pathlib.Path(__file__).resolve().parent / "data")
    if not directory.is_dir():  # perhaps not mounted yet: worth another try
        raise OSError(f"the data directory {directory} is not there; set REPORT_DATA_DIR")
    if not (directory / name).exists():
        raise BadInput(f"no file {name} in the data directory; see what is there and submit again")
    return directory / name, first, last, top, slow


def orders(path):
    """The rows of the file, each with its header's seven fields."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            if next(reader, None) != HEADER:
                raise BadInput(f"{path.name}: the first line must be {','.join(HEADER)}")
            rows = []
            for row in reader:
                if row and len(row) != len(HEADER):
                    raise BadInput(f"{path.name}, line {reader.line_num}: {len(row)} fields instead of {len(HEADER)}")
                if row:
                    rows.append(row)
            return rows
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadInput(f"{path.name}: {error}") from error


def render(payload, tick=lambda percent, message: None):
    """The report as a dict. `tick` hears how far it is, and may raise to stop the work."""
    path, first, last, top, slow = settings(payload)
    rows = orders(path)
    skipped = {"incomplete": 0, "out_of_range": 0, "cancelled": 0}
    total, refunds = collections.Counter(), 0
    regions, months, products = {}, {}, {}
    for index, (_, date, region, product, quantity, price, status) in enumerate(rows):
        if index % CHUNK == 0:
            tick(100 * index // len(rows), f"row {index}/{len(rows)}")
            time.sleep(slow * CHUNK / len(rows))
        whole = re.fullmatch(r"-?[0-9]+", quantity) and re.fullmatch(r"[0-9]+", price)
        if not whole or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", date):
            skipped["incomplete"] += 1
        elif not first <= date[:7] <= last:
            skipped["out_of_range"] += 1
        elif status == "cancelled":
            skipped["cancelled"] += 1
        else:
            region, amount = region or "(none)", int(quantity) * int(price)
            refunds += min(amount, 0)
            month = months.setdefault(date[:7], {"orders": 0, "revenue_cents": 0, "regions": collections.Counter()})
            month["orders"] += 1
            month["revenue_cents"] += amount
            month["regions"][region] += amount
            sums = {"orders": 1, "quantity": int(quantity), "revenue_cents": amount}
            for counter in (total, regions.setdefault(region, collections.Counter()), products.setdefault(product, collections.Counter())):
                counter.update(sums)
    best = sorted(products.items(), key=lambda item: (-item[1]["revenue_cents"], item[0]))[:top]
    return {
        "file": path.name,
        "rows": len(rows),
        "orders": total["orders"],
        "skipped": skipped,
        "revenue_cents": total["revenue_cents"],
        "refunds_cents": refunds,
        "regions": [{"region": name, "orders": r["orders"], "revenue_cents": r["revenue_cents"]} for name, r in sorted(regions.items())],
        "months": [{"month": name, **m, "regions": dict(sorted(m["regions"].items()))} for name, m in sorted(months.items())],
        "top_products": [{"product": name, "quantity": p["quantity"], "revenue_cents": p["revenue_cents"]} for name, p in best],
    }


if __name__ == "__main__":
    try:
        print(json.dumps(render(json.loads(sys.argv[1] if len(sys.argv) > 1 else sys.stdin.read())), ensure_ascii=False, indent=2))
    except (BadInput, json.JSONDecodeError) as error:
        print(f"report.py: {error}", file=sys.stderr)
        sys.exit(65)
    except OSError as error:
        sys.exit(f"report.py: {error}")
