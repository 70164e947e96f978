"""The HTTP layer: routes, wire types and error shapes. It knows engines by their protocol only."""
