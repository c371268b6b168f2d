"""What a counter's numbers came to, by sets and not by ranges; and fleets that lose, repeat and delay them."""
