-- Ends a transaction that was begun in a wrong belief: its node takes it up again and looks first.
CREATE FUNCTION {schema}.expect(there bigint, wanted bigint) RETURNS bool
LANGUAGE plpgsql STABLE STRICT PARALLEL UNSAFE AS $$
BEGIN
    IF there <> wanted THEN
        RAISE EXCEPTION '% of % processes stand where their node left them', there, wanted
            USING ERRCODE = 'serialization_failure',
                  HINT = 'Others have written to them. The node repeats the transaction by itself.';
    END IF;
    RETURN true;
END
$$;
