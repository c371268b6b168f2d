"""One long-lived connection and what is proven about it: pure rules, and the actors that follow them."""
