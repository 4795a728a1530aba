"""The adapter: its traits and addresses; `railwatch_tiny.connection` does the work."""

from railwatch.rail import Address, BadAddress, RailSettings, Traits
from railwatch.rail.options import height_options
from railwatch.rail.shell import AdapterShell
from railwatch_tiny.connection import TinyConnection
from railwatch_tiny.options import TinyOptions

KEY_BYTES = 10


class TinyAdapter(AdapterShell[TinyConnection]):
    """One tiny node."""

    def __init__(self, rail: RailSettings, node: TinyOptions) -> None:
        super().__init__(rail.chain_id, node.name)
        self._node = node
        self._traits = Traits("tiny", "slip44:1", 8, has_checksum=False, **{"horizon": 10, **height_options(rail)})

    @property
    def traits(self) -> Traits:
        """What the rail can and cannot do."""
        return self._traits

    def parse_address(self, text: str) -> Address:
        """Return the key of ``tiny:`` and 20 hex digits. Raises `BadAddress`."""
        digits = text.removeprefix("tiny:")
        if digits == text or len(digits) != 2 * KEY_BYTES or set(digits) - set("0123456789abcdef"):
            raise BadAddress(f"a tiny address is tiny: and {2 * KEY_BYTES} hex digits in lower case")
        return Address(bytes.fromhex(digits), text)

    async def _connect(self) -> TinyConnection:
        return TinyConnection(self._node, self.chain_id)
