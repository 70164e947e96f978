"""What a recipe needs on a card, phase by phase, by arithmetic on the shape of its base: nothing is loaded."""
