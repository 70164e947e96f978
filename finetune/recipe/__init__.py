"""A recipe: YAML and --set into a typed Recipe, then a ResolvedRecipe with the origin of each value."""
