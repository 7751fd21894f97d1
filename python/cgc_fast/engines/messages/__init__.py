"""An engine for workers that exchange messages with their master, over any `Transport`.

What carries the messages is all that there is to write for another network: see `transport`. `protocol` says
which messages there are, `master` and `worker` what both sides do, `session` how one cluster follows the
other, and `shared_memory` what workers on the host of the master need not be sent.
"""
