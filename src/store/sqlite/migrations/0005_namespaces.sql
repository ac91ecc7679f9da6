-- Claims for one namespace: its jobs have lines of their own, so that a claim reads none but those
-- that it may lease. A claim for all namespaces reads the heads of all lines.

-- The same as in job_specs; never changes. The first namespace of every store is `default`.
ALTER TABLE live_jobs ADD COLUMN namespace_id INTEGER NOT NULL DEFAULT 1;
UPDATE live_jobs SET namespace_id =
    (SELECT s.namespace_id FROM job_specs s WHERE s.job_row = live_jobs.job_row)
    WHERE job_row IN (SELECT job_row FROM job_specs WHERE namespace_id <> 1);

DROP INDEX live_ready;
CREATE INDEX live_ready ON live_jobs (queue_id, namespace_id, priority DESC, sequence)
    WHERE tally = 0;
DROP INDEX live_ready_kind;
CREATE INDEX live_ready_kind ON live_jobs (queue_id, namespace_id, kind_id, priority DESC, sequence)
    WHERE tally = 0;

-- The one namespace whose jobs the worker takes; NULL: perhaps every one's.
ALTER TABLE presence ADD COLUMN namespace TEXT;
