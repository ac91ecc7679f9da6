-- The most jobs of a queue that may be pending; in force now, NULL: no limit.
ALTER TABLE queues ADD COLUMN max_depth INTEGER;
