-- The namespace whose submission brought the name in; NULL: an operator, the configuration, the
-- server itself, or a time before this was noted.
ALTER TABLE queues ADD COLUMN namespace_id INTEGER;
ALTER TABLE kinds ADD COLUMN namespace_id INTEGER;

-- Whether anything is left of a name is looked up by the name.
CREATE INDEX job_counts_kind ON job_counts (kind_id);
CREATE INDEX episodes_queue ON episodes (queue_id);
CREATE INDEX episodes_kind ON episodes (kind_id);
