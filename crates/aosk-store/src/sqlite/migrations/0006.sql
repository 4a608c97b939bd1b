-- What each life of a kernel has drawn of a budget, in the window that began then. A life that was
-- cut off leaves what it had drawn: nobody knows what of it was spent.
CREATE TABLE budgets (
    tenant INTEGER NOT NULL,
    budget TEXT    NOT NULL,
    starts INTEGER NOT NULL,
    drawer INTEGER NOT NULL,
    drawn  INTEGER NOT NULL,
    PRIMARY KEY (tenant, budget, starts, drawer)
) WITHOUT ROWID, STRICT;
