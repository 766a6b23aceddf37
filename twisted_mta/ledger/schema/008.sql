-- Who never came back, the oldest first: they are forgotten sooner than the others, and
-- nobody shall have to look past those to find them.

CREATE INDEX greylist_passed ON greylist (passed, last);
