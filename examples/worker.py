#!/usr/bin/env python3
"""A worker in Python's standard library alone. The loop is `work`, some forty lines; `beat` and `post` are thirty more.

    python3 examples/worker.py --queue reports

It does one job at a time (start more processes for more), makes the report of report.py for kind `report.render`, and fails
any other kind for good. PUNCTUAL_URL is the server (default http://127.0.0.1:8080), PUNCTUAL_TOKEN a bearer token, if needed.
SIGTERM or Ctrl-C: a job in hand goes back to the queue at once and is not counted as an attempt; exit 0.
"""

import argparse
import http.client
import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid

sys.dont_write_bytecode = True  # leave no __pycache__ beside the examples
import report

SERVER = os.environ.get("PUNCTUAL_URL", "http://127.0.0.1:8080").rstrip("/")
HEADERS = {"Content-Type": "application/json"}
if os.environ.get("PUNCTUAL_TOKEN"):
    HEADERS["Authorization"] = f"Bearer {os.environ['PUNCTUAL_TOKEN']}"
WORKER_ID = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"  # one per process, never used again


class Stop(Exception):
    """Drop the work in hand: the job is to be cancelled, or it is not ours any more."""


def log(text):
    print(f"worker.py: {text}", file=sys.stderr, flush=True)


def post(path, body, patience=float("inf")):
    """One POST, repeated until it is answered. That is safe: a settlement counts once, and `held` gives back lost claims."""
    end, backoff = time.monotonic() + patience, 1
    request = urllib.request.Request(SERVER + path, json.dumps(body, ensure_ascii=False).encode(), HEADERS)
    while True:
        try:
            with urllib.request.urlopen(request, timeout=max(1, min(60, end - time.monotonic()))) as response:
                return json.loads(response.read() or b"{}")
        except (OSError, http.client.HTTPException) as error:
            code, asked = getattr(error, "code", 503), getattr(error, "headers", None) or {}
            if code < 500 and code != 429:  # an HTTPError that says no, not "not now"
                raise
            pause = int(asked["Retry-After"]) if asked.get("Retry-After", "").isdecimal() else backoff
            if time.monotonic() + pause > end:
                raise TimeoutError(f"POST {path}: {error}") from error
            log(f"POST {path}: {error}; again in {pause} s")
        time.sleep(pause)
        backoff = min(backoff * 2, 30)


def beat(job, state, over):
    """Keeps the lease of `job` until `over`, carries its progress, and hears whether to go on."""
    every = job["lease_seconds"] / 3
    while not over.wait(every):
        progress = {"progress": state["progress"]} if "progress" in state else {}
        try:
            answer = post(f"/v1/jobs/{job['job_id']}/heartbeat", {"lease_token": job["lease_token"], **progress}, every)
            if answer["cancel_requested"]:
                state["stop"] = "cancelled"
        except urllib.error.HTTPError as error:  # 409: taken back, perhaps somebody else has it; nobody wants our outcome
            state["stop"] = "lost"
            log(f"{job['job_id']}: heartbeat: {error}")
        except OSError as error:  # no answer is no reason to stop: the lease is ours until the server has taken it back
            log(f"{job['job_id']}: heartbeat: {error}")


def render(job, state):
    """The work itself, with progress on the way."""

    def tick(percent, message):
        state["progress"] = {"percent": percent, "message": message}
        if "stop" in state:
            raise Stop

    if job["kind"] != "report.render":
        raise report.BadInput(f"this worker knows only report.render, not {job['kind']}; see which worker is for it")
    return report.render(job["payload"], tick)


def settle(job, outcome, **more):
    return {"job_id": job["job_id"], "lease_token": job["lease_token"], "outcome": outcome, **more}


def work(queues, lease_seconds):
    """Claims, works and settles until told to stop."""
    done = []  # settlements to hand in
    claim = {"worker_id": WORKER_ID, "queues": queues, "lease_seconds": lease_seconds, "wait_seconds": 20, "hostname": socket.gethostname()}
    try:
        while True:
            # What the server thinks we hold and `held` does not list was in an answer that never came: it goes to others now.
            claim["held"] = [settlement["job_id"] for settlement in done]
            if done:  # the outcome of the last job and the claim of the next: one round trip, one commit
                answer = post("/v1/settlements", {"worker_id": WORKER_ID, "settlements": done, "claim": claim})
            else:
                answer = post("/v1/claims", claim)
            problems = {result["job_id"]: result["problem"] for result in answer.get("results", []) if not result["ok"]}
            for job_id, problem in problems.items():  # such as lease-lost: that work is dropped
                log(f"{job_id}: not settled: {problem['code']}: {problem.get('detail', problem['title'])}")
            # But an outcome that will never be taken (too large) must be told as a failure, or the job would come back for ever.
            never = [settlement for settlement in done if problems.get(settlement["job_id"], {}).get("status") in (413, 422)]
            done = [settle(s, "failed", error={"type": problems[s["job_id"]]["code"], "message": "the outcome was refused"}, retryable=False) for s in never]
            for job in answer["jobs"]:
                log(f"{job['job_id']}: {job['kind']}, attempt {job['attempt']}/{job['max_attempts']}")
                state, over = ({"stop": "cancelled"} if job["job_id"] in answer["cancel"] else {}), threading.Event()
                threading.Thread(target=beat, args=(job, state, over), daemon=True).start()
                try:
                    outcome = settle(job, "completed", result=render(job, state))
                except Stop:
                    outcome = settle(job, state["stop"])
                except Exception as error:  # bad input stays bad; anything else may go better at the next attempt
                    bad = isinstance(error, report.BadInput)
                    about = {"type": "bad-input" if bad else type(error).__name__, "message": str(error)}
                    outcome = settle(job, "failed", error=about, retryable=not bad)
                finally:
                    over.set()
                log(f"{job['job_id']}: {outcome['outcome']}")
                if outcome["outcome"] != "lost":
                    done.append(outcome)
            if answer["directive"] == "drain":
                return
    finally:  # also when a signal ends it, at any point: hand in what is done, give back what is not
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            if done:
                post("/v1/settlements", {"worker_id": WORKER_ID, "settlements": done}, 5)
            post(f"/v1/workers/{WORKER_ID}/goodbye", {}, 5)
            log("goodbye")
        except OSError as error:
            log(f"no goodbye ({error}); what is in hand comes back when its lease expires")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A Punctual worker for report.render.")
    parser.add_argument("--queue", action="append", required=True, help="may be given several times; the first goes first")
    parser.add_argument("--lease", type=int, default=30, help="seconds between two signs of life at most, 1 to 3600 (default 30)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    try:
        work(arguments.queue, arguments.lease)
    except urllib.error.HTTPError as error:
        sys.exit(f"worker.py: the server refused {error.url}: {error}: {error.read().decode(errors='replace')}")
