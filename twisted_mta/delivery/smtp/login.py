"""Logging in at a server (RFC 4954).

The password goes out under TLS only, unless TLS is switched off. Whatever goes wrong
is the operator's to mend, so mail waits (Postfix: smtp_sasl_auth_soft_bounce).
"""

from __future__ import annotations

from functools import partial

from twisted_mta.delivery.smtp.dialog import Dialog, Stage
from twisted_mta.delivery.smtp.outcome import Unusable, deferred, refused
from twisted_mta.delivery.smtp.settings import Settings, Tls, TokenFile
from twisted_mta.net.tls import channel_binding
from twisted_mta.wire import sasl
from twisted_mta.wire.sasl import ClientMechanism
from twisted_mta.wire.saslclient import Certified, choose, unbound
from twisted_mta.wire.scram import ScramClient
from twisted_mta.wire.smtp import client


async def log_in(dialog: Dialog, settings: Settings) -> None:
    """Do it, if the settings say so.

    @raise Unusable: it was not possible.
    """
    mechanism = _mechanism(dialog, settings)
    if mechanism is None:
        return
    reply = await dialog.ask(
        client.auth(mechanism.name, mechanism.initial()), Stage.AUTH
    )
    while reply.code == 334:
        try:
            answer = mechanism.next(sasl.decode(reply.text.encode()))
        except sasl.MalformedResponse as error:
            raise Unusable(deferred("4.7.0", error.text, dialog.remote))
        reply = await dialog.ask(client.auth_response(answer), Stage.AUTH)
    if not reply.positive:
        raise Unusable(refused(reply, dialog.remote, final=False))
    if isinstance(mechanism, ScramClient) and not mechanism.verified:
        text = "The server did not show that it knows the password (SCRAM)"
        raise Unusable(deferred("4.7.0", text, dialog.remote))


def _mechanism(dialog: Dialog, settings: Settings) -> ClientMechanism | None:
    """@return: C{None} if nobody is to be logged in."""
    known = settings.credentials
    if known is None:
        return None
    secure = dialog.connection.secure
    if isinstance(known, Certified):
        # The certificate alone may be all that the server wants.
        return choose(dialog.offers.auth, known) if secure else None
    if not secure and settings.tls is not Tls.NONE:
        text = "The password is not sent to a server without TLS"
        raise Unusable(deferred("4.7.4", text, dialog.remote))
    try:
        evidence = known.read() if isinstance(known, TokenFile) else known
    except ValueError as error:
        raise Unusable(deferred("4.7.0", f"{error}", dialog.remote))
    bindings = (
        partial(channel_binding, dialog.connection.handle()) if secure else unbound
    )
    mechanism = choose(dialog.offers.auth, evidence, bindings)
    if mechanism is None:
        text = "The server offers no way to log in that we know"
        raise Unusable(deferred("4.7.0", text, dialog.remote))
    return mechanism
