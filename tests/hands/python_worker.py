"""The worker of the tests: its kinds do what their names say."""

import logging
import os
import sys

import punctual


def gate(job, context):
    """Lasts until the file `go` is there, and not longer than the place itself."""
    with open("started", "a") as started:
        started.write(job["job_id"] + "\n")
    context.progress(40, "at the gate")
    while not os.path.exists("go") and os.path.exists("here"):
        try:
            context.sleep(0.05)
        except punctual.Stopped:
            with open("stopped", "w") as stopped:
                stopped.write(context.reason)
            raise
    return job["payload"]


def never(job, context):
    raise punctual.Fail("no such order", type="bad-order")


def later(job, context):
    if job["attempt"] == 1:
        raise OSError("printer is busy")
    return {"root": job["root_job_id"]}


def unwritable(job, context):
    return {1, 2}


kinds = {"gate": gate, "never": never, "later": later, "unwritable": unwritable, "huge": lambda job, context: "x" * (17 << 20)}
logging.basicConfig(level=logging.INFO, format="%(message)s")
options = {name: float(value) for name, value in (word.split("=") for word in sys.argv[1:])}
punctual.Worker(punctual.Client(), ["default"], kinds, **options).run()
