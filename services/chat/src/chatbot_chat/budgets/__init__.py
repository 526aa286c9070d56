"""What may be spent on models: held before a provider is asked, counted after it has answered, entered in the ledger.

`prices.py` says what an answer costs, `windows.py` which budgets it counts against, `counters.py` keeps both in Redis,
`ledger.py` brings to conversation what no turn stores, `service.py` does all this for one process, and `accounts.py` is
what a run or a completion sees of it.
"""
