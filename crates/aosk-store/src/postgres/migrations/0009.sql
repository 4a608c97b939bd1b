-- The stretches of folds stand beside the folds, `settled` and without a version: from their first
-- event on they never change again, and a fold stands on those that begin at its event or before.
ALTER TABLE {schema}.checkpoints ADD COLUMN settled bool NOT NULL DEFAULT false;
ALTER TABLE {schema}.checkpoints ALTER COLUMN settled DROP DEFAULT;
ALTER TABLE {schema}.checkpoints ALTER COLUMN version DROP NOT NULL;
ALTER TABLE {schema}.checkpoints DROP CONSTRAINT checkpoints_pkey,
    ADD PRIMARY KEY (tenant, pid, settled, seq);
INSERT INTO {schema}.checkpoints (tenant, pid, settled, seq, len, bytes)
SELECT tenant, pid, true, first_seq, len, bytes FROM {schema}.stretches;
DROP TABLE {schema}.stretches;
