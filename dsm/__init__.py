"""dsm: everything the DeepSeekMath paper did, as one trainer."""

__version__ = "0.1.0"
