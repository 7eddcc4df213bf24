"""Evaluation of generators, feature spaces and maps by one protocol."""

from controlgen.evaluation.context import EvaluationContext
from controlgen.evaluation.protocol import check_classes, evaluate
from controlgen.evaluation.report import Report
from controlgen.evaluation.report_markdown import write_report

__all__ = ["EvaluationContext", "Report", "check_classes", "evaluate", "write_report"]
