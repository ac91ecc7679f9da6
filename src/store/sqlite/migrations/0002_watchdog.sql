-- What the watchdog needs: how many jobs are stuck, since when, who works, and limits.

ALTER TABLE queues ADD COLUMN max_running INTEGER;   -- in force now; NULL: no limit

-- Per queue and kind: how many pending jobs have been eligible since `watermark` or longer. A job
-- that leaves pending counts itself out. While `counting_to` is set, the jobs between the two are
-- being counted beside the writer, and `departed` are those that have left meanwhile.
CREATE TABLE stuck_marks (
    queue_id    INTEGER NOT NULL,
    kind_id     INTEGER NOT NULL,
    watermark   INTEGER NOT NULL,
    jobs        INTEGER NOT NULL,
    counting_to INTEGER,
    departed    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (queue_id, kind_id)
) WITHOUT ROWID;

-- Pending jobs by eligibility, also those whose time has come and that nobody has promoted yet.
DROP INDEX live_eligible;
CREATE INDEX live_pending ON live_jobs (queue_id, kind_id, eligible_at) WHERE tally < 3;

-- Leases by worker, with what the sample asks of each.
DROP INDEX live_worker;
CREATE INDEX live_worker ON live_jobs (lease_worker, queue_id, kind_id, lease_claimed_at)
    WHERE tally = 3;

ALTER TABLE episodes ADD COLUMN peak_jobs INTEGER NOT NULL DEFAULT 0;

CREATE INDEX presence_seen ON presence (last_seen);

-- Ended episodes by age, for those who look back and for retention.
CREATE INDEX episodes_ended ON episodes (ended_at) WHERE ended_at IS NOT NULL;
