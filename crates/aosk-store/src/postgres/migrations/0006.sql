-- Who owns processes: every node looks once a second for owners that are gone.
CREATE INDEX processes_owned ON {schema}.processes (tenant, owner_node) WHERE NOT finished;
