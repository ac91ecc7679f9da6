-- Everything that a job server must remember. Times are milliseconds since the epoch.
--
-- A job is one row of job_specs (written once) and one row of either live_jobs (rewritten with
-- each transition, kept narrow) or finished_jobs (written once, removed by retention).
-- tally: 0 queued, 1 scheduled, 2 backoff, 3 running, 4 completed, 5 failed, 6 cancelled.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

-- One row: the latest moment seen and the next place in line.
CREATE TABLE progress (
    one           INTEGER PRIMARY KEY CHECK (one = 1),
    last_seen     INTEGER NOT NULL,
    next_sequence INTEGER NOT NULL
);

CREATE TABLE namespaces (
    namespace_id INTEGER PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE
);

CREATE TABLE kinds (
    kind_id INTEGER PRIMARY KEY,
    name    TEXT NOT NULL UNIQUE
);

CREATE TABLE queues (
    queue_id         INTEGER PRIMARY KEY,
    name             TEXT NOT NULL UNIQUE,
    created_at       INTEGER NOT NULL,
    paused_at        INTEGER,
    paused_reason    TEXT,
    paused_until     INTEGER,
    paused_by        TEXT,
    resumed_at       INTEGER,
    -- Run-time overrides of the configuration, and who set them.
    settings         TEXT,
    settings_version INTEGER NOT NULL DEFAULT 0,
    settings_by      TEXT,
    settings_at      INTEGER
);

CREATE TABLE job_specs (
    job_row              INTEGER PRIMARY KEY,
    job_id               BLOB NOT NULL UNIQUE,
    namespace_id         INTEGER NOT NULL,
    queue_id             INTEGER NOT NULL,
    kind_id              INTEGER NOT NULL,
    priority             INTEGER NOT NULL,
    root_job_id          BLOB,            -- NULL: itself
    retry_of             BLOB,
    expected_duration_ms INTEGER,
    idempotency_key      TEXT,
    callback             TEXT,
    unique_key           TEXT,
    traceparent          TEXT,
    tracestate           TEXT,
    tags                 TEXT,            -- a JSON array of strings
    metadata             TEXT,
    payload              TEXT             -- last: the only member that may be large
);

CREATE TABLE live_jobs (
    job_row          INTEGER PRIMARY KEY,
    queue_id         INTEGER NOT NULL,
    kind_id          INTEGER NOT NULL,
    tally            INTEGER NOT NULL,
    priority         INTEGER NOT NULL,
    sequence         INTEGER NOT NULL,
    eligible_at      INTEGER NOT NULL,
    attempt          INTEGER NOT NULL,
    max_attempts     INTEGER NOT NULL,
    fence            INTEGER NOT NULL,
    version          INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    started_at       INTEGER,
    start_by         INTEGER,
    reap_at          INTEGER,             -- the reaper looks at a running job then
    lease_worker     TEXT,
    lease_token      BLOB,                -- a hash, never the token
    lease_ms         INTEGER,
    lease_claimed_at INTEGER,
    lease_expires_at INTEGER,
    timeout_at       INTEGER,
    attempt_trace    BLOB,                -- trace and span ids of the current attempt
    settled_token    BLOB,
    settled_report   INTEGER,
    policy           TEXT NOT NULL,
    cancel           TEXT,
    progress         TEXT,
    error            TEXT,
    history          TEXT,
    checkpoint       TEXT
);

CREATE INDEX live_ready ON live_jobs (queue_id, priority DESC, sequence) WHERE tally = 0;
CREATE INDEX live_ready_kind ON live_jobs (queue_id, kind_id, priority DESC, sequence) WHERE tally = 0;
CREATE INDEX live_eligible ON live_jobs (queue_id, kind_id, eligible_at) WHERE tally = 0;
CREATE INDEX live_due ON live_jobs (eligible_at, queue_id) WHERE tally IN (1, 2);
CREATE INDEX live_reap ON live_jobs (reap_at) WHERE tally = 3;
CREATE INDEX live_worker ON live_jobs (lease_worker) WHERE tally = 3;
CREATE INDEX live_cancel ON live_jobs (lease_worker) WHERE tally = 3 AND cancel IS NOT NULL;
CREATE INDEX live_start_by ON live_jobs (start_by) WHERE start_by IS NOT NULL AND tally < 3 AND attempt = 0;

