"""How fast a turn is, beside the gateways that teams use today and beside what two hops cost at all."""
