"""Tests of L{twisted_mta.ledger.audit}."""
