"""The course in lessons/: its exercises, and what checks a learner's own code.

chapters.py   which chapters there are, the learner's files, what is done
grade.py      checks a file in a process of its own, with a time limit
judge.py      that process
expect.py     what the checks in lessons/checks/ are written with
lesson.py     what the chapters themselves share: pictures, the text and the run that they look at
"""
