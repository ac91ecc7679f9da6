"""The client of the tests: submits, waits, prints what came of it."""

import json
import sys

import punctual

kind, payload, key = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
client = punctual.Client()
job = client.submit(kind, payload, key=key, max_attempts=2)
print(json.dumps({"id": job.id, "replayed": job.replayed}), flush=True)
job = client.wait(job, timeout=120, on_change=lambda seen: print(json.dumps({"seen": seen["status"]}), flush=True))
try:
    outcome = {"result": client.result(job)}
except punctual.Refused as refused:
    outcome = {"code": refused.code, "gone": refused.gone}
print(json.dumps({"status": job["status"], **outcome}), flush=True)
