"""The policy: which role may do what, where, and how it is approved. Deciding with it: authorize.py."""

from opsbus_edge.gates.policy.policy import Granted, Policy
from opsbus_edge.gates.policy.read import load_policy, parse_policy
from opsbus_edge.gates.policy.rules import Approval

__all__ = ["Approval", "Granted", "Policy", "load_policy", "parse_policy"]
