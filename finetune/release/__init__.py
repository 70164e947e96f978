"""Whether an adapter may go live, and the record of what did."""
