"""What every part that speaks DICOM over a network keeps to, with pynetdicom of the extra `dicom`.

What pynetdicom and pydicom would log, warn of, or leave as a traceback may name a patient.
"""

import logging
import warnings
from typing import Any


def keep_silent() -> None:
    """Lets pynetdicom and pydicom log nothing, and warn of nothing."""
    from pynetdicom import _config

    for name in ("pynetdicom", "pydicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module="pydicom")
    _config.LOG_HANDLER_LEVEL = "none"


def end_quietly(event: Any) -> None:
    """Lets a message that pynetdicom stumbles over end the connection, and nothing more.

    Its thread would end with a traceback, which may quote the message.
    """
    provider = event.assoc.dul
    act = provider.state_machine.do_action

    def act_or_end(name: str) -> None:
        try:
            act(name)
        except Exception:
            if provider.socket.socket is None:
                provider.kill_dul()
            provider.socket.close()  # as if the other side had gone

    provider.state_machine.do_action = act_or_end


def accepts_what_was_offered(association: Any) -> bool:
    """Whether the other side accepts transfer syntaxes that it was offered, as it must."""
    offered = {
        context.context_id: context.transfer_syntax
        for context in association.requestor.requested_contexts
    }
    return all(
        context.transfer_syntax[0] in offered[context.context_id]
        for context in association.accepted_contexts
    )
