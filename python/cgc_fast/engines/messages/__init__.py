"""An engine for workers that exchange messages with their master, over any `Transport`.

What carries the messages is all that there is to write for another network: see `transport`. Rank 0 then has

    session = Session(transport)
    register("mine", lambda job, **options: make_message_engine(job, session, **options))
    ...                        # clusters with engine="mine", one at a time
    session.dismiss(0)         # the exit code

and every other rank, until it is dismissed, `serve(transport)`.

`protocol` says which messages there are, `master` and `worker` what both sides do, `outbox` where a worker
puts what it delivers, `feedback` what is different where workers learn of each other, `session` how one
cluster follows the other, and `shared_memory` what workers on the host of the master need not be sent.
"""
