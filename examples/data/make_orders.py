#!/usr/bin/env python3
"""Makes orders.csv, and orders.expected.json: the report that belongs to it.

    python3 examples/data/make_orders.py            writes both files beside this script
    python3 examples/data/make_orders.py --check    exit 1 if the files differ from what it would write

The file has what exports have in real life: commas, quotes and a line break inside quoted fields, UTF-8 names, empty and
unusable values, cancelled orders, and refunds as rows of negative quantity. The expected report is added up from the rows
as they are made, before any CSV is written: whoever parses the file wrongly gets other numbers.
"""

import collections
import csv
import datetime
import io
import json
import pathlib
import random
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROWS = 4000
FIRST_DAY = datetime.date(2025, 11, 1)
DAYS = 365
HEADER = ["order_id", "date", "region", "product", "quantity", "unit_price_cents", "status"]
# (name, unit price in cents, weight); the shares of regions and products differ enough to make a ranking worth reading.
PRODUCTS = [
    ("Espresso beans, 1 kg", 2190, 14),
    ("Filter paper No. 4", 390, 12),
    ("Café au lait bowl, 400 ml", 1450, 9),
    ("Crème brûlée set", 3290, 4),
    ("Müsli \"Bergfrühling\", 750 g", 689, 9),
    ("Smörgåsbräda, ek", 4450, 3),
    ("日本茶 (Sencha), 100 g", 1290, 6),
    ("Żurek mix", 310, 4),
    ("Pão de queijo mix, 500 g", 540, 5),
    ("Hand grinder", 6900, 3),
    ("Kettle, gooseneck, 0.9 l", 7990, 3),
    ("Poster \"Nordlicht\", 50×70 cm", 2400, 4),
    ("Milk jug 350 ml", 1790, 6),
    ("Descaler; 2×250 ml", 860, 6),
    ("Gift box\n(assorted)", 4990, 3),
    ("Ελληνικός καφές 200 g", 640, 4),
    ("Travel mug", 2650, 6),
    ("Scale 0.1 g", 3850, 3),
    ("Cleaning brush", 480, 5),
    ("Espresso machine \"Uno\"", 64900, 1),
]
REGIONS = [("DACH", 26), ("Nordics", 18), ("UK & Ireland", 17), ("North America", 15), ("Iberia", 10), ("Korea, Rep.", 8), ("APAC other", 6)]
SEASON = [1.3, 1.8, 0.7, 0.8, 0.9, 1.0, 1.0, 0.9, 0.8, 0.8, 1.0, 1.1]  # from November


class Dice:
    """Draws that stay the same in every Python: only `random()` itself is promised never to change."""

    def __init__(self, seed):
        self.source = random.Random(seed)

    def chance(self, probability):
        return self.source.random() < probability

    def below(self, n):
        return int(self.source.random() * n)

    def pick(self, weighted):
        point = self.source.random() * sum(item[-1] for item in weighted)
        for item in weighted:
            point -= item[-1]
            if point < 0:
                return item
        return weighted[-1]


def month_index(day):
    return (day.year - FIRST_DAY.year) * 12 + day.month - FIRST_DAY.month


def make_rows():
    """The orders in order of date, as text: exactly what goes into the file."""
    dice = Dice(2026)
    calendar = [(FIRST_DAY + datetime.timedelta(days=n), SEASON[month_index(FIRST_DAY + datetime.timedelta(days=n))]) for n in range(DAYS)]
    rows, sold = [], []
    for day in sorted(dice.pick(calendar)[0] for _ in range(ROWS)):
        order_id = f"SO-{10001 + len(rows)}"
        if len(sold) > 50 and dice.chance(0.02):  # a refund of something that was sold before
            region, name, bought, price = sold[dice.below(len(sold))]
            back = 1 + dice.below(bought)
            rows.append([order_id, day.isoformat(), region, name, str(-back), str(price), "refunded"])
            continue
        region = "" if dice.chance(0.012) else dice.pick(REGIONS)[0]
        name, price, _ = dice.pick(PRODUCTS)
        if dice.chance(0.08):
            price = price * 85 // 100  # a promotion
        quantity = 1 + (dice.below(3) if dice.chance(0.6) else 0) + (dice.below(24) if dice.chance(0.04) else 0)
        status = dice.pick([("shipped", 80), ("paid", 14), ("cancelled", 6)])[0]
        row = [order_id, day.isoformat(), region, name, str(quantity), str(price), status]
        if dice.chance(0.006):
            row[5] = "" if dice.chance(0.7) else "n/a"
        elif dice.chance(0.004):
            row[4] = ""
        elif dice.chance(0.001):
            row[1] = ""
        elif status != "cancelled":
            sold.append((region, name, quantity, price))
        rows.append(row)
    return rows


def expected_report(rows):
    """The report over the whole file with the five best products."""
    skipped = {"incomplete": 0, "out_of_range": 0, "cancelled": 0}
    orders = revenue = refunds = 0
    regions, months, products = {}, {}, {}
    for _, date, region, product, quantity, price, status in rows:
        if not date or not quantity or not price.isdigit():
            skipped["incomplete"] += 1
            continue
        if status == "cancelled":
            skipped["cancelled"] += 1
            continue
        region, amount = region or "(none)", int(quantity) * int(price)
        orders, revenue, refunds = orders + 1, revenue + amount, refunds + min(amount, 0)
        for key, table in ((region, regions), (product, products)):
            table.setdefault(key, collections.Counter()).update(orders=1, quantity=int(quantity), revenue_cents=amount)
        month = months.setdefault(date[:7], {"orders": 0, "revenue_cents": 0, "regions": collections.Counter()})
        month["orders"] += 1
        month["revenue_cents"] += amount
        month["regions"][region] += amount
    best = sorted(products.items(), key=lambda item: (-item[1]["revenue_cents"], item[0]))[:5]
    return {
        "file": "orders.csv",
        "rows": len(rows),
        "orders": orders,
        "skipped": skipped,
        "revenue_cents": revenue,
        "refunds_cents": refunds,
        "regions": [{"region": name, "orders": r["orders"], "revenue_cents": r["revenue_cents"]} for name, r in sorted(regions.items())],
        "months": [{"month": name, **m, "regions": dict(sorted(m["regions"].items()))} for name, m in sorted(months.items())],
        "top_products": [{"product": name, "quantity": p["quantity"], "revenue_cents": p["revenue_cents"]} for name, p in best],
    }


def main():
    rows = make_rows()
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(rows)
    report = json.dumps(expected_report(rows), ensure_ascii=False, indent=2) + "\n"
    stale = []
    for name, text in (("orders.csv", out.getvalue()), ("orders.expected.json", report)):
        path, data = HERE / name, text.encode()
        if "--check" in sys.argv[1:]:
            if not path.exists() or path.read_bytes() != data:
                stale.append(name)
        else:
            path.write_bytes(data)
    if stale:
        sys.exit(f"make_orders.py: out of date: {', '.join(stale)}; run it without --check")


if __name__ == "__main__":
    main()
