"""Dovecot, as the server behind ours that has the mailboxes and speaks LMTP.

Debian's package with a config of its own, in a directory of its own; nothing of
/etc/dovecot is read. It needs root, as Dovecot does.
"""

from __future__ import annotations

import os
import shutil
import unittest
from collections.abc import Sequence
from pathlib import Path

from tests.system.daemon import Program, need, wait_until

# A user that every Debian has.
_OWNER = "mail"

_CONFIG = """
base_dir = {home}/run
state_dir = {home}/state
log_path = /dev/stderr
instance_name = test
protocols = lmtp
listen = 127.0.0.1
ssl = no
recipient_delimiter = +
mail_location = maildir:~/Maildir
first_valid_uid = 1
first_valid_gid = 1
passdb {{
  driver = passwd-file
  args = username_format=%n {home}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%n {home}/users
  default_fields = uid={owner} gid={owner} home={home}/mail/%n
}}
service lmtp {{
  unix_listener {home}/lmtp {{
    mode = 0666
  }}
}}
"""


def need_dovecot() -> None:
    """Skip the test where Dovecot cannot be run; in CI, fail."""
    need("dovecot")
    if os.geteuid() != 0:
        if os.environ.get("CI") == "true":
            raise AssertionError("Dovecot needs root")
        raise unittest.SkipTest("Dovecot needs root")


class Dovecot(Program):
    """Dovecot, started.

    @ivar socket: where it speaks LMTP.
    """

    def __init__(self, home: Path, people: Sequence[str]) -> None:
        """
        @param people: local parts of those who have a mailbox, whatever the domain.
        """
        self._mail = home / "mail"
        self._mail.mkdir(parents=True)
        home.chmod(0o755)
        shutil.chown(self._mail, _OWNER, _OWNER)
        lines = [f"{name}:{{PLAIN}}x::::::\n" for name in people]
        (home / "users").write_text("".join(lines))
        self.socket = home / "lmtp"
        config = home / "dovecot.conf"
        config.write_text(_CONFIG.format(home=home, owner=_OWNER))
        super().__init__(["dovecot", "-F", "-c", str(config)])
        self.drain()
        wait_until(self.socket.exists, "it has its socket", self)

    def inbox(self, name: str) -> list[bytes]:
        """The messages of somebody."""
        found = (self._mail / name / "Maildir" / "new").glob("*")
        return [path.read_bytes() for path in found]
