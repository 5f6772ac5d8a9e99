"""The verbs, one dataclass each: its fields are the flags, its docstrings the help, calling it does it.

What is heavy (torch above all) is imported when a verb runs, so that --help answers at once.
"""

from wikigpt.verbs.common import Outcome, Settings
from wikigpt.verbs.compare import RunsCompare
from wikigpt.verbs.data import DataExtract, DataShow, DataStats
from wikigpt.verbs.evaluate import Evaluate
from wikigpt.verbs.export import Export
from wikigpt.verbs.generate import Generate
from wikigpt.verbs.inspect import RunsInspect
from wikigpt.verbs.learn import Learn, LearnCheck, LearnHint, LearnStart
from wikigpt.verbs.plan import Plan
from wikigpt.verbs.prepare import Prepare
from wikigpt.verbs.runs import Runs
from wikigpt.verbs.studio import Studio
from wikigpt.verbs.train import Train

__all__ = [
    "DataExtract",
    "DataShow",
    "DataStats",
    "Evaluate",
    "Export",
    "Generate",
    "Learn",
    "LearnCheck",
    "LearnHint",
    "LearnStart",
    "Outcome",
    "Plan",
    "Prepare",
    "Runs",
    "RunsCompare",
    "RunsInspect",
    "Settings",
    "Studio",
    "Train",
]
