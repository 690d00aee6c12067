"""Keeping events as long as the policy says, and not longer; a legal hold comes before every rule.

rules.py reads the policy, holds.py the holds, let_go.py deletes and remembers what was let go.
"""
