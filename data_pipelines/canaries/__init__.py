"""Made-up secrets planted in the raw data, so that an evaluation can ask what redaction and training made of them."""
