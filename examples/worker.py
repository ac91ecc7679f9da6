#!/usr/bin/env python3
"""A worker with the client of clients/python/punctual.py, which is one file and the standard library alone.

    python3 examples/worker.py --queue reports

It does one job at a time (start more processes for more), makes the report of report.py for kind `report.render`, and fails
any other kind for good. PUNCTUAL_URL is the server (default http://127.0.0.1:8080), PUNCTUAL_TOKEN a bearer token, if needed.
SIGTERM or Ctrl-C: a job in hand goes back to the queue at once and is not counted as an attempt; exit 0.
"""

import argparse
import logging
import pathlib
import sys

sys.dont_write_bytecode = True  # leave no __pycache__ beside the examples
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "clients" / "python"))
import punctual
import report


def render(job, context):
    """The work itself, with progress on the way."""

    def tick(percent, message):
        context.progress(percent, message)
        context.check()

    if job["kind"] != "report.render":
        raise punctual.Fail(f"this worker knows only report.render, not {job['kind']}; see which worker is for it", "bad-input")
    try:
        return report.render(job["payload"], tick)
    except report.BadInput as error:  # bad input stays bad; anything else may go better at the next attempt
        raise punctual.Fail(str(error), "bad-input") from error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A Punctual worker for report.render.")
    parser.add_argument("--queue", action="append", required=True, help="may be given several times; the first goes first")
    parser.add_argument("--lease", type=int, default=30, help="seconds between two signs of life at most, 1 to 3600 (default 30)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="worker.py: %(message)s")
    try:
        punctual.Worker(punctual.Client(), arguments.queue, render, lease=arguments.lease, grace=0).run()
    except punctual.Refused as error:
        sys.exit(f"worker.py: the server refused this worker: {error}")
    except punctual.PunctualError as error:
        sys.exit(f"worker.py: {error}")
