"""What a policy does about what it found, as the config says."""

from typing import Literal

from twisted_mta.mail.verdict import Verdict

#: The words of the config.
Action = Literal["reject", "tempfail", "quarantine", "tag"]

#: The field that a policy adds which only tags.
FIELD = "X-Policy"


def unanswered(action: Action, name: str, what: str) -> Verdict:
    """A verdict where the DNS does not say what is asked of it: who would be refused
    shall try again, others are none the worse.

    @param what: of the client, for it to read.
    """
    reason = f"no answer from the DNS about {what}"
    if action in ("reject", "tempfail"):
        text = f"{what} cannot be looked up now; please try again later"
        return Verdict.tempfail(text, reason, status="4.4.3")
    return Verdict.tag(FIELD, f"{name}; {reason}", reason)


def act(
    action: Action, name: str, text: str, reason: str, status: str = "7.1"
) -> Verdict:
    """A verdict.

    @param name: the policy's.
    @param text: for the sender, if the message is refused.
    @param reason: for the log and the tag.
    @param status: an RFC 3463 status without its class.
    """
    match action:
        case "reject":
            return Verdict.reject(text, reason, status=f"5.{status}")
        case "tempfail":
            return Verdict.tempfail(text, reason, status=f"4.{status}")
        case "quarantine":
            return Verdict.quarantine(reason)
        case "tag":
            return Verdict.tag(FIELD, f"{name}; {reason}", reason)
