-- What each life of a kernel has drawn of a budget, in the window that began then (milliseconds since
-- 1970). A life that was cut off leaves what it had drawn: nobody knows what of it was spent.
CREATE TABLE {schema}.budgets (
    tenant int    NOT NULL,
    budget text   NOT NULL,
    starts bigint NOT NULL,
    drawer bigint NOT NULL,
    drawn  bigint NOT NULL,
    PRIMARY KEY (tenant, budget, starts, drawer)
);
ALTER TABLE {schema}.budgets ENABLE ROW LEVEL SECURITY;
