"""The small base model that ships with the project, a stand-in for a real one, and how it was made."""

from pathlib import Path

BASE_FOLDER = Path(__file__).resolve().parent / "base"
