"""Examples become token ids and labels, for one family and one tokenizer."""
