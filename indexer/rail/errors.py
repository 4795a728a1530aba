"""The three errors that leave an adapter, each named by what the daemon does next, and one for bad input."""


class RailError(Exception):
    """An adapter could not answer. Only its three kinds are ever raised."""


class RailUnavailable(RailError):
    """The node cannot answer now, or not rightly: away, slow, behind, on another chain. Back off and ask again."""


class BlockGone(RailError):
    """The block that was asked about is not, or no longer, on the node's chain. Plan again from fresh heads."""


class RailFault(RailError):
    """Going on would lose or invent money: an undecodable block, a pruned range. The rail halts until a person acts."""


class BadAddress(ValueError):
    """The text is no address of this rail. The message says why, in words for the merchant's engineer."""
