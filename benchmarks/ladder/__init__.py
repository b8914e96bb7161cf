"""The parts of ``benchmarks/translation.py``: one corpus, one tokenizer, and models to compare."""
