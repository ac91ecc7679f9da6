-- Whether the configuration names the queue: it is there then, used or not.
ALTER TABLE queues ADD COLUMN declared INTEGER NOT NULL DEFAULT 0;
