"""Evaluate JMAP method calls next to the data (RFC 8620, RFC 8621)."""
