"""Evaluations share their graders."""

from tests.shared_graders import shared_graders as shared_graders
