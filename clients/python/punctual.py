#!/usr/bin/env python3
"""A client and a worker for Punctual: one file, the standard library alone, Python 3.9 or newer.

Copy it beside your program.

    client = punctual.Client("http://127.0.0.1:8080")
    job = client.submit("report.render", {"order": 7}, key="report-order-7")
    job = client.wait(job, timeout=600)
    if job.completed:
        print(client.result(job))

    def render(job, context):
        for page in range(job["payload"]["pages"]):
            context.check()                       # raises Stopped when the work should stop
            context.progress(page, f"page {page}")
        return {"pages": page + 1}

    punctual.Worker(client, ["reports"], {"report.render": render}).run()

The address and the token come from PUNCTUAL_URL and PUNCTUAL_TOKEN when they are not given.
`python3 punctual.py --help` shows both at work.
"""

from __future__ import annotations

import argparse
import datetime
import email.utils
import http.client
import json
import logging
import math
import os
import random
import signal
import socket
import sys
import threading
import time
import traceback
import urllib.error
import urllib.parse
import urllib.request
import uuid
from email.message import Message
from typing import Any, Callable, Iterable, Mapping, Optional, Tuple, Union

log = logging.getLogger("punctual")

PATIENCE = 30.0  # seconds for one exchange, beyond what the server is asked to hold it
HOLD = 20  # seconds that the server is asked to hold a look or a claim: proxies cut at 60
MAX_DELAY = 5.0


# -- what can go wrong ---------------------------------------------------------------------------


class PunctualError(Exception):
    """Why a call had no useful answer."""

    retry_after: Optional[float] = None

    @property
    def transient(self) -> bool:
        """Whether the same call may succeed later."""
        return False


class Unreachable(PunctualError):
    """No answer: the request may or may not have been carried out."""

    @property
    def transient(self) -> bool:
        return True


class Unreadable(PunctualError):
    """An answer that no Punctual server gives: is the address right, is something in between?

    As with `Unreachable`, the request may or may not have been carried out.
    """


class Invalid(PunctualError, ValueError):
    """What the program gave cannot be used or sent; nothing was."""


class Refused(PunctualError):
    """The server said no; `code` says why (see docs/API.md)."""

    def __init__(self, status: int, problem: Mapping[str, Any], retry_after: Optional[float]):
        self.status, self.problem, self.retry_after = status, problem, retry_after
        self.code: str = str(problem.get("code", ""))
        parts = [str(problem.get("detail") or problem.get("title") or "the server refused")]
        errors = problem.get("errors")
        for error in errors if isinstance(errors, list) else []:
            if isinstance(error, dict) and "detail" in error:
                parts.append(f"{error.get('pointer')}: {error['detail']}")
        labels = f"{status} {self.code}".rstrip()
        if retry_after is not None:
            labels += f", Retry-After: {retry_after:g} s"
        super().__init__(f"{'; '.join(parts)} ({labels})")

    @property
    def transient(self) -> bool:
        return self.status in (408, 429, 502, 503, 504) or self.code == "idempotency-in-flight"

    @property
    def gone(self) -> bool:
        """410: the job was there and its outcome is no longer kept. Do not repeat it blindly."""
        return self.status == 410


class Stopped(Exception):
    """Raised by `Context.check`: the work should stop. Let it pass."""


class Fail(Exception):
    """Raise it to fail the attempt; any other exception does so too, and may be retried."""

    def __init__(
        self,
        message: str,
        type: str = "failed",
        retryable: bool = False,
        retry_after: Optional[float] = None,
    ):
        super().__init__(message)
        self.type, self.retryable = type, retryable
        self.retry_after = None if retry_after is None else _number("retry_after", retry_after)


class _Leave(BaseException):
    """A signal interrupts what the worker is at."""


# -- the client ----------------------------------------------------------------------------------


