-- What was learnt of how long jobs take, by queue and kind; '' in one of the two: of all of them.
-- The body is the estimator's own business.
CREATE TABLE estimates (
    queue    TEXT NOT NULL,
    kind     TEXT NOT NULL,
    saved_at INTEGER NOT NULL,
    body     BLOB NOT NULL,
    PRIMARY KEY (queue, kind)
);

CREATE INDEX estimates_saved ON estimates (saved_at);
