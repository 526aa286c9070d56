"""The ledger: what every answer has used and cost, stored or not."""
