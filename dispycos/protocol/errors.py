"""The errors that the kernel raises, each saying whose fault it is."""


class ProtocolError(Exception):
    """A peer sent what the protocol does not allow; the link or session it came by ends, nothing else."""
