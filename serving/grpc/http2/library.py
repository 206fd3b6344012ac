"""The library h2 with the settings of our connections."""

from __future__ import annotations

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings

WINDOW = 1 << 20  # bytes that a client can send, on a stream and in all, before they are read
DEFAULT_WINDOW = (1 << 16) - 1
MAX_LIST_BYTES = 16 << 10  # of the headers of a request, by the protocol's count


class Http2(H2Connection):
    """The protocol of one connection, at the side of the server.

    The headers of requests are validated. Those of responses are ours, and names in lower case.

    Args:
        calls: Most calls under way, which the settings state.
    """

    DEFAULT_MAX_HEADER_LIST_SIZE = MAX_LIST_BYTES
    MAX_CLOSED_STREAMS = 1 << 10  # remembered. The default is 64 times that, of each connection

    def __init__(self, calls: int) -> None:
        super().__init__(
            H2Configuration(
                client_side=False,
                normalize_inbound_headers=False,
                normalize_outbound_headers=False,
                validate_outbound_headers=False,
            )
        )
        self.local_settings = _settings(calls)
        self.initiate_connection()
        self.increment_flow_control_window(WINDOW - DEFAULT_WINDOW)
        # h2 would end the connection of a client that does not know the settings yet. One call more
        # is accepted here, and the connection resets it.
        self.local_settings = _settings(calls + 1)


def _settings(calls: int) -> Settings:
    return Settings(
        client=False,
        initial_values={
            SettingCodes.MAX_CONCURRENT_STREAMS: calls,
            SettingCodes.INITIAL_WINDOW_SIZE: WINDOW,
            SettingCodes.MAX_HEADER_LIST_SIZE: MAX_LIST_BYTES,
        },
    )