CREATE TABLE finished_jobs (
    job_row             INTEGER PRIMARY KEY,
    queue_id            INTEGER NOT NULL,
    kind_id             INTEGER NOT NULL,
    tally               INTEGER NOT NULL,
    finished_at         INTEGER NOT NULL,
    expires_at          INTEGER NOT NULL,
    eligible_at         INTEGER NOT NULL,
    attempt             INTEGER NOT NULL,
    max_attempts        INTEGER NOT NULL,
    fence               INTEGER NOT NULL,
    version             INTEGER NOT NULL,
    created_at          INTEGER NOT NULL,
    updated_at          INTEGER NOT NULL,
    started_at          INTEGER,
    start_by            INTEGER,
    settled_token       BLOB,
    settled_report      INTEGER,
    retried_as          BLOB,
    policy              TEXT NOT NULL,
    cancel              TEXT,
    progress            TEXT,
    error               TEXT,
    history             TEXT,
    result_content_type TEXT,
    result_location     TEXT,
    result_size         INTEGER,
    result              TEXT              -- only when small; else in results
);

CREATE INDEX finished_expiry ON finished_jobs (expires_at);
CREATE INDEX finished_badly ON finished_jobs (tally, job_row) WHERE tally > 4;

CREATE TABLE results (
    job_row INTEGER PRIMARY KEY,
    body    BLOB NOT NULL
);

CREATE TABLE job_counts (
    queue_id INTEGER NOT NULL,
    kind_id  INTEGER NOT NULL,
    tally    INTEGER NOT NULL,
    jobs     INTEGER NOT NULL,
    PRIMARY KEY (queue_id, kind_id, tally)
) WITHOUT ROWID;

CREATE TABLE idempotency_keys (
    namespace_id INTEGER NOT NULL,
    route        INTEGER NOT NULL,        -- 1: POST /v1/jobs
    key          TEXT NOT NULL,
    fingerprint  BLOB NOT NULL,
    job_id       BLOB NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,                 -- NULL while the job's record lives
    PRIMARY KEY (namespace_id, route, key)
) WITHOUT ROWID;

CREATE INDEX idempotency_expiry ON idempotency_keys (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE tombstones (
    job_id     BLOB PRIMARY KEY,
    deleted    INTEGER NOT NULL,          -- 1: on request, 0: retention
    removed_at INTEGER NOT NULL,
    forget_at  INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX tombstones_forget ON tombstones (forget_at);

CREATE TABLE presence (
    worker            TEXT PRIMARY KEY,
    queues            TEXT NOT NULL,      -- a JSON array of names
    kinds             TEXT NOT NULL,
    capacity          INTEGER NOT NULL,
    hostname          TEXT,
    version           TEXT,
    last_seen         INTEGER NOT NULL,
    last_claim        INTEGER,
    last_heartbeat    INTEGER,
    last_settlement   INTEGER,
    directive         TEXT
) WITHOUT ROWID;

CREATE TABLE episodes (
    episode_id  INTEGER PRIMARY KEY,
    queue_id    INTEGER NOT NULL,
    kind_id     INTEGER NOT NULL,
    verdict     TEXT NOT NULL,
    since       INTEGER NOT NULL,
    jobs        INTEGER NOT NULL,
    oldest_jobs TEXT NOT NULL,            -- a JSON array of at most 10 ids
    evidence    TEXT NOT NULL,
    ended_at    INTEGER
);

CREATE INDEX episodes_open ON episodes (queue_id, kind_id) WHERE ended_at IS NULL;
