#!/usr/bin/env python3
"""What docs/openapi.json describes and no test has seen.

    python3 tests/described.py docs/openapi.json SEEN

SEEN is the file that the tests wrote to (DESCRIBED_SEEN): a line for each answer, "get /path 200",
and the code when it was a problem. Fails when something described was never seen and has no reason
below, and when a reason below is not needed any more.
"""

import json
import re
import sys

# What no test of the API can bring about from outside, and why. A pattern over "get /path 400 code".
# What is "seen for some" must have been seen at some other address.
SOME = "every call to the store may answer it: seen for some"
REASONS = [
    (r" 500 internal-error$", "there is no request that does this, or it would be mended"),
    (r" 503 storage-(unavailable|full)$", SOME),
    (r" 503 (overloaded|task-hung)$", "made in tests of the parts"),
]

# Headers of every answer, of every one with tracing on, and of every one of a token with a rate.
EVERYWHERE = {"x-request-id", "cache-control", "traceresponse", "server-timing",
              "ratelimit-policy", "ratelimit"}


def main():
    document, seen_file = sys.argv[1:3]
    with open(document, encoding="utf-8") as file:
        document = json.load(file)
    with open(seen_file, encoding="utf-8") as file:
        seen = {line.strip() for line in file}

    described = set()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            for status, answer in operation["responses"].items():
                at = f"{method} {path} {status}"
                if "$ref" in answer:
                    # Named for its codes.
                    codes = answer["$ref"].rsplit("/", 1)[1].split(".")[1:]
                    described |= {f"{at} {code}" for code in codes}
                else:
                    described.add(at)
                    own = {name.lower() for name in answer.get("headers", {})} - EVERYWHERE
                    described |= {f"{at} header {name}" for name in own}

    codes = {line.rsplit(" ", 1)[1] for line in seen}
    never = sorted(described - seen)
    needed = set()
    bare = []
    for line in never:
        code = line.rsplit(" ", 1)[1]
        fitting = [pattern for pattern, why in REASONS
                   if re.search(pattern, line) and (why != SOME or code in codes)]
        needed.update(fitting)
        if not fitting:
            bare.append(line)
    idle = [pattern for pattern, _ in REASONS if pattern not in needed]
    print(f"{len(described)} answers and headers are described: {len(described) - len(never)} were seen, "
          f"{len(never) - len(bare)} need not be")
    for line in bare:
        print(f"described and never seen: {line}")
    for pattern in idle:
        print(f"not needed any more: {pattern}")
    sys.exit(1 if bare or idle else 0)


if __name__ == "__main__":
    main()
