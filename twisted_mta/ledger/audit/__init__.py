"""What is wrong with a ledger, and what of it can be put right."""