class Job(dict):
    """A job as one answer showed it: its members, and what that answer's headers said."""

    etag: Optional[str] = None
    retry_after: Optional[float] = None
    replayed: bool = False

    @property
    def id(self) -> str:
        return self["job_id"]

    @property
    def done(self) -> bool:
        """Loop on this, never on a list of statuses."""
        return self["done"]

    @property
    def completed(self) -> bool:
        return self["status"] == "completed"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The token goes to the configured server and nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Client:
    """A client of one server. Safe to share between threads."""

    def __init__(
        self,
        url: Optional[str] = None,
        token: Optional[str] = None,
        retry_for: float = 30.0,
    ):
        """`retry_for`: seconds that calls are tried again without a useful answer."""
        url = url or os.environ.get("PUNCTUAL_URL") or "http://127.0.0.1:8080"
        host = _host(url)
        self.url, self.retry_for = url.rstrip("/"), retry_for
        self._token = token or os.environ.get("PUNCTUAL_TOKEN")
        if self._token and not _printable(self._token):
            raise Invalid("a token (PUNCTUAL_TOKEN) is one line of ASCII, and this one is not")
        local = host in ("localhost", "::1") or host.startswith("127.")
        proxies = [urllib.request.ProxyHandler({})] if local else []
        self._opener = urllib.request.build_opener(_NoRedirect, *proxies)

    def submit(
        self,
        kind: str,
        payload: Any = None,
        *,
        queue: Optional[str] = None,
        key: Optional[str] = None,
        wait: int = 0,
        **members: Any,
    ) -> Job:
        """Submits a job, once, whatever happens on the way.

        It is tried again under the same idempotency key when there is no answer or the server is
        busy. Give a `key` of your own to make it one job across restarts of your program too.
        `wait` asks the server to hold the answer for up to so many seconds. `members` are others
        of the request: priority, delay_seconds, max_attempts, tags, …
        """
        body = {"kind": kind, "queue": queue, "payload": payload, **members}
        body = {name: value for name, value in body.items() if value is not None}
        headers = {"Idempotency-Key": _quoted(str(uuid.uuid4()) if key is None else key)}
        headers["Prefer"] = f"wait={wait}" if wait else "respond-async"

        def once() -> Job:
            return self._job("POST", "/v1/jobs", body, headers, PATIENCE + wait)

        return self._patiently(once)

    def look(self, job: Union[Job, str]) -> Job:
        """The job as it is now."""
        return self._patiently(lambda: self._job("GET", f"/v1/jobs/{_id(job)}"))

    def wait(
        self,
        job: Union[Job, str],
        timeout: Optional[float] = None,
        on_change: Callable[[Job], Any] = lambda job: None,
    ) -> Job:
        """Waits until a job is done or `timeout` has passed; `done` of what it returns tells which.

        It looks when the server's Retry-After says so, and then lets the server hold the look.
        """
        end = math.inf if timeout is None else time.monotonic() + timeout
        if not isinstance(job, Job):
            path = f"/v1/jobs/{_id(job)}"
            job = self._patiently(lambda: self._job("GET", path, timeout=_until(end)), end)
        while not job.done:
            left = end - time.monotonic()
            if left <= 0:
                break
            # Advice that reaches beyond the end leaves time for a last look.
            time.sleep(min(left, max(0.1, min(job.retry_after or 1.0, left - 1))))
            try:
                seen = self._patiently(lambda: self._look_again(job, end), end)
            except PunctualError as error:
                if not error.transient or time.monotonic() < end:
                    raise
                break
            if seen["version"] != job["version"]:
                on_change(seen)
            job = seen
        return job

    def result(self, job: Union[Job, str]) -> Any:
        """The result of a completed job: a value when it is JSON, else bytes.

        `Refused` says what else there is: result-not-ready, job-failed, job-cancelled, or gone.
        """
        path = f"/v1/jobs/{_id(job)}/result"
        status, headers, body = self._patiently(lambda: self._send("GET", path, also=303))
        if status == 303:
            location = headers.get("Location") or ""
            headers, body = self._patiently(lambda: _elsewhere(location))
        kind = headers.get_content_type()
        is_json = kind == "application/json" or kind.endswith("+json")
        return _parsed(body) if is_json else body

    def cancel(self, job: Union[Job, str], reason: Optional[str] = None) -> Job:
        """Cancels a job; when it is running, its worker is asked to stop."""
        body = {"reason": reason} if reason else {}
        return self._patiently(lambda: self._job("POST", f"/v1/jobs/{_id(job)}/cancel", body))

    def post(self, path: str, body: Any, timeout: float = PATIENCE) -> dict:
        """One POST and the object that it is answered with; what the worker is made of."""
        return _object(self._send("POST", path, body, timeout=timeout)[2])

    def _look_again(self, job: Job, end: float) -> Job:
        left = end - time.monotonic()
        # Rounded up, and cut at the end: what happens until then is seen.
        hold = max(0, math.ceil(min(HOLD, left)))
        headers = {"Prefer": f"wait={hold}"} if hold else {}
        if job.etag:
            headers["If-None-Match"] = job.etag
        path, timeout = f"/v1/jobs/{job.id}", _until(end, PATIENCE + hold)
        status, answered, body = self._send("GET", path, None, headers, timeout, also=304)
        if status != 304:
            return _read(answered, body)
        job.retry_after = _retry_after(answered)  # what we have is still true
        return job

    def _job(self, *request: Any, **options: Any) -> Job:
        _, headers, body = self._send(*request, **options)
        return _read(headers, body)

    def _patiently(self, call: Callable[[], Any], end: float = math.inf) -> Any:
        """Repeats a call that is safe to repeat, until it is answered or `retry_for` is over, and
        not beyond `end`."""
        give_up, backoff = time.monotonic() + self.retry_for, _Backoff(MAX_DELAY)
        while True:
            try:
                return call()
            except PunctualError as error:
                now, pause = time.monotonic(), backoff.next(error.retry_after)
                over = now >= end or (now + pause > give_up and give_up < end)
                if not error.transient or over:
                    raise
                log.info("%s; again in %.1f s", error, pause)
            time.sleep(min(pause, end - now))

    def _send(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] = {},
        timeout: float = PATIENCE,
        also: int = 200,
    ) -> Tuple[int, Message, bytes]:
        """One exchange with the server. 2xx and the status `also` come back; others are raised."""
        try:
            data = None if body is None else _json(body)
        except (TypeError, ValueError) as error:
            raise Invalid(f"this cannot be sent as JSON: {error}") from error
        request = urllib.request.Request(self.url + path, data, dict(headers), method=method)
        request.add_header("User-Agent", "punctual-python")
        if data is not None:
            request.add_header("Content-Type", "application/json")
        if self._token:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        status, answered, content = _exchange(self._opener, request, timeout, self.url)
        if status < 300 or status == also:
            return status, answered, content
        if status < 400:
            where = f" and points to {answered['Location']}" if answered["Location"] else ""
            raise Unreadable(f"{self.url} answers {status}{where}; give the server's own address")
        try:
            problem = json.loads(content)
        except ValueError:  # a page of something in between
            problem = None
        if not isinstance(problem, dict):
            problem = {"title": f"the server answered {http.client.responses.get(status, status)}"}
        raise Refused(status, problem, _retry_after(answered))


