"""The delivery agent that hands mail to programs."""
