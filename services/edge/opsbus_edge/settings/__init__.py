"""Everything the edge can be set to: ``OPSBUS_EDGE_<NAME>``, or section ``edge`` of the file OPSBUS_CONFIG names.

A file beside this one for each topic.
"""

from opsbus_edge.settings.directory import DirectorySettings
from opsbus_edge.settings.http import HttpSettings
from opsbus_edge.settings.limits import LimitSettings
from opsbus_edge.settings.oauth import OAuthSettings
from opsbus_edge.settings.policy import PolicySettings
from opsbus_edge.settings.record import RecordSettings
from opsbus_edge.settings.sign_in import ANONYMOUS_IN_WORDS, SignInSettings
from opsbus_edge.settings.tasks import TaskSettings
from opsbus_edge.settings.tls import TlsSettings

__all__ = ["ANONYMOUS_IN_WORDS", "EdgeSettings"]


class EdgeSettings(
    HttpSettings,
    TlsSettings,
    SignInSettings,
    OAuthSettings,
    DirectorySettings,
    PolicySettings,
    LimitSettings,
    TaskSettings,
    RecordSettings,
):
    """Settings of one edge. Files with keys are read once, at the start, unless a setting says otherwise."""
