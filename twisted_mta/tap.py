"""C{twistd mta}: the command line of the daemon (see twistd(1))."""

import atexit
import os
from pathlib import Path

from twisted.application.service import IService
from twisted.internet import reactor
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from twisted_mta.app import Mta
from twisted_mta.cli.server import config_path
from twisted_mta.config.check import load
from twisted_mta.crew import Crew
from twisted_mta.errors import ConfigError
from twisted_mta.net.logrelay import gather
from twisted_mta.service import IDaemon, MtaService


class Options(UsageOptions):
    """The options of C{twistd mta}."""

    synopsis = "[--config FILE]"
    longdesc = "Runs the mail server that a config describes."
    optParameters = [
        [
            "config",
            "c",
            None,
            "The config (default: $TWISTED_MTA_CONFIG, then"
            " /etc/twisted-mta/mta.yaml).",
        ],
    ]

    def postOptions(self) -> None:
        """Read the config, so that its errors end the start."""
        given = self["config"]
        try:
            self.path = config_path(Path(given) if given else None)
            self.document, self.settings = load(self.path)
        except ConfigError as error:
            raise UsageError(str(error))


def makeService(options: Options) -> IService:
    """The server as a service.

    @raise SystemExit: a plugin or an endpoint of the config cannot be used.
    """
    daemon: IDaemon
    try:
        if options.settings.worker_count == 1:
            daemon = Mta(reactor, options.document, options.settings)
            reactor.callWhenRunning(gather, reactor)
        else:
            daemon = Crew(reactor, options.path)
    except ConfigError as error:
        raise SystemExit(str(error))
    return MtaService(reactor, daemon, _exit_with_failure)


def _exit_with_failure() -> None:
    """twistd ends with status 0 when the reactor stops by itself, whatever
    happened; who started it must see that the server did not."""
    atexit.register(os._exit, 1)