def _exchange(
    opener: urllib.request.OpenerDirector,
    request: urllib.request.Request,
    timeout: float,
    whom: str,
) -> Tuple[int, Message, bytes]:
    """A request's answer, whatever its status."""
    try:
        try:
            answer = opener.open(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return answer.status, answer.headers, answer.read()
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        why = getattr(error, "reason", None) or error
        raise Unreachable(f"no answer from {whom}: {why}") from error


def _elsewhere(location: str) -> Tuple[Message, bytes]:
    """A result that is not with the server: for everybody who knows the address, so no token."""
    try:
        whom = f"{_host(location)}, which has the result"
    except Invalid as error:
        raise Unreadable(f"the result is at {location!r}, where this client cannot go") from error
    request = urllib.request.Request(location, headers={"User-Agent": "punctual-python"})
    opener = urllib.request.build_opener()
    status, headers, body = _exchange(opener, request, PATIENCE, whom)
    if status >= 300:
        raise Refused(status, {"title": f"no result from {whom}"}, _retry_after(headers))
    return headers, body


def _host(url: str) -> str:
    """The host in an address that requests can go to."""
    try:
        parts = urllib.parse.urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
        _ = parts.port
    except ValueError:  # of urlsplit, or of the port
        fits = False
    if not fits or not _printable(url) or " " in url:
        raise Invalid(f"{url!r} is not an address; write it like http://127.0.0.1:8080")
    return parts.hostname or ""


def _printable(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise Invalid(f"{name} is a number, and {value!r} is not")
    return number


def _until(end: float, longest: float = PATIENCE) -> float:
    return min(longest, max(0.05, end - time.monotonic()))


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise Unreadable(f"the answer is not JSON: {_start(body)}") from error


def _object(body: bytes, *members: str) -> dict:
    value = _parsed(body)
    if not isinstance(value, dict) or not all(name in value for name in members):
        raise Unreadable(f"the answer is not a Punctual server's: {_start(body)}")
    return value


def _start(body: bytes) -> str:
    return repr(_cut(body[:60].decode(errors="replace"), 60)) if body else "it is empty"


def _read(headers: Mapping[str, str], body: bytes) -> Job:
    job = Job(_object(body, "job_id", "status", "done", "version"))
    job.etag, job.retry_after = headers.get("ETag"), _retry_after(headers)
    job.replayed = headers.get("Idempotent-Replayed") == "true"
    return job


def _id(job: Union[Job, str]) -> str:
    return urllib.parse.quote(job if isinstance(job, str) else job.id, safe="")


def _quoted(text: str) -> str:
    if not 1 <= len(text) <= 255 or not _printable(text):
        raise Invalid(f"a key is 1 to 255 characters of printable ASCII, and {text!r} is not")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def _retry_after(headers: Mapping[str, str]) -> Optional[float]:
    """Seconds, or a date less the answer's own, so that this machine's clock does not matter."""
    text = (headers.get("Retry-After") or "").strip()
    if text.isdecimal():
        return float(text)
    try:
        then, now = (email.utils.parsedate_to_datetime(t) for t in (text, headers.get("Date", "")))
        return max(0.0, (then - now).total_seconds())
    except (TypeError, ValueError):
        return None


def _seconds(moment: Any) -> Optional[float]:
    """An RFC 3339 moment by whoever wrote it; only good for what lies between two of them."""
    try:
        return datetime.datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
    except (AttributeError, ValueError):
        return None


class _Backoff:
    """Growing delays, at random up to half shorter, so that many clients do not return together."""

    def __init__(self, longest: float):
        self._next, self._longest = 0.5, longest

    def next(self, asked: Optional[float] = None) -> float:
        """Never less than what the server asked for."""
        full, self._next = self._next, min(self._next * 2, self._longest)
        if asked is not None:
            return asked + min(full, asked) * 0.1 * random.random()
        return full * (1 - 0.5 * random.random())


# -- the worker ----------------------------------------------------------------------------------

# In order of urgency.
_REASONS = ("cancelled", "draining", "timed-out", "lease-ending", "lost")


class Context:
    """An attempt's line to the worker."""

    def __init__(self) -> None:
        self.stopped = threading.Event()  # the work should stop; `reason` says why
        self.reason: Optional[str] = None
        self._end = (math.inf, "")  # when it should stop anyhow, and why
        self._progress: Optional[dict] = None
        self._lock = threading.Lock()

    def check(self) -> None:
        """Raises `Stopped` when the work should stop. Call it between the steps of your work."""
        stop_at, why = self._end
        if time.monotonic() >= stop_at:
            self._tell(why)
        if self.stopped.is_set():
            raise Stopped(self.reason)

    def sleep(self, seconds: float) -> None:
        """Sleeps; raises `Stopped` as soon as the work should stop."""
        end = time.monotonic() + seconds
        self.check()
        while (now := time.monotonic()) < end:
            self.stopped.wait(min(end, self._end[0]) - now)
            self.check()

    def progress(self, percent: Optional[float] = None, message: Optional[str] = None) -> None:
        """Tells the client how far the work is; sent at most once a second, the latest only."""
        report: dict = {}
        if percent is not None:
            report["percent"] = max(0.0, min(100.0, _number("percent", percent)))
        if message is not None:
            report["message"] = _cut(message, 256)
        with self._lock:
            self._progress = report

    def _tell(self, reason: str) -> None:
        with self._lock:
            old = self.reason
            if old is None or _REASONS.index(reason) > _REASONS.index(old):
                self.reason = reason
                self.stopped.set()

    def _take(self) -> Optional[dict]:
        with self._lock:
            report, self._progress = self._progress, None
            return report

    def _give_back(self, report: Optional[dict]) -> None:
        with self._lock:
            self._progress = self._progress or report


class _Lease(threading.Thread):
    """Keeps one lease alive until its outcome is settled, and hears when the work should stop.

    It counts from the moment *before* the request that granted or extended the lease was sent:
    the server began later, so it ends later too. So it does with the attempt's own time-out,
    `timeout_at`, which nothing extends; this machine's time of day does not matter.
    """

    def __init__(self, worker: Worker, job: dict, sent: float):
        super().__init__(name=f"lease of {job['job_id']}", daemon=True)
        self.worker, self.job, self.context = worker, job, Context()
        self.length = max(1.0, float(job["lease_seconds"]))
        self.over = threading.Event()
        self.span = self._left(job.get("lease_expires_at"))  # what the attempt has in all
        self.limit = -math.inf  # when that is over, at the earliest
        self._extended(sent, self.span)
        self._tried = 0.0
        self._backoff = _Backoff(2.0)

    def _left(self, lease_expires_at: Any) -> float:
        """What was left of the attempt's time when the server granted or extended the lease."""
        timeout_at, expires_at = _seconds(self.job.get("timeout_at")), _seconds(lease_expires_at)
        if timeout_at is None or expires_at is None:
            return math.inf
        return max(0.0, timeout_at - (expires_at - self.length))

    def _extended(self, sent: float, left: float) -> None:
        self.due = sent + self.length / 3
        self.confirm_by = sent + self.length - _margin(self.length)
        self.limit = max(self.limit, sent + left)
        last_call = self.limit - _margin(min(self.length, self.span))
        self.context._end = min((last_call, "timed-out"), (self.confirm_by, "lease-ending"))
        self._backoff = _Backoff(2.0)

    def confirm(self, sent: float) -> bool:
        """Whether the work may start. A claim may have been parked for so long that the lease is
        somebody else's by now, or that it is not known how much of the attempt's time is left.
        Then the server is asked, until there is an answer or the lease has ended for us.
        """
        blurred = time.monotonic() > sent + max(0.25, self.span / 10)
        if time.monotonic() > self.due or blurred:
            while not self.beat():
                pause = max(0.05, self.due - time.monotonic())
                late = time.monotonic() + pause >= self.confirm_by
                if late or self.worker._leave_at is not None or self.over.wait(pause):
                    return False
        return not self.over.is_set() and time.monotonic() < self.context._end[0]

    def run(self) -> None:
        while not self.over.wait(self._pause()):
            now = time.monotonic()
            stop_at, why = self.context._end
            if now >= stop_at:
                self.context._tell(why)
            if self.worker._out_of_grace(now):
                self.context._tell("draining")
            news = self.context._progress is not None and now >= self._tried + 1
            if now >= self.due or news:
                self.beat()

    def _pause(self) -> float:
        stop_at = self.context._end[0]
        wake = self.due if self.context.stopped.is_set() else min(self.due, stop_at)
        return max(0.05, min(1.0, wake - time.monotonic()))

    def beat(self) -> bool:
        """One heartbeat: extends the lease, carries progress, hears of a cancel. Whether it did."""
        sent = self._tried = time.monotonic()
        left = self.context._end[0] - sent
        patience = min(self.length / 3, left) if left > 0.1 else self.length / 3
        report = self.context._take()
        body = {"lease_token": self.job["lease_token"], **({"progress": report} if report else {})}
        path = f"/v1/jobs/{self.job['job_id']}/heartbeat"
        try:
            answer = self.worker.client.post(path, body, patience)
            expires_at = answer.get("lease_expires_at")
            if _seconds(expires_at) is None:
                raise Unreadable("the answer to a heartbeat does not say that the lease goes on")
        except Exception as error:  # noqa: BLE001 - whatever it is, this thread must go on
            if isinstance(error, Refused) and error.status in (404, 409, 410):
                # Perhaps somebody else has the job: nobody wants our outcome.
                log.warning("%s: lease lost: %s", self.job["job_id"], error)
                self.context._tell("lost")
                self.over.set()
                return False
            log.warning("%s: heartbeat: %s", self.job["job_id"], error)
            self.context._give_back(report)
            asked = error.retry_after if isinstance(error, PunctualError) else None
            self.due = time.monotonic() + self._backoff.next(asked)
            return False
        self._extended(sent, self._left(expires_at))
        if answer.get("cancel_requested"):
            self.context._tell("cancelled")
        self.worker._obey(answer)
        return True


def _margin(span: float) -> float:
    """What work is given to stop in: a tenth, at least 0.25 s, at most 5 s or a quarter."""
    return min(max(span / 10, 0.25), 5.0, span / 4)


Handler = Callable[[dict, Context], Any]


class Worker:
    """Claims jobs and runs a handler for each, one at a time. For concurrency start several.

    A handler gets the job (`payload`, `kind`, `attempt`, `root_job_id`, `fence`, …) and a
    `Context`; what it returns is the result. An attempt may be repeated, so its effects must be
    safe to repeat: `root_job_id` is the same in each.
    """

    def __init__(
        self,
        client: Client,
        queues: Iterable[str],
        handler: Union[Handler, Mapping[str, Handler]],
        *,
        lease: Optional[float] = None,
        grace: float = 30.0,
        worker_id: Optional[str] = None,
    ):
        """`handler`: one for all kinds, or one for each kind that is to be taken.

        `lease`: seconds until the server gives the job of a silent worker to another (default:
        the queue's). `grace`: seconds after which a job is told to stop when the worker was asked
        to leave. A handler hears that in `check` and `sleep`, and nothing interrupts one that
        calls neither, save a second signal; with a grace of 0 the first.
        """
        if isinstance(queues, str) or not (queues := list(queues)):
            raise Invalid('queues is a list of names, like ["reports"]')
        if isinstance(handler, Mapping) and not handler:
            raise Invalid("no handler, no kind to claim; one function instead takes every kind")
        lease = None if lease is None else _number("lease", lease)
        self.client, self.queues, self.grace, self._lease = client, queues, grace, lease
        self._handlers = dict(handler) if isinstance(handler, Mapping) else None
        self._handler = handler
        name = socket.gethostname()
        self.worker_id = worker_id or f"{name}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._hold = HOLD if lease is None else max(1, min(HOLD, int(lease / 2)))
        self._leave_at: Optional[float] = None
        self._signals = 0
        # A first signal interrupts "idle", and "working" without a grace; a second all but "gone".
        self._mode = "busy"

    def stop(self) -> None:
        """Claim nothing more, finish what runs, then leave. From any thread."""
        if self._leave_at is None:
            self._leave_at = time.monotonic()

    def run(self) -> None:
        """Works until `stop`, the server's "drain", SIGTERM or Ctrl-C. A second signal gives the
        running job back. Raises `Refused` when the server will not have this worker.
        """
        numbers = (signal.SIGTERM, signal.SIGINT)
        ours = threading.current_thread() is threading.main_thread()
        old = [signal.signal(number, self._on_signal) for number in numbers] if ours else []
        try:
            self._work()
        except _Leave:
            pass
        finally:
            self._mode = "gone"
            self._goodbye()
            for number, handler in zip(numbers, old):
                signal.signal(number, handler)

    def _on_signal(self, *_: Any) -> None:
        # It interrupts any line of the main thread, so it takes no lock.
        self._signals += 1
        self.stop()
        if self._signals == 1:
            os.write(2, b"leaving: send the signal again to give the job back\n")
        at_once = self._signals > 1 or (self._mode == "working" and self.grace <= 0)
        if self._mode == "idle" or (at_once and self._mode != "gone"):
            raise _Leave

    def _work(self) -> None:
        job: Optional[dict] = None
        sent = 0.0
        while self._leave_at is None:  # a job that came too late goes back with the goodbye
            if job is None:
                job, sent = self._claim()
                continue
            lease, job = _Lease(self, job, sent), None
            if not lease.confirm(sent):
                continue  # the next claim does not list it, and so gives it back
            lease.start()
            try:
                outcome = self._perform(lease)
                if outcome is not None:
                    job, sent = self._settle(lease, outcome)
            finally:
                lease.over.set()

    def _request(self, held: list, wait: int) -> dict:
        request = {
            "worker_id": self.worker_id,
            "queues": self.queues,
            "kinds": list(self._handlers or ()) or None,
            "lease_seconds": self._lease,
            "wait_seconds": wait,
            "hostname": socket.gethostname(),
            "concurrency": 1,
            # What the server thinks we hold and is not listed was in an answer that never came.
            "held": held,
        }
        return {name: value for name, value in request.items() if value is not None}

    def _claim(self) -> Tuple[Optional[dict], float]:
        backoff = _Backoff(15.0)
        while True:
            sent = time.monotonic()
            self._mode = "idle"
            try:
                if self._leave_at is not None:
                    return None, sent
                request = self._request([], self._hold)
                answer = self.client.post("/v1/claims", request, PATIENCE + self._hold)
                if not isinstance(answer.get("jobs"), list):
                    raise Unreadable("the answer to a claim has no list of jobs")
                self._obey(answer)
                if not answer["jobs"] and time.monotonic() < sent + 0.5:
                    time.sleep(0.5)  # it should have been parked: the server shuts down
                return next(iter(answer["jobs"]), None), sent
            except PunctualError as error:
                self._retry_or_raise("claim", error, backoff)
            finally:
                self._mode = "busy"

    def _perform(self, lease: _Lease) -> Optional[dict]:
        """Runs the handler and says what came of it; nothing when the lease is lost."""
        job, context = lease.job, lease.context
        log.info("%s: %s, attempt %s", job["job_id"], job["kind"], job["attempt"])
        try:
            self._mode = "working"
            handler = self._handlers[job["kind"]] if self._handlers else self._handler
            result = handler(job, context)  # type: ignore[operator]
            self._mode = "busy"
            _json(result)
            return {"outcome": "completed", "result": result}
        except (Stopped, _Leave):
            if context.reason == "lost":
                return None
            if context.reason == "timed-out":  # given back, it would begin anew for ever
                why = "the worker stopped the attempt at the end of its timeout_seconds"
                return _failed("attempt-timeout", why, True)
            # Who leaves gives the job back, and the attempt does not count.
            return {"outcome": "cancelled" if context.reason == "cancelled" else "released"}
        except Fail as error:
            outcome = _failed(error.type, str(error), error.retryable)
            if error.retry_after is not None:
                outcome["retry_after_seconds"] = error.retry_after
            return outcome
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends this attempt only
            log.exception("%s: the handler failed", job["job_id"])
            outcome = _failed(type(error).__name__, str(error), True)
            outcome["error"]["stack"] = _cut(traceback.format_exc(), 3072)
            return outcome
        finally:
            self._mode = "busy"

    def _settle(self, lease: _Lease, outcome: dict) -> Tuple[Optional[dict], float]:
        """Hands an outcome in until the server has a verdict; the next job comes with it."""
        job_id, token = lease.job["job_id"], lease.job["lease_token"]
        backoff, alone, replaced, following, granted = _Backoff(5.0), False, False, None, 0.0
        while True:
            body: dict = {"worker_id": self.worker_id}
            body["settlements"] = [{"job_id": job_id, "lease_token": token, **outcome}]
            if not alone and self._leave_at is None:
                body["claim"] = self._request([job_id], 0)
            sent = time.monotonic()
            try:
                answer = self.client.post("/v1/settlements", body)
            except PunctualError as error:
                problem = error.problem if isinstance(error, Refused) else {}
                status = error.status if isinstance(error, Refused) else 503
                if status in (400, 413, 422) and "claim" in body:
                    alone = True  # is it the claim or the outcome that is wrong?
                    continue
                if status not in (400, 413, 422):
                    self._retry_or_raise("settlement", error, backoff)
                    continue
            else:
                self._obey(answer)
                if answer.get("jobs"):
                    following, granted, alone = answer["jobs"][0], sent, True
                results = answer.get("results") or []
                result = next((r for r in results if r.get("job_id") == job_id), {})
                if result.get("ok"):
                    log.info("%s: %s", job_id, outcome["outcome"])
                    return following, granted
                problem = result.get("problem") or {}
                status = problem.get("status", 503)
            if status == 429 or status >= 500:
                self._retry_or_raise("settlement", Unreachable(f"no verdict ({status})"), backoff)
            elif status in (400, 413, 422) and not replaced:
                # It will never be taken: without another outcome the job would come back for ever.
                why = f"the server did not take the outcome: {problem.get('detail')}"
                outcome, replaced = _failed("outcome-refused", why, False), True
            else:
                log.warning("%s: the outcome came to nothing: %s", job_id, problem.get("code"))
                return following, granted

    def _retry_or_raise(self, what: str, error: PunctualError, backoff: _Backoff) -> None:
        """Pauses before another try, unless that could not help or there is no time for it."""
        if isinstance(error, Refused) and not error.transient and error.status < 500:
            raise error
        pause = backoff.next(error.retry_after)
        leave_at = self._leave_at
        if leave_at is not None and time.monotonic() + pause > leave_at + max(5.0, self.grace):
            log.warning("%s: %s; leaving", what, error)
            raise _Leave
        log.warning("%s: %s; again in %.1f s", what, error, pause)
        time.sleep(pause)

    def _out_of_grace(self, now: float) -> bool:
        return self._leave_at is not None and now >= self._leave_at + self.grace

    def _obey(self, answer: Mapping[str, Any]) -> None:
        if answer.get("directive") == "drain":
            self.stop()

    def _goodbye(self) -> None:
        try:
            worker = urllib.parse.quote(self.worker_id, safe="")
            self.client._send("POST", f"/v1/workers/{worker}/goodbye", {}, timeout=5.0)
            log.info("goodbye")
        except PunctualError as error:
            log.warning("no goodbye (%s): what is in hand comes back when its lease ends", error)


def _failed(type: Any, message: str, retryable: Any) -> dict:
    error = {"type": _cut(type, 128), "message": _cut(message, 6144)}
    return {"outcome": "failed", "error": error, "retryable": bool(retryable)}


def _cut(text: Any, size: int) -> str:
    return str(text).encode(errors="replace")[:size].decode(errors="ignore")


# -- both at work --------------------------------------------------------------------------------


def _demo(job: dict, context: Context) -> Any:
    """{"seconds": 3} takes its time, {"fail": "why"} fails, {"fail": "why", "retry": true} too."""
    order = job["payload"] if isinstance(job["payload"], dict) else {}
    steps = int(float(order.get("seconds", 0)) * 10)
    for step in range(steps):
        context.progress(100 * step / steps, f"step {step} of {steps}")
        context.sleep(0.1)
    if "fail" in order:
        raise Fail(str(order["fail"]), retryable=bool(order.get("retry")))
    return job["payload"]


def _main() -> int:
    parser = argparse.ArgumentParser(
        description="A Punctual client and worker in one file, at work.",
        epilog="PUNCTUAL_URL is the server, PUNCTUAL_TOKEN the token.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    submit = commands.add_parser("submit", help="submit a job, wait for it, print its result")
    submit.add_argument("kind")
    submit.add_argument("payload", nargs="?", type=json.loads, help="JSON")
    submit.add_argument("--queue")
    submit.add_argument("--key", help="the same key makes the same job once")
    submit.add_argument("--timeout", type=float, help="seconds to wait for the end")
    work = commands.add_parser("work", help="work on a queue", description=_demo.__doc__)
    work.add_argument("--queue", action="append", required=True)
    work.add_argument("--lease", type=float, help="seconds")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="punctual.py: %(message)s")
    try:
        client = Client()
        if args.command == "work":
            Worker(client, args.queue, _demo, lease=args.lease).run()
            return 0
        job = client.submit(args.kind, args.payload, queue=args.queue, key=args.key)
        log.info("job %s%s", job.id, " (known already)" if job.replayed else "")
        job = client.wait(job, args.timeout, lambda seen: log.info("%s", seen["status"]))
        if job.completed:
            result = client.result(job)
            if isinstance(result, bytes):
                sys.stdout.buffer.write(result)
            else:
                print(json.dumps(result))
            return 0
        log.error("%s %s", job["status"], job.get("error") or job.get("pending_reason") or "")
        return 1
    except PunctualError as error:
        log.error("%s", error)
        return 3 if isinstance(error, Unreachable) else 1


if __name__ == "__main__":
    sys.exit(_main())
