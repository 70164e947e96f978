"""Offline mode: environment switches, the socket guard and the egress record. Standard library only."""
