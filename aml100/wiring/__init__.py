"""Builds the object graph: which market, which venue, which policy, which stores. Nothing below knows the choice.

`backtests` puts core, matching engine and tape together; `assembly` a core with its journal, desks and views; `engines`
adds the client, the socket and, with the embedded venue, its server.
"""
