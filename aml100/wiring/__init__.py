"""Builds the object graph: which market, which venue, which policy, which stores. Nothing below knows the choice.

`backtests` puts core, matching engine and tape together; `engines` a core with its client, socket and journal, on a
venue of its own clock; `embedded` the same with the venue's server in this process.
"""
