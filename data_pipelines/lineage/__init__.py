"""Where rows came from, and how something is taken out for good."""
