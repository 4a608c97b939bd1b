-- Rows may be written with the fourth table of fragments from here on: a program that does not have
-- it cannot read them.
SELECT 1;
