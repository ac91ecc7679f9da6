"""What `punctual.py` makes of a server that answers as a script tells it, and of wrong words."""

import contextlib
import datetime
import decimal
import http.server
import json
import threading
import time
import types
import unittest
from unittest import mock

import punctual

JOB = {"job_id": "j1", "status": "pending", "done": False, "version": 1}
DONE = {**JOB, "status": "completed", "done": True, "version": 2}


class Server:
    """Gives each request to `script`, which answers (status, headers, body)."""

    def __init__(self, script):
        outer = self
        self.seen = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                size = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(size) or b"null")
                outer.seen.append((self.path, body, dict(self.headers)))
                status, headers, answer = script(self.path, body)
                answer = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                with contextlib.suppress(OSError):  # nobody may be waiting any more
                    self.send_response(status)
                    for name, value in {"Content-Length": str(len(answer)), **headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(answer)

            do_GET = do_POST

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def count(self, part):
        return sum(part in path for path, _, _ in list(self.seen))


def answers(*script):
    """One after the other, the last for good."""
    left = list(script)
    return lambda path, body: left.pop(0) if len(left) > 1 else left[0]


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Case(unittest.TestCase):
    def server(self, script):
        server = Server(script)
        self.addCleanup(server.http.server_close)
        self.addCleanup(server.http.shutdown)
        return server

    def client(self, *script, **options):
        return punctual.Client(self.server(answers(*script)).url, "t", **options)

    def stop_the_clock(self):
        clock = Clock()
        patch = mock.patch.object(punctual, "time", clock)
        patch.start()
        self.addCleanup(patch.stop)
        return clock


class Waiting(Case):
    def test_a_look_is_held_no_longer_than_what_is_left_after_the_pause(self):
        clock = self.stop_the_clock()
        server = self.server(answers((200, {"Retry-After": "25"}, JOB), (200, {}, DONE)))
        client = punctual.Client(server.url)
        job = client.wait(client.look("j1"), timeout=30)
        self.assertTrue(job.done)
        self.assertEqual(server.seen[1][2]["Prefer"], "wait=5")
        self.assertLessEqual(clock.now, 1030)

    def test_a_short_wait_is_one_held_look(self):
        released = threading.Event()
        self.addCleanup(released.set)

        def hold(path, body):
            released.wait(20)
            return 200, {}, DONE

        server = self.server(hold)
        job = punctual.Job(JOB)
        job.retry_after = 0.0
        self.assertIs(punctual.Client(server.url).wait(job, timeout=0.9), job)
        self.assertEqual([headers["Prefer"] for _, _, headers in server.seen], ["wait=1"])

    def test_a_dead_server_leaves_what_was_last_seen(self):
        clock = self.stop_the_clock()
        client = punctual.Client(nobody(), retry_for=8)
        job = punctual.Job(JOB)
        self.assertIs(client.wait(job, timeout=2), job)
        self.assertLessEqual(clock.now, 1002.1)
        with self.assertRaises(punctual.Unreachable):
            client.wait(job, timeout=60)
        with self.assertRaises(punctual.Unreachable):
            client.wait("j1", timeout=2)  # nothing was seen

    def test_look_is_tried_again(self):
        busy = (503, {"Retry-After": "0"}, {"code": "overloaded"})
        self.assertTrue(self.client(busy, busy, (200, {}, DONE)).look("j1").done)


class Answers(Case):
    def test_what_is_no_servers_answer_is_unreadable(self):
        page = (200, {"Content-Type": "text/html"}, b"<html>")
        for answer in [page, (200, {}, []), (200, {}, {}), (200, {}, b""), (204, {}, b"")]:
            client = self.client(answer)
            for call in [
                lambda: client.submit("k"),
                lambda: client.look("j1"),
                lambda: client.wait("j1"),
                lambda: client.cancel("j1"),
            ]:
                with self.assertRaises(punctual.Unreadable):
                    call()

    def test_a_redirect_is_named_and_not_followed(self):
        client = self.client((308, {"Location": "https://jobs.example/v1/jobs"}, b""))
        with self.assertRaisesRegex(punctual.Unreadable, "308 and points to https://jobs.example"):
            client.submit("k")

    def test_results_are_json_when_they_say_exactly_that(self):
        for kind, body, result in [
            ("application/json", b"[1]", [1]),
            ("application/geo+json; charset=utf-8", b"{}", {}),
            ("application/x-ndjson", b"1\n2\n", b"1\n2\n"),
            ("text/plain", b"1", b"1"),
        ]:
            self.assertEqual(self.client((200, {"Content-Type": kind}, body)).result("j1"), result)

    def test_a_result_elsewhere_is_fetched_without_the_token(self):
        there = self.server(answers((200, {"Content-Type": "application/json"}, b"7")))
        client = self.client((303, {"Location": there.url + "/r"}, b""))
        self.assertEqual(client.result("j1"), 7)
        self.assertNotIn("Authorization", there.seen[0][2])

    def test_a_result_that_cannot_be_fetched_is_an_error_of_ours(self):
        gone = self.server(answers((410, {}, b"gone")))
        for location, error in [
            (nobody() + "/r", punctual.Unreachable),
            (gone.url, punctual.Refused),
            ("file:///etc/hostname", punctual.Unreadable),
            ("", punctual.Unreadable),
        ]:
            client = self.client((303, {"Location": location}, b""), retry_for=0)
            with self.assertRaises(error):
                client.result("j1")

    def test_a_refusal_says_when_to_come_back(self):
        foreign = {"code": "queue-full", "errors": [1, {"code": 2}]}
        refused = self.client((503, {"Retry-After": "12"}, foreign), retry_for=0)
        with self.assertRaisesRegex(punctual.Refused, r"\(503 queue-full, Retry-After: 12 s\)$"):
            refused.submit("k")


class Words(Case):
    def test_wrong_words_are_refused_before_anything_is_sent(self):
        server = self.server(answers((200, {}, DONE)))
        client = punctual.Client(server.url)
        handler = {"k": lambda job, context: None}
        for call in [
            lambda: client.submit("k", key=""),
            lambda: client.submit("k", key="é"),
            lambda: client.submit("k", key="a\nb"),
            lambda: client.submit("k", {1, 2}),
            lambda: client.submit("k", float("nan")),
            lambda: punctual.Client(server.url, "a\nb"),
            lambda: punctual.Worker(client, ["q"], {}),
            lambda: punctual.Worker(client, "q", handler),
            lambda: punctual.Worker(client, [], handler),
            lambda: punctual.Worker(client, ["q"], handler, lease="soon"),
            lambda: punctual.Context().progress("half"),
            lambda: punctual.Fail("no", retry_after="soon"),
        ]:
            with self.assertRaises(punctual.Invalid):
                call()
        for url in ["127.0.0.1:8080", "localhost", "http://", "http://a:x", "http://a b", "ftp://a"]:
            with self.assertRaisesRegex(punctual.Invalid, "write it like http://"):
                punctual.Client(url)
        self.assertEqual(server.seen, [])


class Working(Case):
    """Workers, whose leases last as short as a lease may."""

    def work(self, jobs, handler, beat=None, settle=None, grant=None):
        """Works until `jobs` are used up and everything is over; answers what the server saw."""
        claims, start = [[job] for job in jobs], time.time()

        def moment(seconds):
            at = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
            return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

        def script(path, body):
            if path == "/v1/claims":
                granted = claims.pop(0) if claims else []
                if granted and grant:
                    grant()
                now = time.time()
                for job in granted:
                    job.update(lease_expires_at=moment(now + job["lease_seconds"]))
                    job.update(timeout_at=moment(now + job.pop("timeout", 3600)))
                directive = "continue" if granted else "drain"
                return 200, {}, {"jobs": granted, "directive": directive}
            if path.endswith("/heartbeat"):
                good = {"lease_expires_at": moment(time.time() + 1), "cancel_requested": False}
                return (beat and beat()) or (200, {}, good)
            if path == "/v1/settlements":
                done = [{"job_id": s["job_id"], "ok": True} for s in body["settlements"]]
                return 200, {}, {"results": done, "jobs": [], "directive": "continue"}
            return 204, {}, b""

        server = self.server(script)
        punctual.Worker(punctual.Client(server.url), ["q"], handler, worker_id="w").run()
        self.assertEqual(server.count("goodbye"), 1)
        return server

    def settled(self, server):
        sent = [body for path, body, _ in server.seen if path == "/v1/settlements"]
        return [settlement for body in sent for settlement in body["settlements"]]

    def test_work_stops_before_its_time_out(self):
        told = []

        def handler(job, context):
            try:
                context.sleep(600)
            finally:
                told.append(context.reason)

        server = self.work([{**LEASED, "timeout": 2}], handler)
        self.assertEqual(told, ["timed-out"])
        self.assertGreater(server.count("heartbeat"), 1)
        (settled,) = self.settled(server)
        self.assertEqual((settled["outcome"], settled["retryable"]), ("failed", True))
        self.assertEqual(settled["error"]["type"], "attempt-timeout")

    def test_heartbeats_go_on_whatever_they_are_answered(self):
        page = (200, {"Content-Type": "text/html"}, b"<html>")
        bad = [page, (200, {}, b""), (200, {}, {}), (307, {"Location": "/"}, b""), (200, {}, [])]
        enough = threading.Event()

        def beat():
            if bad:
                return bad.pop()
            enough.set()
            return None

        def handler(job, context):
            while not enough.is_set():
                context.progress(decimal.Decimal(10))
                if context.reason in ("lease-ending", "lost"):
                    return "stopped"
                enough.wait(0.01)
            return "kept"

        # Its lease is long enough for all of them.
        server = self.work([{**LEASED, "lease_seconds": 20}], handler, beat)
        self.assertEqual(self.settled(server)[0]["result"], "kept")
        percents = [body["progress"]["percent"] for path, body, _ in server.seen if "progress" in (body or {})]
        self.assertIn(10.0, percents)

    def test_only_an_answer_with_a_lease_extends_it(self):
        for answer in [(200, {}, b""), (204, {}, b""), (200, {}, {}), (307, {}, b"")]:
            worker = types.SimpleNamespace(client=self.client(answer), _obey=lambda answer: None)
            lease = punctual._Lease(worker, {**LEASED, "lease_seconds": 30}, time.monotonic())
            before = lease.confirm_by
            self.assertFalse(lease.beat())
            self.assertEqual((lease.confirm_by, lease.over.is_set()), (before, False))

    def test_a_lease_that_cannot_be_confirmed_is_not_worked_on(self):
        run = []

        def late():
            time.sleep(0.5)  # more than a third of the lease

        down = (503, {"Retry-After": "0"}, {"code": "storage-unavailable"})
        server = self.work([dict(LEASED)], lambda job, context: run.append(1), lambda: down, grant=late)
        self.assertEqual((run, self.settled(server)), ([], []))
        self.assertGreater(server.count("heartbeat"), 0)
        claims = [body for path, body, _ in server.seen if path == "/v1/claims"]
        self.assertEqual(claims[-1]["held"], [], "so the server gives it to another")

    def test_a_lease_that_is_confirmed_late_is_worked_on(self):
        down = [(503, {"Retry-After": "0"}, {"code": "storage-unavailable"})]
        server = self.work(
            [{**LEASED, "lease_seconds": 3, "timeout": 3600}],
            lambda job, context: 1,
            lambda: down.pop() if down else None,
            grant=lambda: time.sleep(1.1),
        )
        self.assertEqual(self.settled(server)[0]["outcome"], "completed")
        self.assertEqual(server.count("heartbeat"), 2)

    def test_the_clock_counts_even_when_nobody_tells(self):
        context = punctual.Context()
        context.check()
        context._end = (time.monotonic(), "lease-ending")
        for call in [context.check, lambda: context.sleep(600)]:
            with self.assertRaises(punctual.Stopped):
                call()
        self.assertEqual(context.reason, "lease-ending")

    def test_a_short_time_out_is_not_taken_for_a_short_lease(self):
        worker = types.SimpleNamespace()
        leased = {**LEASED, "lease_seconds": 30, "lease_expires_at": "2027-01-01T00:00:30Z"}
        leased["timeout_at"] = "2027-01-01T00:00:02.000Z"
        lease = punctual._Lease(worker, leased, 1000.0)
        self.assertEqual(lease.context._end, (1001.75, "timed-out"))
        self.assertEqual(lease.confirm_by, 1027.0)
        lease._extended(1001.0, lease._left("2027-01-01T00:00:30.500Z"))
        self.assertEqual(lease.context._end[0], 1002.25, "the claim had been on its way for long")
        lease._extended(1001.5, lease._left("2027-01-01T00:00:40Z"))
        self.assertEqual(lease.context._end, (1002.25, "timed-out"), "nothing extends it")


LEASED = {"job_id": "j1", "lease_token": "t", "lease_seconds": 1, "kind": "k", "attempt": 1, "payload": None}


def nobody():
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        return f"http://127.0.0.1:{server.server_address[1]}"


if __name__ == "__main__":
    unittest.main()
