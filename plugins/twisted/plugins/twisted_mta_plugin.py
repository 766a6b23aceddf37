"""Tells twistd of the mta command."""

from twisted.application.service import ServiceMaker

mta = ServiceMaker("mta", "twisted_mta.tap", "A modular mail server", "mta")
