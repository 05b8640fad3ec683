"""Collects what somebody who helps needs to know, without a secret, and names likely causes."""
