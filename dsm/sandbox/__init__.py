"""Where programs that a model wrote are run: shut in, limited, watched from outside."""

from dsm.sandbox.jail import Execution, Program, Status
from dsm.sandbox.sandbox import Sandbox

__all__ = ["Execution", "Program", "Sandbox", "Status"]
